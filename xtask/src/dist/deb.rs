//! Debian packages, by cargo-deb. What is in each stands in its crate's `package.metadata.deb`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{Build, Program, version};
use crate::{
    build::{cargo, root, run, target},
    system::find,
};

/// What rustc and Debian call an architecture.
pub(crate) const ARCHITECTURES: [(&str, &str); 2] =
    [("x86_64-unknown-linux-gnu", "amd64"), ("aarch64-unknown-linux-gnu", "arm64")];

const CARGO_DEB: &str = "3.8.0";

/// Debian's name of a target.
pub(crate) fn architecture(triple: &str) -> Option<&'static str> {
    ARCHITECTURES.iter().find(|(known, _)| *known == triple).map(|(_, name)| *name)
}

/// The file name of a package in this version.
pub(crate) fn file(program: &str, architecture: &str) -> String {
    format!("{program}_{}-1_{architecture}.deb", version())
}

/// The package of a program that was built.
pub(crate) fn build(program: &Program, build: &Build, out: &Path, date: &str) -> Result<PathBuf> {
    let architecture = architecture(&build.triple).context("an architecture of Debian")?;
    let package = out.join(file(program.name, architecture));
    let mut command = Command::new(cargo_deb()?);
    command
        .current_dir(root())
        .args(["--no-build", "--quiet", "--strip", "--package", program.package, "--output"])
        .arg(&package)
        .env("SOURCE_DATE_EPOCH", date)
        .env("CARGO_TARGET_DIR", target());
    if build.cross {
        // Its own strip knows its own instruction set only.
        command.args(["--target", &build.triple]);
    }
    run(&format!("packing {}", super::name(&package)), &mut command)?;
    ensure!(package.exists(), "cargo-deb made no {}", package.display());
    Ok(package)
}

/// The one on the path, else one of our own; building it takes a minute.
fn cargo_deb() -> Result<PathBuf> {
    if let Some(program) = find("cargo-deb") {
        return Ok(program);
    }
    let tools = target().join("tools/cargo-deb");
    let program = tools.join("bin/cargo-deb");
    if !program.exists() {
        let mut command = cargo();
        // Without a library for xz: the program of that name compresses.
        command.args(["install", "cargo-deb", "--locked", "--no-default-features", "--version", CARGO_DEB]);
        run("building cargo-deb", command.arg("--root").arg(&tools))?;
    }
    Ok(program)
}
