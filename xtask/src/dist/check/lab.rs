//! A lab of two hosts, set up by the steps of docs/operating.md and docs/security.md: the configuration is what the
//! packages bring, hosts find each other over mDNS and know each other by certificates. It is restarted, loses its
//! coordinator's host, goes on from a backup on another one, and is purged; nothing may be left.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::{
    CLIENT, COORDINATOR, MODEL_THERE, Machine, State, WORKER, a_job, packages, property, purge, show,
};
use crate::{
    build::{root, step},
    demo::MODEL,
    dist::text,
};

/// Where `edgeprof pki issue` leaves what it has issued.
const ISSUED: &str = "/root/.config/edgeprof/pki/issued";

/// A daemon that its configuration or its data keep from serving ends with this, and systemd leaves it.
const NEEDS_A_PERSON: &str = "78";

/// How long a board may take to be there, its host found and greeted.
const PATIENCE: [&str; 2] = ["--wait-for-board", "60s"];

pub(super) fn run(out: &Path) -> Result<()> {
    step("two hosts: starting two clean Debians, with a cable between them");
    let lab = Machine::start("lab")?;
    // Whoever works with the lab works here: the client, and the authority.
    let host = Machine::start("host-1")?;
    lab.cable(&host, 1)?;
    let before = State::of(&host)?;
    install(&lab, out, &[COORDINATOR])?;
    install(&host, out, &[WORKER, CLIENT])?;
    host.put(&root().join(MODEL), MODEL_THERE)?;

    step("without certificates neither serves, and says what to do");
    wants_certificates(&lab, COORDINATOR)?;
    wants_certificates(&host, WORKER)?;

    step("making certificates");
    for what in
        ["init --lab attic", "issue coordinator", "issue worker host-1", "issue client ann --role operator"]
    {
        let words: Vec<&str> = [CLIENT, "pki"].into_iter().chain(what.split(' ')).collect();
        host.run(&words)?;
    }
    deliver(&host, "coordinator", &lab, COORDINATOR)?;
    deliver(&host, "worker-host-1", &host, WORKER)?;
    host.run(&["cp", "-r", &format!("{ISSUED}/client-ann"), "/root/.config/edgeprof/tls"])?;

    step("looking for boards");
    let scan = "runuser -u edgeprof-worker -- edgeprof-worker scan | tee /etc/edgeprof/boards.d/here.toml";
    host.run(&["sh", "-ec", scan])?;
    show(&host.run(&["runuser", "-u", WORKER, "--", WORKER, "--check-config"])?);

    step("starting the units with the configuration as it was installed");
    lab.run(&["systemctl", "enable", "--now", COORDINATOR])?;
    host.run(&["systemctl", "enable", "--now", WORKER])?;
    a_job(&host, &PATIENCE)?;
    for command in ["workers", "boards"] {
        show(&host.run(&[CLIENT, command])?);
    }
    for (machine, daemon) in [(&lab, COORDINATOR), (&host, WORKER)] {
        let said = machine.run(&["systemd-analyze", "security", "--no-pager", daemon])?;
        show(said.lines().last().unwrap_or_default());
    }

    step("restarting both");
    lab.run(&["systemctl", "restart", COORDINATOR])?;
    host.run(&["systemctl", "restart", WORKER])?;
    a_job(&host, &PATIENCE)?;
    let jobs = jobs(&host)?;

    step("a backup is taken, the coordinator's host is lost, another one goes on");
    let file = "/root/backup.tar";
    show(&lab.run(&[COORDINATOR, "backup", "--data", DATA, file])?);
    let second = Machine::start("lab-2")?;
    second.cable(&host, 2)?;
    let before_second = State::of(&second)?;
    second.put(&lab.path(file), file)?;
    drop(lab);
    install(&second, out, &[COORDINATOR])?;
    deliver(&host, "coordinator", &second, COORDINATOR)?;
    show(&second.run(&[COORDINATOR, "restore", "--data", DATA, file])?);
    second.run(&["systemctl", "enable", "--now", COORDINATOR])?;
    a_job(&host, &PATIENCE)?;
    let after = self::jobs(&host)?;
    ensure!(after.len() == jobs.len() + 1, "of {} jobs before there are {}", jobs.len(), after.len() - 1);

    step("purging");
    second.run(&["systemctl", "stop", COORDINATOR])?;
    purge(&second, &[COORDINATOR], &before_second)?;
    purge(&host, &[WORKER, CLIENT], &before)?;
    step("two hosts ran jobs with certificates, went on from a backup, and were purged: nothing is left");
    Ok(())
}

/// The coordinator's data.
const DATA: &str = "/var/lib/edgeprof/coordinator";

fn install(machine: &Machine, out: &Path, programs: &[&str]) -> Result<()> {
    let files = packages(machine, out, programs)?;
    let mut words = vec!["apt-get", "install", "-qq", "--no-install-recommends"];
    words.extend(files.iter().map(String::as_str));
    machine.run(&words).map(drop)
}

fn wants_certificates(machine: &Machine, daemon: &str) -> Result<()> {
    ensure!(machine.run(&["systemctl", "start", daemon]).is_err(), "{daemon} serves without certificates");
    let (code, state) =
        (property(machine, daemon, "ExecMainStatus")?, property(machine, daemon, "ActiveState")?);
    ensure!(code == NEEDS_A_PERSON && state == "failed", "{daemon} is {state} and ended with {code}");
    let log = machine.run(&["journalctl", "-u", daemon, "-o", "cat", "--no-pager"])?;
    ensure!(log.contains("edgeprof pki issue"), "{daemon} does not say what to do:\n{log}");
    Ok(())
}

/// Copies what was issued to where the daemon's configuration looks for it.
fn deliver(authority: &Machine, issued: &str, to: &Machine, daemon: &str) -> Result<()> {
    let folder = format!("/etc/edgeprof/tls/{}", daemon.trim_start_matches("edgeprof-"));
    text(
        Command::new("cp").arg("-r").arg(authority.path(&format!("{ISSUED}/{issued}"))).arg(to.path(&folder)),
    )?;
    to.run(&["chown", "-R", &format!("{daemon}:"), &folder]).map(drop)
}

fn jobs(machine: &Machine) -> Result<Vec<serde_json::Value>> {
    let said = machine.run(&[CLIENT, "jobs", "-o", "json"])?;
    serde_json::from_str(&said).with_context(|| format!("edgeprof jobs says {said:?}"))
}
