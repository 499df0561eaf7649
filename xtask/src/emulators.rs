//! Emulators: the system's, or Debian's packages unpacked into the target folder where installing them
//! would take something else away, or is not allowed.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{
    apt,
    build::{step, target},
    kinds::Kind,
    system::find,
};

/// Where the unpacked emulators are started from.
fn folder() -> PathBuf {
    target().join("emulators")
}

/// Lets everything that this process starts find the unpacked emulators, after the system's.
pub(crate) fn on_path() {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([folder().join("bin")]);
    if let Ok(path) = env::join_paths(folders) {
        // SAFETY: the program has one thread yet.
        unsafe { env::set_var("PATH", path) };
    }
}

/// Makes sure that the emulators of `kinds` are there.
pub(crate) fn prepare(kinds: &[Kind]) -> Result<()> {
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for kind in kinds.iter().filter(|kind| find(&kind.emulator.program).is_none()) {
        missing.entry(&kind.emulator.debian_package).or_default().insert(&kind.emulator.program);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.keys().copied().collect();
    let plan = apt::plan(&packages)?;
    if plan.removals.is_empty() && apt::may_install() {
        return apt::install(&packages, "");
    }
    let why = if plan.removals.is_empty() {
        "may not be installed by this user".into()
    } else {
        format!("installed would replace {}", plan.removals.join(", "))
    };
    step(&format!("unpacking {} into target/emulators ({why})", packages.join(" ")));
    let (root, bin) = (folder().join("root"), folder().join("bin"));
    apt::unpack(&plan, &root)?;
    fs::create_dir_all(&bin)?;
    let libraries = libraries(&root)?;
    for program in missing.into_values().flatten() {
        let real = root.join("usr/bin").join(program);
        ensure!(real.exists(), "{} has no {program}", packages.join(", "));
        let libraries = env::join_paths(&libraries).context("the target folder's path has a colon")?;
        let script = format!(
            "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
            libraries.display(),
            real.display()
        );
        let path = bin.join(program);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let starts = Command::new(&path).arg("--version").stdout(Stdio::null()).status()?;
        ensure!(starts.success(), "the unpacked {program} does not start ({starts})");
    }
    Ok(())
}

/// The folders of shared libraries below `root`, such as `usr/lib/x86_64-linux-gnu`.
fn libraries(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["lib", "usr/lib"].map(|folder| root.join(folder)).iter().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && path.to_string_lossy().ends_with("-linux-gnu") {
                found.push(path);
            }
        }
    }
    Ok(found)
}
