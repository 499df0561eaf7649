//! A worker that is killed or stopped in the middle of its tasks: when they start elsewhere, and whether a task
//! that had ended is run again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Result, ensure};
use edgeprof_scheduler::Config;
use nix::sys::signal::Signal;

use super::millis_between;
use crate::{
    cluster::{Boards, Cluster, Hosts, filter, until},
    figure::Figure,
    jobs::{self, Load},
    log::{self, Attempt, Micros},
};

/// Tasks that are recorded before the blow.
const ENDED: usize = 500;

/// And that run when it falls, on both workers together. Several are lost with one, as is usual: such a death is
/// counted half for each, and none of them has to be alone next time.
const RUNNING: usize = 4;

/// Long enough to be running still when the worker has been given up.
const LONG: Duration = Duration::from_secs(30);

const BOARDS: &[Boards] = &[Boards::noop(4, Duration::ZERO), Boards::noop(RUNNING, LONG)];

/// How often it is looked whether a task has started elsewhere. The times are those of the logs.
const PACE: Duration = Duration::from_millis(50);

const SOURCE: &str = "clock before the signal, until the other worker's log has the task's start";

pub(crate) async fn measure(folder: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let limits = Config::default();
    let seconds = |time: Duration| Some(time.as_secs_f64());
    let (kill, again_killed) = blows(folder, Signal::SIGKILL, rounds).await?;
    let (stop, again_stopped) = blows(folder, Signal::SIGSTOP, rounds).await?;
    let source = "both workers' logs: starts after the signal of tasks that had been recorded before it";
    Ok(vec![
        Figure::new("SIGKILL of a worker, its tasks start elsewhere", "s", &kill, SOURCE)
            .always_below(2.0)
            .beside("refused dials are proof after", seconds(limits.refused_apart)),
        Figure::new("SIGSTOP of a worker, its tasks start elsewhere", "s", &stop, SOURCE)
            .always_below(9.0)
            .beside("silence is death after", seconds(limits.dead_max)),
        Figure::new(
            "recorded tasks that ran again",
            "tasks",
            &[(again_killed + again_stopped) as f64],
            source,
        )
        .always_below(1.0),
    ])
}

/// Seconds until each task of the struck worker started elsewhere, and how many recorded ones ran again.
async fn blows(folder: &Path, signal: Signal, rounds: usize) -> Result<(Vec<f64>, usize)> {
    eprintln!("==> {signal} of one of two workers with running tasks");
    let (mut times, mut again) = (Vec::new(), 0);
    for round in 0..rounds {
        let (found, repeated) = blow(folder, &format!("{signal}-{round}"), signal).await?;
        let list: Vec<String> = found.iter().map(|time| format!("{time:.2}")).collect();
        eprintln!("    after {} s", list.join(", "));
        times.extend(found);
        again += repeated;
    }
    Ok((times, again))
}

async fn blow(folder: &Path, name: &str, signal: Signal) -> Result<(Vec<f64>, usize)> {
    let filter = filter(&[log::ATTEMPTS]);
    let mut cluster = Cluster::start(folder, name, Hosts::Real(&[BOARDS, BOARDS]), &filter).await?;
    let client = cluster.client.clone();
    let quick = Load::new(&client, "takes=0ms").await?.submit(&client, ENDED).await?;
    jobs::all_done(&client, &quick, ENDED).await?;
    let long = Load::new(&client, &format!("takes={}ms", LONG.as_millis())).await?;
    long.submit(&client, RUNNING).await?;
    let running = |cluster: &Cluster, worker: usize| -> Vec<Attempt> {
        let attempts = log::attempts(&cluster.workers[worker].log());
        attempts.into_iter().filter(|attempt| attempt.ended.is_none()).collect()
    };
    until("the long tasks to run", PACE, async || {
        Ok((running(&cluster, 0).len() + running(&cluster, 1).len() == RUNNING).then_some(()))
    })
    .await?;
    let struck = usize::from(running(&cluster, 1).len() > running(&cluster, 0).len());
    let lost: BTreeSet<String> = running(&cluster, struck).into_iter().map(|a| a.task).collect();
    ensure!(lost.len() >= RUNNING / 2, "the worker with more of {RUNNING} tasks runs {}", lost.len());
    let recorded: BTreeSet<String> =
        log_of_both(&cluster).into_iter().filter(|a| a.ended.is_some()).map(|a| a.task).collect();
    ensure!(recorded.len() == ENDED, "{} of {ENDED} tasks have ended", recorded.len());

    let at = log::now();
    cluster.workers[struck].signal(signal);
    let starts = until("the tasks of the struck worker to start elsewhere", PACE, async || {
        let elsewhere = log::attempts(&cluster.workers[1 - struck].log());
        let starts = starts_of(&lost, &elsewhere, at);
        Ok((starts.len() == lost.len()).then_some(starts))
    })
    .await?;
    if signal == Signal::SIGSTOP {
        // What it tells when it wakes up is not to change anything.
        cluster.workers[struck].signal(Signal::SIGCONT);
        until("the stopped worker to be back", PACE, async || {
            let workers = cluster.client.workers().await?;
            Ok(workers.iter().all(|worker| worker.health == "alive").then_some(()))
        })
        .await?;
    } else {
        cluster.workers[struck].kill();
    }
    let again = log_of_both(&cluster);
    let again = again.iter().filter(|a| a.started > at && recorded.contains(&a.task)).count();
    let times = starts.values().map(|start| millis_between(at, *start) / 1e3).collect();
    Ok((times, again))
}

fn log_of_both(cluster: &Cluster) -> Vec<Attempt> {
    cluster.workers.iter().flat_map(|worker| log::attempts(&worker.log())).collect()
}

/// First start of each of these tasks after `at`.
fn starts_of(tasks: &BTreeSet<String>, attempts: &[Attempt], at: Micros) -> BTreeMap<String, Micros> {
    let mut starts = BTreeMap::new();
    for attempt in attempts.iter().filter(|a| a.started > at && tasks.contains(&a.task)) {
        starts.entry(attempt.task.clone()).or_insert(attempt.started);
    }
    starts
}
