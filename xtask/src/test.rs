//! All tests: what they need is built and installed first.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{
    build::{self, cargo, programs, target},
    firmware, kinds, sim,
    system::find,
    tools,
};

pub(crate) fn run(filter: &[String]) -> Result<()> {
    firmware::build(&kinds::load()?)?;
    programs()?;
    tools::prepare();
    let nextest = find("cargo-nextest").is_some();
    let mut command = cargo();
    command.env("EDGEPROF_FIRMWARE", target().join("firmware"));
    command.args(if nextest { ["nextest", "run"].as_slice() } else { &["test"] });
    command.arg("--workspace").args(filter);
    build::run("tests", &mut command)?;
    if filter.is_empty() {
        // Apart from the others: no daemon is to be built with flaws.
        let mut planted = cargo();
        planted.args(if nextest { ["nextest", "run"].as_slice() } else { &["test"] });
        planted.args(["--package", sim::PACKAGE]).args(sim::PLANTED);
        build::run("planted bugs", &mut planted)?;
    }
    if !namespaces() {
        println!("SKIPPED: tests on hosts in network namespaces; this machine gives no user namespaces");
    }
    if nextest && filter.is_empty() {
        // nextest leaves documentation examples to cargo.
        let mut doc = cargo();
        doc.args(["test", "--workspace", "--doc", "--quiet"]);
        build::run("documentation examples", &mut doc)?;
    }
    Ok(())
}

/// Whether tests can have hosts of their own; those that cannot pass without a word of it.
fn namespaces() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "true"]);
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
