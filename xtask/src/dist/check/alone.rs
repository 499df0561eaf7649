//! One host, served on loopback: installed, started by the units, a job run, the packages installed again while they
//! work, and purged; nothing may be left.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{CLIENT, COORDINATOR, MODEL_THERE, Machine, State, WORKER, a_job, packages, property, purge};
use crate::{
    build::{root, step},
    demo::MODEL,
};

const DAEMONS: [&str; 2] = [COORDINATOR, WORKER];

const COORDINATOR_TOML: &str = "listen = \"127.0.0.1:7450\"\ndata = \"/var/lib/edgeprof/coordinator\"\n\
                                site = \"attic\"\nworkers = [\"127.0.0.1:7451\"]\ndiscovery = false\n";
const WORKER_TOML: &str = "listen = \"127.0.0.1:7451\"\ndata = \"/var/lib/edgeprof/worker\"\nsite = \"attic\"\n\
                           name = \"host-1\"\nannounce = false\n[[board]]\nkind = \"riscv32\"\n";

pub(super) fn run(out: &Path) -> Result<()> {
    step("one host: starting a clean Debian");
    let machine = Machine::start("host-1")?;
    let before = State::of(&machine)?;

    step("installing");
    let all = [COORDINATOR, WORKER, CLIENT];
    let files = packages(&machine, out, &all)?;
    let mut install = vec!["dpkg", "-i"];
    install.extend(files.iter().map(String::as_str));
    machine.put(&root().join(MODEL), MODEL_THERE)?;
    machine.run(&install)?;
    for daemon in DAEMONS {
        ensure!(
            property(&machine, daemon, "ActiveState")? == "inactive",
            "{daemon} is not started by itself"
        );
    }

    step("starting the units, which run as users of their own");
    machine.write("/etc/edgeprof/coordinator.toml", COORDINATOR_TOML.as_bytes())?;
    machine.write("/etc/edgeprof/worker.toml", WORKER_TOML.as_bytes())?;
    // Each says itself that it serves; until then systemctl waits.
    machine.run(&["systemctl", "start", COORDINATOR, WORKER])?;
    for daemon in DAEMONS {
        let process = property(&machine, daemon, "MainPID")?;
        let user = machine.run(&["stat", "-c", "%U", &format!("/proc/{process}")])?;
        ensure!(user.trim() == daemon, "{daemon} runs as {user}");
        let folder = daemon.replacen('-', "/", 1);
        let owner = machine.run(&["stat", "-c", "%U %a", &format!("/var/lib/{folder}")])?;
        ensure!(owner.trim() == format!("{daemon} 750"), "its data is of {owner}");
        eprintln!("    {daemon}: process {process} of user {}", user.trim());
    }
    a_job(&machine, &[])?;

    step("installing again while they run");
    let old = DAEMONS.map(|daemon| property(&machine, daemon, "MainPID"));
    machine.run(&install)?;
    for (daemon, old) in DAEMONS.iter().zip(old) {
        let new = property(&machine, daemon, "MainPID")?;
        ensure!(new != "0" && new != old?, "{daemon} still runs the old program");
    }
    a_job(&machine, &[])?;

    step("stopping");
    machine.run(&["systemctl", "stop", COORDINATOR, WORKER])?;
    for daemon in DAEMONS {
        let result = property(&machine, daemon, "Result")?;
        ensure!(result == "success", "{daemon} ended with {result}");
    }

    step("purging");
    purge(&machine, &all, &before)?;
    step("installed, ran a job, upgraded, stopped and purged: nothing is left");
    Ok(())
}
