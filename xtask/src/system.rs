//! What a chore needs of the machine: found, installed from Debian's packages where that is allowed,
//! or named with the exact command.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::{apt, emulators, kinds::Kind};

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
    emulators::prepare(kinds)?;
    let installed = rustup_targets();
    let targets: BTreeSet<&str> =
        kinds.iter().map(|kind| kind.target.as_str()).filter(|t| !installed.contains(*t)).collect();
    if targets.is_empty() || debian_rust_serves() {
        return Ok(());
    }
    // rustup brings them as well, to whoever has it and a way to its server.
    let instead = find("rustup").map_or_else(String::new, |_| {
        let targets: Vec<&str> = targets.iter().copied().collect();
        format!("\n\nor, instead:\n\n    rustup target add {}", targets.join(" "))
    });
    apt::install(&DEBIAN_RUST, &instead)?;
    // Package lists grow old, and the first release's compiler is still on the mirror.
    if !debian_rust_serves() && apt::may_install() {
        apt::update()?;
        apt::install(&DEBIAN_RUST, &instead)?;
    }
    ensure!(
        debian_rust_serves(),
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
