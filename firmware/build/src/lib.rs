//! What the build scripts of the mains share: linker script and constants of the board kind.
//!
//! The kind is named by `EDGEPROF_KIND`. Without it a main's only kind is taken, and a main that serves
//! several is refused.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use edgeprof_boards::{Kind, ModelStore, catalogue};

/// Writes `memory.x` and `kind.rs` to `OUT_DIR` and tells cargo how to link.
///
/// # Errors
/// If the kind is unknown, is not this package's, or target or features are not the kind's.
pub fn run() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=EDGEPROF_KIND");
    println!("cargo::rerun-if-env-changed=EDGEPROF_BUILD_ID");
    println!("cargo::rerun-if-changed=build.rs");
    let kind = chosen()?;
    let target = env::var("TARGET")?;
    if target != kind.target {
        return Err(format!("{} is built for {}, not for {target}", kind.name, kind.target).into());
    }
    check_features(kind)?;
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    fs::write(out.join("memory.x"), kind.linker_script())?;
    fs::write(out.join("kind.rs"), constants(kind))?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    // Symbols of a fixed order and no build id: what is loaded depends on the source alone.
    println!("cargo::rustc-link-arg-bins=--build-id=none");
    println!("cargo::rustc-link-arg-bins=--nmagic");
    Ok(())
}

fn chosen() -> Result<&'static Kind, Box<dyn Error>> {
    let package = env::var("CARGO_PKG_NAME")?;
    let ours: Vec<&Kind> =
        catalogue().kinds().iter().filter(|kind| kind.firmware.package == package).collect();
    let names = || ours.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>().join(", ");
    match env::var("EDGEPROF_KIND") {
        Ok(name) => ours
            .iter()
            .copied()
            .find(|kind| kind.name == name)
            .ok_or_else(|| format!("EDGEPROF_KIND={name}: {package} serves {}", names()).into()),
        Err(_) => match ours[..] {
            [only] => Ok(only),
            _ => Err(format!("set EDGEPROF_KIND to one of {}", names()).into()),
        },
    }
}

/// A feature chooses addresses: with another kind's the board would be mute.
fn check_features(kind: &Kind) -> Result<(), Box<dyn Error>> {
    let wanted = kind.firmware.features.iter().map(|name| name.to_uppercase().replace('-', "_"));
    let mut wanted: Vec<String> = wanted.collect();
    wanted.sort();
    let found = env::vars().filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_owned));
    let mut found: Vec<String> = found.filter(|name| name != "COUNTER_CHECK").collect();
    found.sort();
    if found != wanted {
        let features = kind.firmware.features.join(",");
        return Err(format!("{} is built with --features {features:?}", kind.name).into());
    }
    Ok(())
}

fn constants(kind: &Kind) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a String");
    line(format_args!("pub(crate) const NAME: &str = {:?};", kind.name));
    line(format_args!("pub(crate) const COUNTER: &str = {:?};", kind.counter.name));
    line(format_args!("pub(crate) const TICK_HZ: u64 = {};", kind.counter.tick_hz));
    line(format_args!("pub(crate) const MAX_FRAME: usize = {};", kind.max_frame));
    line(format_args!("pub(crate) const MAX_PROMPT: usize = {};", kind.max_prompt));
    let in_ram = kind.memory.model_store == ModelStore::Ram;
    line(format_args!("pub(crate) const MODEL_IN_RAM: bool = {in_ram};"));
    // Nothing may depend on the day or the place of the build, only on what the builder states.
    let build = env::var("EDGEPROF_BUILD_ID").unwrap_or_default();
    line(format_args!("pub(crate) const BUILD_ID: &str = {build:?};"));
    out
}
