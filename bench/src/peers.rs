//! Other task systems, where their Python packages are installed.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

/// A system that runs no-op tasks through `peers/SCRIPT`. It keeps no durable record.
#[derive(Debug)]
pub(crate) struct Peer {
    name: &'static str,
    script: &'static str,
    /// What pip installs.
    package: &'static str,
}

/// All of them.
pub(crate) const ALL: &[Peer] = &[
    Peer { name: "Ray", script: "ray_noop.py", package: "ray==2.60.0" },
    Peer { name: "Dask", script: "dask_noop.py", package: "distributed==2026.8.0" },
];

/// What a script prints.
#[derive(Debug, Deserialize)]
struct Answer {
    version: String,
    /// Tasks a second, of each round.
    rates: Vec<f64>,
}

impl Peer {
    /// Rates of `rounds` rounds of `tasks` tasks each, with the name to show. Where the package is not there,
    /// says how to get it.
    pub(crate) fn run(&self, python: &Path, tasks: usize, rounds: usize) -> Option<(String, Vec<f64>)> {
        eprintln!("==> the same number of no-op tasks through {}", self.name);
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers").join(self.script);
        let mut command = Command::new(python);
        command.arg(script).args([tasks.to_string(), rounds.to_string()]).stderr(Stdio::piped());
        let missing = |why: &str| {
            let Self { name, package, .. } = self;
            eprintln!(
                "    {name} is left out: {why}\n    to have it: python3 -m venv VENV && VENV/bin/pip install \
                 '{package}', then give --python VENV/bin/python"
            );
        };
        let out = match command.output() {
            Ok(out) => out,
            Err(error) => {
                missing(&format!("{}: {error}", python.display()));
                return None;
            }
        };
        let text = String::from_utf8_lossy(&out.stdout);
        let answer = text.lines().last().and_then(|line| serde_json::from_str::<Answer>(line).ok());
        let Some(answer) = answer.filter(|_| out.status.success()) else {
            let words = String::from_utf8_lossy(&out.stderr);
            missing(words.lines().last().unwrap_or("its script gave no answer"));
            return None;
        };
        eprintln!("    {:?} tasks a second", answer.rates.iter().map(|r| r.round()).collect::<Vec<_>>());
        Some((format!("{} {}, nothing durable", self.name, answer.version), answer.rates))
    }
}
