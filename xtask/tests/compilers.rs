//! The oldest compilers that the manifests promise, against what the dependencies ask for. Our own code is held to them
//! by clippy's `incompatible_msrv`, which reads the same promise.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

fn metadata(manifest: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--locked", "--format-version", "1"]);
    // What other systems would need is not here, and is not looked at.
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    command.args(["--filter-platform", "aarch64-unknown-linux-gnu"]);
    let out = command.arg("--manifest-path").arg(root.join(manifest)).output().unwrap();
    assert!(out.status.success(), "{manifest}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// "1.90" as numbers; whoever promises nothing takes any.
fn version(package: &Value) -> Vec<u32> {
    let text = package["rust_version"].as_str().unwrap_or("0");
    text.split('.').map(|number| number.parse().unwrap_or_else(|_| panic!("{text} of {package}"))).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// Every package that a build of the workspace compiles. Its tests are run where it is developed.
fn built(metadata: &Value) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let mut ahead: Vec<&str> =
        list(&metadata["workspace_members"]).iter().map(|id| id.as_str().unwrap()).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = ahead.pop() {
        if seen.insert(id) {
            let compiled = |dependency: &&Value| {
                list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].as_str() != Some("dev"))
            };
            let dependencies = list(&nodes[id]["deps"]).iter().filter(compiled);
            ahead.extend(dependencies.map(|dependency| dependency["pkg"].as_str().unwrap()));
        }
    }
    seen
}

#[test]
fn no_dependency_wants_a_newer_compiler_than_is_promised() {
    for manifest in ["Cargo.toml", "firmware/Cargo.toml"] {
        let metadata = metadata(manifest);
        let built = built(&metadata);
        let packages: Vec<&Value> = list(&metadata["packages"])
            .iter()
            .filter(|package| built.contains(package["id"].as_str().unwrap()))
            .collect();
        // Of this repository, or of a registry.
        let (own, others): (Vec<&Value>, Vec<&Value>) =
            packages.into_iter().partition(|package| package["source"].is_null());
        let members = list(&metadata["workspace_members"]);
        let promised = own
            .iter()
            .filter(|package| members.contains(&package["id"]))
            .inspect(|package| {
                assert!(package["rust_version"].is_string(), "{} promises none", package["name"])
            })
            .map(|package| version(package))
            .min()
            .unwrap();
        let newer: Vec<String> = others
            .iter()
            .filter(|package| version(package) > promised)
            .map(|package| {
                format!("{} {} wants {}", package["name"], package["version"], package["rust_version"])
            })
            .collect();
        assert!(others.len() > 10 && newer.is_empty(), "{manifest} promises {promised:?}, but {newer:?}");
    }
}
