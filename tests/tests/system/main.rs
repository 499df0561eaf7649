//! The whole system: real daemons, real sockets, real firmware on emulated boards.

mod access;
mod attached;
mod bad_input;
mod clusters;
mod collectors;
mod copies;
mod deaths;
mod doctor;
mod expiry;
mod faults;
mod full_disks;
mod full_queue;
mod health;
mod llama2c;
mod local;
mod main_job;
mod partitions;
mod promises;
mod published;
mod refused;
mod security;
mod service;
mod strangers;
mod telemetry;

use edgeprof_tests::shipped_model;

/// Flags of the job that most tests run: `tokens` tokens from the shipped model.
fn job<'a>(model: &'a str, boards: &[&'a str], tokens: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["-m", model, "--prompt", "In the beginning", "-n", tokens];
    arguments.extend(["--quant", "q8_0", "--kv", "i8", "--temperature", "0.8", "--seed", "7"]);
    for board in boards {
        arguments.extend(["-b", board]);
    }
    arguments
}

fn model() -> String {
    let path = shipped_model();
    assert!(path.exists(), "{} is part of the repository", path.display());
    path.into_os_string().into_string().expect("the clone's path is UTF-8")
}
