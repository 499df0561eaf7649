//! What a chore needs of the machine: found, installed from Debian's packages where that is allowed,
//! or named with the exact command.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{build::step, kinds::Kind};

/// Debian's own Rust, which brings the source of `core`.
const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Where Debian's packages put the compiler.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The oldest compiler that takes the firmware's dependencies. Debian 12 itself has 1.63 as `rustc` and
/// 1.85 as `rustc-web`; a newer `rustc-web` comes with its security updates.
const OLDEST: (u32, u32) = (1, 87);

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
    let installed = rustup_targets();
    let targets: BTreeSet<&str> =
        kinds.iter().map(|kind| kind.target.as_str()).filter(|t| !installed.contains(*t)).collect();
    // rustup brings them as well, to whoever has it and a way to its server.
    let rustup = find("rustup").filter(|_| !targets.is_empty()).map(|_| {
        let targets: Vec<&str> = targets.iter().copied().collect();
        format!("rustup target add {}", targets.join(" "))
    });
    if !targets.is_empty() && !debian_rust_serves() {
        missing.extend(DEBIAN_RUST);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let rust = missing.contains(DEBIAN_RUST[0]);
    let instead = rustup.filter(|_| rust).map_or_else(String::new, |command| {
        format!("\n\nor, instead of {}:\n\n    {command}", DEBIAN_RUST.join(", "))
    });
    install(&missing.into_iter().collect::<Vec<_>>(), &instead)?;
    ensure!(
        !rust || debian_rust_serves(),
        "Debian's {} is {}, and firmware needs {}.{} or later: let apt have Debian's security updates{instead}",
        DEBIAN_RUST[0],
        debian_version().map_or("absent".into(), |(major, minor)| format!("{major}.{minor}")),
        OLDEST.0,
        OLDEST.1,
    );
    Ok(())
}

/// Whether Debian's compiler and the source of `core` are installed, and new enough.
fn debian_rust_serves() -> bool {
    let source = rustc_says(&["--print", "sysroot"])
        .is_some_and(|root| Path::new(root.trim()).join("lib/rustlib/src/rust/library/core").exists());
    source
        && debian_version().is_some_and(|version| version >= OLDEST)
        && Path::new("/usr/bin/cargo").exists()
}

fn debian_version() -> Option<(u32, u32)> {
    let version = rustc_says(&["--version"])?;
    let mut numbers = version.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn rustc_says(arguments: &[&str]) -> Option<String> {
    let out = Command::new(DEBIAN_RUSTC).args(arguments).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
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

/// Installs Debian packages, or says how; `instead` is another way, ready to be shown.
fn install(packages: &[&str], instead: &str) -> Result<()> {
    if find("apt-get").is_none() {
        bail!(
            "missing on this machine: {}; install them with your package manager{instead}",
            packages.join(", ")
        );
    }
    let sudo = !is_root();
    let prefix = if sudo { "sudo " } else { "" };
    let by_hand = format!(
        "{prefix}apt-get update && {prefix}apt-get install --no-install-recommends {}{instead}",
        packages.join(" ")
    );
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
    let update = || {
        step("updating apt's package lists");
        apt(&["-qq", "update"]).status().context("running apt-get update")
    };
    let simulate = || -> Result<Option<String>> {
        let out = apt(&["-s", "install", "--no-install-recommends"]).args(packages).output()?;
        Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
    };
    let plan = match simulate()? {
        Some(plan) => plan,
        // A fresh machine has no package lists yet.
        None => {
            update()?;
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
    step(&format!("installing {}", packages.join(" ")));
    let install = || {
        apt(&["-qq", "-y", "install", "--no-install-recommends"])
            .args(packages)
            .stdout(Stdio::null())
            .status()
    };
    // Package lists grow old: files that they name may have left the mirror.
    if !install()?.success() {
        update()?;
        if !install()?.success() {
            bail!("apt-get failed; try\n\n    {by_hand}\n");
        }
    }
    Ok(())
}
