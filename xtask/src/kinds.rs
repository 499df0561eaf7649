//! What chores need of the board catalogue, read from its files: xtask depends on no crate of the
//! workspace, so that it builds first and fast.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::build::root;

/// A board kind, as far as chores care.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Kind {
    pub(crate) name: String,
    /// Rust target triple of its firmware.
    pub(crate) target: String,
    pub(crate) firmware: Firmware,
    pub(crate) emulator: Emulator,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Firmware {
    pub(crate) package: String,
    #[serde(default)]
    pub(crate) features: Vec<String>,
    #[serde(default = "release")]
    pub(crate) profile: String,
}

fn release() -> String {
    "release".into()
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Emulator {
    pub(crate) program: String,
    pub(crate) debian_package: String,
}

/// Every kind of the catalogue, by name.
pub(crate) fn load() -> Result<Vec<Kind>> {
    let folder = root().join("boards/kinds");
    let mut kinds = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            let text = fs::read_to_string(&path)?;
            kinds.push(toml::from_str::<Kind>(&text).with_context(|| format!("in {}", path.display()))?);
        }
    }
    kinds.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(kinds)
}
