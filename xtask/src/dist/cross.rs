//! Building for another architecture: rustup's standard library for it, else Debian's, and Debian's C compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{Build, text};
use crate::{
    apt,
    build::{self, root, run, step, target},
    system::{self, DEBIAN_RUSTC, find},
};

/// Debian's name for what rustc calls aarch64-unknown-linux-gnu.
pub(crate) fn gnu(triple: &str) -> String {
    triple.replace("-unknown-", "-")
}

/// cargo, told how to build for `triple`.
pub(crate) fn cargo(triple: &str) -> Result<Command> {
    let compiler = format!("{}-gcc", gnu(triple));
    if find(&compiler).is_none() {
        let architecture = super::deb::architecture(triple).unwrap_or(triple);
        let headers = format!("libc6-dev-{architecture}-cross");
        apt::install(&[&format!("gcc-{}", gnu(triple)), &headers], "")?;
    }
    let mut command = if system::rustup_targets().contains(triple) {
        build::cargo()
    } else {
        let library = debian_library(triple)?;
        let mut command = Command::new("/usr/bin/cargo");
        command.current_dir(root()).env("RUSTC", DEBIAN_RUSTC);
        for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTDOC", "RUSTC_WRAPPER", "RUSTFLAGS"] {
            command.env_remove(name);
        }
        // Only what is built for the target takes it from there; build scripts have this machine's.
        command.env(variable(triple, "RUSTFLAGS"), format!("--sysroot={}", library.display()));
        command
    };
    command.env(variable(triple, "LINKER"), &compiler);
    command.env(format!("CC_{}", triple.replace('-', "_")), &compiler);
    Ok(command)
}

/// The program that strips what was built.
pub(crate) fn strip(build: &Build) -> String {
    if build.cross { format!("{}-strip", gnu(&build.triple)) } else { "strip".into() }
}

fn variable(triple: &str, name: &str) -> String {
    format!("CARGO_TARGET_{}_{name}", triple.replace('-', "_").to_uppercase())
}

/// The standard library of Debian's compiler for another architecture, unpacked: installed it would make this
/// machine one of several architectures.
fn debian_library(triple: &str) -> Result<PathBuf> {
    let version = text(Command::new("dpkg-query").args(["-W", "-f", "${Version}", "rustc-web"]))?;
    let folder = target().join("cross").join(format!("{triple}-{version}"));
    let sysroot = folder.join("usr");
    if sysroot.join("lib/rustlib").join(triple).exists() {
        return Ok(sysroot);
    }
    let architecture = super::deb::architecture(triple).unwrap_or(triple);
    let package = format!("libstd-rust-web-dev={version}");
    step(&format!("fetching {package} for {architecture}"));
    fs::create_dir_all(target().join("cross"))?;
    let fetched = tempfile::tempdir_in(target().join("cross"))?;
    run("reading Debian's package lists", foreign(architecture, fetched.path())?.arg("update"))?;
    let mut download = foreign(architecture, fetched.path())?;
    run("fetching it", download.args(["download", &package]).current_dir(fetched.path()))?;
    let unpacked = fetched.path().join("unpacked");
    for file in fs::read_dir(fetched.path())? {
        let file = file?.path();
        if file.extension().is_some_and(|e| e == "deb") {
            text(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&unpacked))?;
        }
    }
    let library = unpacked.join("usr/lib/rustlib").join(triple);
    ensure!(library.exists(), "{package} has no library for {triple}");
    // Whole, or not there.
    fs::rename(&unpacked, &folder).with_context(|| format!("placing {}", folder.display()))?;
    Ok(sysroot)
}

/// apt-get with lists and cache of its own, for another architecture.
fn foreign(architecture: &str, folder: &Path) -> Result<Command> {
    let (lists, cache) = (folder.join("lists"), folder.join("cache"));
    fs::create_dir_all(lists.join("partial"))?;
    fs::create_dir_all(cache.join("archives/partial"))?;
    let mut command = Command::new("apt-get");
    command.arg("-qq");
    for option in [
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures={architecture}"),
        format!("Dir::State::lists={}", lists.display()),
        format!("Dir::Cache={}", cache.display()),
        "Acquire::Languages=none".into(),
        // The folder is this user's.
        "APT::Sandbox::User=".into(),
    ] {
        command.args(["-o", &option]);
    }
    Ok(command)
}
