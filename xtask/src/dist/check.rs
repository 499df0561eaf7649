//! The packages in a clean Debian: installed, started by their units under its own systemd, a job run, the packages
//! installed again while they work, and purged; nothing may be left.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};

use super::{PROGRAMS, deb, host, machine::Machine};
use crate::{
    build::{root, step},
    demo::MODEL,
};

const DAEMONS: [&str; 2] = ["edgeprof-coordinator", "edgeprof-worker"];

/// The job's model, there.
const THERE: &str = "/root/model.gguf";

/// What any package leaves: lists of packages, logs, and backups of the files of users.
const ANYBODYS: [&str; 7] = [
    "/var/lib/dpkg/",
    "/var/log/",
    "/var/cache/",
    "/var/lib/systemd/",
    "/etc/passwd-",
    "/etc/.pwd.lock",
    "/root/",
];

const COORDINATOR: &str = "listen = \"127.0.0.1:7450\"\ndata = \"/var/lib/edgeprof/coordinator\"\nsite = \"attic\"\n\
                           workers = [\"127.0.0.1:7451\"]\ndiscovery = false\n";
const WORKER: &str = "listen = \"127.0.0.1:7451\"\ndata = \"/var/lib/edgeprof/worker\"\nsite = \"attic\"\n\
                      name = \"host-1\"\nannounce = false\n[[board]]\nkind = \"riscv32\"\n";

pub(crate) fn run(out: &Path) -> Result<()> {
    let architecture = deb::architecture(&host()?).context("no packages are built for this machine")?;
    step("starting a clean Debian");
    let machine = Machine::start()?;
    let before = State::of(&machine)?;

    step("installing");
    let mut install = vec!["dpkg".to_owned(), "-i".to_owned()];
    for program in PROGRAMS {
        let file = deb::file(program.name, architecture);
        let there = format!("/root/{file}");
        machine.put(&out.join(&file), &there)?;
        install.push(there);
    }
    machine.put(&root().join(MODEL), THERE)?;
    let install: Vec<&str> = install.iter().map(String::as_str).collect();
    machine.run(&install)?;
    for daemon in DAEMONS {
        ensure!(
            property(&machine, daemon, "ActiveState")? == "inactive",
            "{daemon} is not started by itself"
        );
    }

    step("starting the units, which run as users of their own");
    machine.write("/etc/edgeprof/coordinator.toml", COORDINATOR.as_bytes())?;
    machine.write("/etc/edgeprof/worker.toml", WORKER.as_bytes())?;
    // Each says itself that it serves; until then systemctl waits.
    machine.run(&["systemctl", "start", DAEMONS[0], DAEMONS[1]])?;
    for daemon in DAEMONS {
        let process = property(&machine, daemon, "MainPID")?;
        let user = machine.run(&["stat", "-c", "%U", &format!("/proc/{process}")])?;
        ensure!(user.trim() == daemon, "{daemon} runs as {user}");
        let folder = daemon.replacen('-', "/", 1);
        let owner = machine.run(&["stat", "-c", "%U %a", &format!("/var/lib/{folder}")])?;
        ensure!(owner.trim() == format!("{daemon} 750"), "its data is of {owner}");
        eprintln!("    {daemon}: process {process} of user {}", user.trim());
    }
    a_job(&machine)?;

    step("installing again while they run");
    let old = DAEMONS.map(|daemon| property(&machine, daemon, "MainPID"));
    machine.run(&install)?;
    for (daemon, old) in DAEMONS.iter().zip(old) {
        let new = property(&machine, daemon, "MainPID")?;
        ensure!(new != "0" && new != old?, "{daemon} still runs the old program");
    }
    a_job(&machine)?;

    step("stopping");
    machine.run(&["systemctl", "stop", DAEMONS[0], DAEMONS[1]])?;
    for daemon in DAEMONS {
        let result = property(&machine, daemon, "Result")?;
        ensure!(result == "success", "{daemon} ended with {result}");
    }

    step("purging");
    let mut purge = vec!["dpkg", "--purge"];
    purge.extend(PROGRAMS.map(|program| program.name));
    machine.run(&purge)?;
    let left = State::of(&machine)?.beyond(&before);
    ensure!(left.is_empty(), "left after the purge:\n{}", left.join("\n"));
    step("installed, ran a job, restarted, stopped and purged: nothing is left");
    Ok(())
}

fn a_job(machine: &Machine) -> Result<()> {
    step("running a job");
    let job = ["--prompt", "In the beginning", "-n", "4", "--quant", "q8_0", "--kv", "i8"];
    let words = ["edgeprof", "run", "--progress", "none", "-m", THERE, "-b", "riscv32"];
    let table = machine.run(&[&words[..], &job].concat())?;
    ensure!(table.contains("hash ✓"), "the board did not compute what it should:\n{table}");
    table.lines().for_each(|line| eprintln!("    {line}"));
    Ok(())
}

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
