//! Running cargo and printing what goes on.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The cargo that runs this chore.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Says what starts now.
pub(crate) fn step(what: &str) {
    let (bold, plain) = if std::io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    eprintln!("{bold}==>{plain} {what}");
}

/// Runs `command` to its end, with its time told.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    step(what);
    let start = Instant::now();
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{what}: failed ({status})");
    }
    eprintln!("    {what}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Builds the daemons and the client.
pub(crate) fn programs() -> Result<()> {
    let packages = ["edgeprof-coordinator", "edgeprof-worker", "edgeprof-client"];
    let mut command = cargo();
    command.arg("build").arg("--bins");
    for package in packages {
        command.args(["--package", package]);
    }
    run("building coordinator, worker and client", &mut command)
}
