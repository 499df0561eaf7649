//! A coordinator that is killed while many tasks wait, and started again on its data.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use edgeprof_client::Client;
use edgeprof_tests::Daemon;

use super::{millis, millis_between};
use crate::{
    cluster::{Boards, Cluster, Hosts, filter, until},
    figure::{Figure, Spread},
    jobs::Load,
    log, store,
};

/// Its boards are busy for longer than the whole measurement, so that what was submitted waits.
const BUSY: &[Boards] = &[Boards::noop(1, Duration::from_secs(3_600))];

/// A worker of the second life: what starts on it was dispatched then.
const FREE: &[Boards] = &[Boards::noop(1, Duration::ZERO)];

/// Seconds.
const GOAL: f64 = 2.0;

/// Between two calls of a client that waits for the coordinator.
const PACE: Duration = Duration::from_millis(5);

pub(crate) async fn measure(folder: &Path, queued: usize, rounds: usize) -> Result<Vec<Figure>> {
    eprintln!("==> a coordinator with {queued} queued tasks, killed and started again");
    let filter = filter(&[log::ATTEMPTS]);
    let mut cluster = Cluster::start(folder, "queued", Hosts::Real(&[BUSY]), &filter).await?;
    let jobs = Load::new(&cluster.client, "noop").await?.submit(&cluster.client, queued).await?;
    let limit = u32::try_from(jobs.len())?;
    until("every task to be made ready", PACE * 20, async || {
        let list = cluster.client.jobs(limit).await?;
        let last = list.first().context("the jobs are there")?;
        Ok(last.queue_position.is_some().then_some(()))
    })
    .await?;
    let (mut serves, mut dispatches, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        cluster.coordinator.kill();
        reads.push(store::read_all(&cluster.data())?.as_secs_f64());
        let name = format!("free-{round}");
        cluster.add_worker(&name, FREE, &filter)?;
        let (command, files) = cluster.coordinator_again(&filter);
        let url = cluster.coordinator.url().to_owned();
        let (at, start) = (log::now(), Instant::now());
        let starting = tokio::task::spawn_blocking(move || Daemon::start("coordinator", &files, command));
        let client = until("the coordinator to list its jobs", PACE, async || {
            let Ok(client) = Client::connect(&url).await else { return Ok(None) };
            let client = client.with_patience(Duration::ZERO);
            let Ok(list) = client.jobs(limit).await else { return Ok(None) };
            let tasks: u32 = list.iter().map(|job| job.tasks_total).sum();
            ensure!(tasks as usize == queued, "{tasks} of {queued} tasks are left");
            Ok(Some(client))
        })
        .await?;
        serves.push(start.elapsed().as_secs_f64());
        cluster.coordinator = starting.await?;
        cluster.client = client.with_patience(Duration::from_secs(30));
        let worker = cluster.workers.last().context("it was added")?;
        let first = until("a task to be dispatched", PACE, async || {
            Ok(log::attempts(&worker.log()).first().map(|attempt| attempt.started))
        })
        .await?;
        dispatches.push(millis_between(at, first) / 1e3);
        eprintln!(
            "    serves after {:.0} ms, dispatches after {:.0} ms",
            millis(Duration::from_secs_f64(serves[round])),
            dispatches[round] * 1e3
        );
        // The next round's worker is to be the only one with a free board.
        let mut worker = cluster.workers.pop().context("it was added")?;
        worker.kill();
    }
    let read = Spread::of(&reads).map(|spread| spread.median);
    let beside = "opening the store and reading every row";
    Ok(vec![
        Figure::new(format!("restart with {queued} queued tasks, serves"), "s", &serves, {
            "clock from the start of the process to the first answer to ListJobs, which has every task"
        })
        .always_below(GOAL)
        .beside(beside, read),
        Figure::new(format!("restart with {queued} queued tasks, first dispatch"), "s", &dispatches, {
            "clock from the start of the process to the first line of a start in the log of a worker that is new"
        })
        .beside(beside, read),
    ])
}
