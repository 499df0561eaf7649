//! Many workers: what their heartbeats cost the coordinator, and whether it dispatches as fast as with few.
//!
//! Workers are played by one process, since a thousand real ones would want this machine for themselves. The
//! small cluster that it is compared with is played too, and both by turns: a machine is not equally fast all the time.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::rounds::{self, Round};
use crate::{
    cluster::{Cluster, Hosts, filter},
    figure::{Figure, Spread},
    process,
};

/// Boards of each worker.
const BOARDS: usize = 10;

/// The small cluster.
const SMALL: Hosts<'_> = Hosts::Played { workers: 4, boards: 16 };

/// After the last session is up, until sessions have settled; then so long only heartbeats flow.
const SETTLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(20);

/// How often the large cluster has its turn. The small one has one more, around each of them.
const TURNS: usize = 3;

/// Of one core, of the coordinator.
const SHARE: f64 = 0.25;

/// MiB.
const MEMORY: f64 = 300.0;

/// Of the small cluster's rate.
const RATE: f64 = 0.8;

pub(crate) async fn measure(folder: &Path, workers: u16, tasks: usize, rounds: usize) -> Result<Vec<Figure>> {
    let workers = usize::from(workers);
    let filter = filter(&[]);
    let small = async |turn: usize| {
        eprintln!("==> no-op tasks through 4 played workers of 16 boards");
        let cluster = Cluster::start(folder, &format!("small-{turn}"), SMALL, &filter).await?;
        rounds::run(&cluster, tasks, rounds).await
    };
    let mut few = small(0).await?;
    let (mut many, mut quiet, mut most) = (Vec::new(), None, 0_f64);
    for turn in 1..=TURNS {
        eprintln!("==> {workers} played workers of {BOARDS} boards");
        let hosts = Hosts::Played { workers, boards: BOARDS };
        let cluster = Cluster::start(folder, &format!("large-{turn}"), hosts, &filter).await?;
        tokio::time::sleep(SETTLE).await;
        if quiet.is_none() {
            quiet = Some(Quiet::watch(&cluster).await?);
        }
        many.extend(rounds::run(&cluster, tasks, rounds).await?);
        most = most.max(process::memory(cluster.coordinator.id())?.1);
        drop(cluster);
        few.extend(small(turn).await?);
    }
    let quiet = quiet.context("the large cluster had no turn")?;

    let rates = |list: &[Round]| list.iter().map(Round::rate).collect::<Vec<_>>();
    let costs = |list: &[Round], who| list.iter().map(|round| round.cost(who)).collect::<Vec<_>>();
    let median = |values: &[f64]| Spread::of(values).map(|spread| spread.median);
    let base = median(&rates(&few));
    let rate = Figure::new(format!("no-op tasks, {workers} workers"), "tasks/s", &rates(&many), {
        "as for the four worker processes; workers are played by one process"
    })
    .beside("4 workers of 16 boards, played", base);
    let rate = match base {
        Some(base) => rate.at_least(RATE * base),
        None => rate,
    };
    let name = |what: &str| format!("{what}, {workers} workers of {BOARDS} boards");
    let stat = "utime and stime of /proc/PID/stat";
    let apart = "utime and stime of /proc/PID/stat, each process on a core of its own";
    Ok(vec![
        Figure::new(name("heartbeats, coordinator"), "cores", &[quiet.shares.0], apart)
            .below(SHARE)
            .beside("the player of all workers", Some(quiet.shares.1)),
        Figure::new(name("memory, coordinator, idle"), "MiB", &[quiet.memory], "VmRSS of /proc/PID/status")
            .below(MEMORY),
        Figure::new(name("memory, coordinator, at most"), "MiB", &[most], {
            "VmHWM of /proc/PID/status, after all rounds of a turn"
        })
        .below(MEMORY),
        rate,
        Figure::new(
            format!("processor time, coordinator, {workers} workers"),
            "µs/task",
            &costs(&many, 0),
            stat,
        )
        .beside("4 workers of 16 boards, played", median(&costs(&few, 0))),
        Figure::new(format!("processor time, player, {workers} workers"), "µs/task", &costs(&many, 1), stat)
            .beside("4 workers of 16 boards, played", median(&costs(&few, 1))),
    ])
}

/// A cluster in which nothing happens but heartbeats.
struct Quiet {
    /// Of one core, of the coordinator and of the player.
    shares: (f64, f64),
    /// Of the coordinator, in MiB.
    memory: f64,
}

impl Quiet {
    async fn watch(cluster: &Cluster) -> Result<Self> {
        let (coordinator, player) = (cluster.coordinator.id(), cluster.workers[0].id());
        // Apart from each other, so that neither is charged for waking the other.
        process::pin(coordinator, 0)?;
        process::pin(player, std::thread::available_parallelism()?.get() - 1)?;
        let (before, start) = (cluster.cpu()?, Instant::now());
        tokio::time::sleep(WATCHED).await;
        let (after, time) = (cluster.cpu()?, start.elapsed().as_secs_f64());
        process::unpin(coordinator)?;
        process::unpin(player)?;
        let share = |before: Duration, after: Duration| (after - before).as_secs_f64() / time;
        let shares = (share(before.0, after.0), share(before.1, after.1));
        let (memory, _) = process::memory(coordinator)?;
        eprintln!(
            "    heartbeats: coordinator {:.3}, player {:.3} of a core each; {memory:.0} MiB",
            shares.0, shares.1
        );
        Ok(Self { shares, memory })
    }
}
