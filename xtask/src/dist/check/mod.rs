//! What was built, where it is to run: in a clean Debian under its own systemd, and, built for another architecture,
//! under an emulator of that.

mod alone;
mod emulated;
mod lab;
mod machine;

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};

use self::machine::Machine;
use super::{Build, deb, host};
use crate::build::step;

const COORDINATOR: &str = "edgeprof-coordinator";
const WORKER: &str = "edgeprof-worker";
const CLIENT: &str = "edgeprof";

/// The job's model, there.
const MODEL_THERE: &str = "/root/model.gguf";

/// What is run of a model.
const JOB: [&str; 8] = ["--prompt", "In the beginning", "-n", "4", "--quant", "q8_0", "--kv", "i8"];

/// What a run shows whose bits are those of this machine's own run.
const RIGHT: &str = "hash ✓";

/// What any package leaves: lists of packages, logs, and backups of the files of users.
const ANYBODYS: [&str; 8] = [
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/log/",
    "/var/cache/",
    "/var/lib/systemd/",
    "/etc/passwd-",
    "/etc/.pwd.lock",
    "/root/",
];

pub(crate) fn run(builds: &[Build], out: &Path) -> Result<()> {
    for build in builds {
        if build.cross {
            emulated::run(build, out)?;
        } else {
            alone::run(out)?;
            lab::run(out)?;
        }
    }
    Ok(())
}

/// Puts packages of this machine's architecture there, and names them.
fn packages(machine: &Machine, out: &Path, programs: &[&str]) -> Result<Vec<String>> {
    let architecture = deb::architecture(&host()?).context("no packages are built for this machine")?;
    let put = |program: &&str| {
        let file = deb::file(program, architecture);
        let there = format!("/root/{file}");
        machine.put(&out.join(&file), &there)?;
        Ok(there)
    };
    programs.iter().map(put).collect()
}

fn purge(machine: &Machine, programs: &[&str], before: &State) -> Result<()> {
    machine.run(&[&["dpkg", "--purge"], programs].concat())?;
    let left = State::of(machine)?.beyond(before);
    ensure!(left.is_empty(), "left after the purge:\n{}", left.join("\n"));
    Ok(())
}

/// Runs a job where a client is, and shows what came out. `more` goes to the client as well.
fn a_job(machine: &Machine, more: &[&str]) -> Result<()> {
    step("running a job");
    let words = [CLIENT, "run", "--progress", "none", "-m", MODEL_THERE, "-b", "riscv32"];
    let table = machine.run(&[&words[..], &JOB, more].concat())?;
    ensure!(table.contains(RIGHT), "the board did not compute what it should:\n{table}");
    show(&table);
    Ok(())
}

fn show(text: &str) {
    text.lines().for_each(|line| eprintln!("    {line}"));
}

/// What systemd knows of a unit.
fn property(machine: &Machine, unit: &str, name: &str) -> Result<String> {
    Ok(machine.run(&["systemctl", "show", "--value", "-p", name, unit])?.trim().to_owned())
}

/// Files, users and groups.
struct State(BTreeSet<String>);

impl State {
    fn of(machine: &Machine) -> Result<Self> {
        let files = machine.run(&["find", "/", "-xdev"])?;
        let users = machine.run(&["cat", "/etc/passwd", "/etc/group"])?;
        let anybodys = |line: &&str| !ANYBODYS.iter().any(|prefix| line.starts_with(prefix));
        Ok(Self(files.lines().chain(users.lines()).filter(anybodys).map(str::to_owned).collect()))
    }

    fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}
