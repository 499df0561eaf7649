//! What a chore needs of the machine: found, installed from Debian's packages where that is allowed,
//! or named with the exact command.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{build::step, kinds::Kind};

/// Debian's own Rust, which brings the source of `core`.
const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Where Debian's packages put the compiler.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The program `name` on the path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Makes sure that emulators and a compiler for `kinds` are there.
pub(crate) fn prepare(kinds: &[Kind]) -> Result<()> {
    let mut missing = BTreeSet::new();
    for kind in kinds {
        if find(&kind.emulator.program).is_none() {
            missing.insert(kind.emulator.debian_package.as_str());
        }
    }
    let targets = rustup_targets();
    if kinds.iter().any(|kind| !targets.contains(&kind.target)) && !has_debian_rust() {
        missing.extend(DEBIAN_RUST);
    }
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing.into_iter().collect::<Vec<_>>())
}

/// Whether Debian's compiler and the source of `core` are installed.
fn has_debian_rust() -> bool {
    let source = Command::new(DEBIAN_RUSTC)
        .args(["--print", "sysroot"])
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|out| out.status.success())
        .map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
    source.is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").exists())
        && Path::new("/usr/bin/cargo").exists()
}

/// Targets whose standard library rustup has installed.
pub(crate) fn rustup_targets() -> BTreeSet<String> {
    let output =
        Command::new("rustup").args(["target", "list", "--installed"]).stderr(Stdio::null()).output();
    output
        .map(|out| String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Installs Debian packages, or says how.
fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("sudo apt-get install --no-install-recommends {}", packages.join(" "));
    if find("apt-get").is_none() {
        bail!("missing on this machine: {}; install them with your package manager", packages.join(", "));
    }
    let sudo = !is_root();
    let allowed = !sudo
        || Command::new("sudo")
            .args(["-n", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success());
    if !allowed {
        bail!("missing on this machine: {}; run\n\n    {by_hand}\n\nand try again", packages.join(", "));
    }
    let apt = |arguments: &[&str]| {
        let mut command = if sudo { Command::new("sudo") } else { Command::new("apt-get") };
        if sudo {
            command.args(["-n", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        command
    };
    step(&format!("installing {}", packages.join(" ")));
    let simulate = || -> Result<Option<String>> {
        let out = apt(&["-s", "install", "--no-install-recommends"]).args(packages).output()?;
        Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
    };
    let plan = match simulate()? {
        Some(plan) => plan,
        // A fresh machine has no package lists yet.
        None => {
            apt(&["-qq", "update"]).status().context("running apt-get update")?;
            simulate()?.with_context(|| format!("apt-get cannot install them; try\n\n    {by_hand}\n"))?
        }
    };
    let removed: Vec<&str> = plan.lines().filter_map(|l| l.strip_prefix("Remv ")).collect();
    if !removed.is_empty() {
        bail!(
            "installing {} would remove {}; decide yourself:\n\n    {by_hand}\n",
            packages.join(" "),
            removed.join(", ")
        );
    }
    let install = || {
        apt(&["-qq", "-y", "install", "--no-install-recommends"])
            .args(packages)
            .stdout(Stdio::null())
            .status()
    };
    // Package lists grow old: files that they name may have left the mirror.
    if !install()?.success() {
        apt(&["-qq", "update"]).status().context("running apt-get update")?;
        if !install()?.success() {
            bail!("apt-get failed; try\n\n    {by_hand}\n");
        }
    }
    Ok(())
}
