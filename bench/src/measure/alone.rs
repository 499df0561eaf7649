//! One task alone in the cluster, from its submission to its durable result.

use std::{path::Path, time::Duration};

use anyhow::Result;

use super::millis;
use crate::{
    cluster::{Boards, Cluster, Hosts, filter},
    figure::{Figure, Spread},
    jobs::Load,
    log, store,
};

/// Tasks, one after the other.
const TASKS: usize = 100;

/// After each block the same commits are replayed, since a disk is not equally fast all the time.
const BLOCKS: usize = 10;

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
    for _ in 0..BLOCKS {
        let from = log::now();
        for _ in 0..TASKS / BLOCKS {
            times.push(millis(load.alone(&cluster.client).await?));
        }
        let commits = log::commits(&cluster.coordinator.log());
        let commits: Vec<_> =
            commits.into_iter().filter(|(at, _)| *at >= from).map(|(_, commit)| commit).collect();
        count += commits.len();
        single.extend(store::replay(folder, &commits)?.into_iter().map(millis));
    }
    drop(cluster);

    let limit = Spread::of(&single).map(|spread| COMMITS as f64 * spread.median);
    let source = "client's clock from SubmitJob until WatchJob says that it has succeeded; commits of the same \
                  sizes in a fresh store on the same disk";
    let alone =
        Figure::new("one task alone", "ms", &times, source).beside("3 commits of the store alone", limit);
    let alone = match limit {
        Some(limit) => alone.below(limit),
        None => alone,
    };
    let count = [count as f64 / TASKS as f64];
    Ok(vec![
        alone,
        Figure::new(
            "commits of one task alone",
            "commits/task",
            &count,
            "the coordinator's log of its commits",
        ),
    ])
}
