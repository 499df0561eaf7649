//! The Debian packages: what their descriptions name is there, and their scripts are scripts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use edgeprof_tests::{Finished, root};

/// Crate, package.
const PACKAGES: [(&str, &str); 3] =
    [("coordinator", "edgeprof-coordinator"), ("worker", "edgeprof-worker"), ("client", "edgeprof")];

fn metadata(folder: &str) -> toml::Table {
    let manifest: toml::Table =
        fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap().parse().unwrap();
    manifest["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

/// Sources and destinations.
fn assets(metadata: &toml::Table) -> Vec<(String, String)> {
    let all = metadata["assets"].as_array().unwrap().iter().map(|asset| asset.as_array().unwrap());
    let word = |value: &toml::Value| value.as_str().unwrap().to_owned();
    all.map(|asset| (word(&asset[0]), word(&asset[1]))).collect()
}

#[test]
fn every_file_of_a_package_is_in_the_repository_or_made_for_it() {
    for (folder, package) in PACKAGES {
        let metadata = metadata(folder);
        let at = |path: &str| root().join(folder).join(path);
        for (from, to) in assets(&metadata) {
            assert!(!to.starts_with('/') && to.contains('/'), "{to}");
            if let Some(built) = from.strip_prefix("target/release/") {
                let made = [package, &format!("package/{package}/"), "package/firmware/"];
                assert!(made.iter().any(|prefix| built.starts_with(prefix)), "{from} of {package}");
                continue;
            }
            let from = at(from.trim_end_matches('*'));
            assert!(from.exists(), "{} of {package} is not there", from.display());
        }
        if let Some(units) = metadata.get("systemd-units") {
            let unit = at(units["unit-scripts"].as_str().unwrap()).join(format!("{package}.service"));
            assert!(unit.exists(), "{}", unit.display());
        }
    }
}

/// Each file that an installed daemon reads by default is a conffile of its package: below /etc.
#[test]
fn the_configuration_of_a_daemon_is_good_as_it_is_installed() {
    for daemon in ["coordinator", "worker"] {
        let to = assets(&metadata(daemon));
        assert!(to.contains(&(format!("../deploy/{daemon}.toml"), "etc/edgeprof/".into())), "{to:?}");
    }
}

fn scripts() -> Vec<PathBuf> {
    let folders = fs::read_dir(root().join("deploy/debian")).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    files.map(|file| file.path()).collect()
}

fn shell(script: &Path) -> Finished {
    Finished::of(Command::new("sh").arg("-n").arg(script))
}

#[test]
fn maintainer_scripts_are_shell_and_let_the_tools_of_debian_add_theirs() {
    let scripts = scripts();
    assert_eq!(scripts.len(), 6, "{scripts:?}");
    for script in scripts {
        let text = fs::read_to_string(&script).unwrap();
        assert!(text.starts_with("#!/bin/sh\nset -e\n"), "{}", script.display());
        assert_eq!(text.matches("\n#DEBHELPER#\n").count(), 1, "{}", script.display());
        let checked = shell(&script);
        assert_eq!(checked.code, 0, "{checked:?}");
    }
    let boot = shell(&root().join("xtask/src/dist/check/boot.sh"));
    assert_eq!(boot.code, 0, "{boot:?}");
}
