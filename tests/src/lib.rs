//! A lab of real processes for whole-system tests: one coordinator and its workers, with data of their
//! own, killed and restarted at will; on loopback, or on hosts in network namespaces whose cables can be pulled.

mod collector;
mod daemon;
mod emulator;
mod lab;
mod lan;
mod namespace;
mod pki;
mod proxy;
mod scrape;
mod secrets;

pub use collector::{Collector, Point, Span};
pub use daemon::Daemon;
pub use emulator::Emulator;
pub use lab::{CLIENT, COORDINATOR, Finished, Lab};
pub use lan::{Host, Lan, Way};
pub use namespace::Namespace;
pub use pki::Pki;
pub use proxy::{Faults, Proxy};
pub use scrape::get;
pub use secrets::secret_in;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test gives up. Far above what it takes, since two cores may be
/// busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// The model that ships with the project.
pub fn shipped_model() -> PathBuf {
    root().join("models/edgeprof-kjv-280k.gguf")
}

/// Where the programs of this build lie.
///
/// # Panics
/// When they were not built.
pub fn program(name: &str) -> PathBuf {
    // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM.
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().expect("it lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = profile.join(name);
    assert!(path.exists(), "{} is not built; run the tests with `cargo xtask test`", path.display());
    path
}

/// Firmware images of this build.
///
/// # Panics
/// When there are none.
pub fn firmware() -> PathBuf {
    let folder = std::env::var_os("EDGEPROF_FIRMWARE").map_or_else(
        || program("edgeprof-worker").ancestors().nth(2).expect("target/PROFILE/PROGRAM").join("firmware"),
        PathBuf::from,
    );
    assert!(
        folder.join("mps2-an386.elf").exists(),
        "no firmware in {}; build it with `cargo xtask firmware`",
        folder.display()
    );
    folder
}

/// A program of `cargo xtask tools`; whoever gets none skips what wants it.
pub fn tool(name: &str) -> Option<PathBuf> {
    fetched(&format!("bin/{name}"))
}

/// A file of `cargo xtask tools`; whoever gets none skips what wants it.
///
/// # Panics
/// In CI, where nothing is to be skipped.
pub fn fetched(name: &str) -> Option<PathBuf> {
    let path = root().join("target/tools").join(name);
    let found = path.exists().then_some(path);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is missing; `cargo xtask tools` fetches it");
        eprintln!("SKIPPED: {name} is missing; `cargo xtask tools` fetches it");
    }
    found
}

/// Asks `probe` until it has an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`].
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        // The pace of asking, not a wait for something to have happened.
        thread::sleep(Duration::from_millis(20));
    }
}
