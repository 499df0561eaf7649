//! What the documents say of the programs, against the programs.

use std::fs;

use clap::CommandFactory;
use edgeprof_service::config::{Key, flags, reference};
use edgeprof_tests::root;

/// A daemon's part of the reference.
fn part(daemon: &str, command: &clap::Command, keys: &str) -> String {
    format!(
        "## edgeprof-{daemon}\n\nFile: `--config`, or `/etc/edgeprof/{daemon}.toml` where it exists.\n\n{keys}\n{}",
        flags(command)
    )
}

fn coordinator() -> String {
    use edgeprof_coordinator::config::{Config, Flags, KEYS};
    part("coordinator", &Flags::command(), &reference::<Config>(KEYS))
}

fn worker() -> String {
    use edgeprof_worker::config::{Cli, Config, KEYS};
    let keys: &[Key] = KEYS;
    part("worker", &Cli::command(), &reference::<Config>(keys))
}

#[test]
fn the_reference_of_the_configuration_is_what_the_programs_take() {
    let path = root().join("docs/configuration.md");
    let wanted = format!(
        "# Configuration\n\n\
         Made from the programs: `UPDATE_DOCS=1 cargo test -p edgeprof-tests --test deploy reference`.\n\n\
         A flag wins over its environment variable, that over the file, and the file over the default. An unknown key is \
         refused, with its line and what was probably meant. `--check-config` says whether a configuration is good, and \
         `--print-default-config` prints the defaults as a file.\n\n{}\n{}",
        coordinator(),
        worker()
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, wanted).unwrap();
        return;
    }
    let said = fs::read_to_string(&path).unwrap_or_default();
    assert!(said == wanted, "{} is behind the programs; run this test with UPDATE_DOCS=1", path.display());
}
