//! Others' programs that tests and benchmarks hold ours against: a collector for OpenTelemetry, and Prometheus.
//! Nothing is installed; they lie in target/tools.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::Result;

use crate::{
    apt::{self, Plan},
    build::root,
    pypi,
};

/// rotel, a collector; the same program is in the wheels of every version of Python.
const ROTEL: &str = "rotel==0.0.1a15 \
    --hash=sha256:2f4117e58410c933e0dc042a268ef738dab2e3a5d63b5831209acdac2a6ddcb7 \
    --hash=sha256:4eb01f9e5d228e4086f63e16cf1d0fa6e92b724bde51f120932a742acec5b0ba";

fn bin() -> PathBuf {
    root().join("target/tools/bin")
}

/// Fetches those that are not there. One that cannot be had is named, and what wants it is skipped.
pub(crate) fn prepare() {
    for (name, fetched) in [("rotel-agent", rotel()), ("prometheus", prometheus())] {
        if let Err(error) = fetched {
            println!("SKIPPED: what needs {name}; it cannot be had: {error:#}");
        }
    }
}

fn rotel() -> Result<()> {
    if bin().join("rotel-agent").exists() {
        return Ok(());
    }
    fs::create_dir_all(bin())?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let any = ["--only-binary", ":all:", "--python-version", "3.11"];
    pypi::unpack("rotel (11 MB)", ROTEL, &any, scratch.path())?;
    place(scratch.path().join("rotel/rotel-agent"), "rotel-agent")
}

fn prometheus() -> Result<()> {
    if bin().join("prometheus").exists() {
        return Ok(());
    }
    fs::create_dir_all(bin())?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    // Its dependencies are its pages' looks.
    apt::unpack(&Plan { installs: vec!["prometheus".into()], removals: Vec::new() }, scratch.path())?;
    place(scratch.path().join("usr/bin/prometheus"), "prometheus")
}

/// Under its name only once it can be started.
fn place(program: PathBuf, name: &str) -> Result<()> {
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::rename(program, bin().join(name))?;
    Ok(())
}
