//! Rounds of many no-op tasks, and what each cost whom.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    cluster::Cluster,
    jobs::{self, Load},
    log::{self, Micros},
    process,
};

/// One round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) tasks: usize,
    pub(crate) time: Duration,
    /// Processor time of the coordinator, of all workers, and of this process, which is the client.
    pub(crate) cpu: [Duration; 3],
    /// When it was, by the clock of the logs.
    pub(crate) span: (Micros, Micros),
}

impl Round {
    pub(crate) fn rate(&self) -> f64 {
        self.tasks as f64 / self.time.as_secs_f64()
    }

    /// Microseconds of `cpu[who]` a task.
    pub(crate) fn cost(&self, who: usize) -> f64 {
        self.cpu[who].as_secs_f64() * 1e6 / self.tasks as f64
    }
}

/// Runs `rounds` rounds of `tasks` tasks each, from the first submission to the last durable result. What
/// happens once in a life has happened before the first: a store has grown, boards have their image, and run times
/// are known.
pub(crate) async fn run(cluster: &Cluster, tasks: usize, rounds: usize) -> Result<Vec<Round>> {
    let load = Load::new(&cluster.client, "noop").await?;
    let first = load.submit(&cluster.client, tasks).await?;
    jobs::all_done(&cluster.client, &first, tasks).await?;
    let mut list = Vec::new();
    for _ in 0..rounds {
        let (coordinator, workers) = cluster.cpu()?;
        let client = process::cpu(std::process::id())?;
        let (from, start) = (log::now(), Instant::now());
        let jobs = load.submit(&cluster.client, tasks).await?;
        jobs::all_done(&cluster.client, &jobs, tasks).await?;
        let (time, to) = (start.elapsed(), log::now());
        let (coordinator_now, workers_now) = cluster.cpu()?;
        let client_now = process::cpu(std::process::id())?;
        let cpu = [coordinator_now - coordinator, workers_now - workers, client_now - client];
        let round = Round { tasks, time, cpu, span: (from, to) };
        eprintln!(
            "    {tasks} tasks in {:.2} s: {:.0} a second; coordinator {:.0} µs a task, {:.0} MiB",
            time.as_secs_f64(),
            round.rate(),
            round.cost(0),
            process::memory(cluster.coordinator.id())?.0
        );
        list.push(round);
    }
    Ok(list)
}
