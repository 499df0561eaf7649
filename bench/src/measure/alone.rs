//! One task alone in the cluster, from its submission to its durable result.

use std::{path::Path, time::Duration};

use anyhow::Result;

use super::millis;
use crate::{
    cluster::{Boards, Cluster, Hosts, filter},
    figure::{Figure, Spread},
    jobs::Load,
    log,
    store::Replay,
};

/// Tasks, one after the other.
const TASKS: usize = 100;

/// After each block the same commits are replayed, since a disk is not equally fast all the time.
const BLOCKS: usize = 10;

/// Before each of these, about as long as the coordinator waits between two of its own: a processor that has just slept
/// is slower than one that does nothing else.
const PAUSE: Duration = Duration::from_millis(1);

/// Before the first that counts: the image is built, and every connection is up.
const WARMUP: usize = 3;

/// The job, the lease, and the result: each must be durable before the next step leaves the coordinator.
const COMMITS: usize = 3;

pub(crate) async fn measure(folder: &Path) -> Result<Vec<Figure>> {
    eprintln!("==> {TASKS} tasks, each alone");
    let boards: &[Boards] = &[Boards::noop(1, Duration::ZERO)];
    let filter = filter(&[log::COMMITS]);
    let cluster = Cluster::start(folder, "alone", Hosts::Real(&[boards]), &filter).await?;
    let load = Load::new(&cluster.client, "noop").await?;
    for _ in 0..WARMUP {
        load.alone(&cluster.client).await?;
    }
    let (mut times, mut single, mut count) = (Vec::new(), Vec::new(), 0);
    let before_all = cluster.cpu()?;
    let (mut alone_store, mut replayed) = (Replay::new(folder)?, 0);
    for _ in 0..BLOCKS {
        let from = log::now();
        for _ in 0..TASKS / BLOCKS {
            times.push(millis(load.alone(&cluster.client).await?));
        }
        let commits = log::commits(&cluster.coordinator.log());
        let (before, block) = commits.split_at(commits.partition_point(|(at, _)| *at < from));
        count += block.len();
        // The store is to be as large as the coordinator's.
        alone_store.take(before.iter().skip(replayed).map(|(_, commit)| commit), Duration::ZERO)?;
        let took = alone_store.take(block.iter().map(|(_, commit)| commit), PAUSE)?;
        single.extend(took.into_iter().map(millis));
        replayed = commits.len();
    }
    // They do nothing while commits are replayed.
    let after_all = cluster.cpu()?;
    drop(cluster);

    let limit = Spread::of(&single).map(|spread| COMMITS as f64 * spread.median);
    let source = "client's clock from SubmitJob until WatchJob says that it has succeeded; commits of as many \
                  rows of every sort in a store like it on the same disk, one every millisecond";
    let alone =
        Figure::new("one task alone", "ms", &times, source).beside("3 commits of the store alone", limit);
    let alone = match limit {
        Some(limit) => alone.below(limit),
        None => alone,
    };
    let count = [count as f64 / TASKS as f64];
    let each = |before: Duration, after: Duration| [millis(after - before) / TASKS as f64];
    let cost = |who: &str, times: &[f64]| {
        let source = "utime and stime of /proc/PID/stat; a processor that was asleep is slow at first";
        Figure::new(format!("processor time of one task alone, {who}"), "ms", times, source)
    };
    Ok(vec![
        alone,
        Figure::new(
            "commits of one task alone",
            "commits/task",
            &count,
            "the coordinator's log of its commits",
        ),
        cost("coordinator", &each(before_all.0, after_all.0)),
        cost("worker", &each(before_all.1, after_all.1)),
    ])
}
