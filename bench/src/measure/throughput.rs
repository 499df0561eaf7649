//! No-op tasks submitted, dispatched and durably recorded in a second, with four worker processes of 16 boards.

use std::{path::Path, time::Duration};

use anyhow::Result;

use super::rounds;
use crate::{
    cluster::{Boards, Cluster, Hosts, filter},
    figure::{Figure, Spread},
    log, peers,
    store::Replay,
};

/// Tasks a second, at least.
const GOAL: f64 = 5_000.0;

const BOARDS: &[Boards] = &[Boards::noop(16, Duration::ZERO)];

/// What the rounds took whom, from the first submission to the last durable result.
const SOURCE: &str = "client's clock from the first SubmitJob until ListJobs, which shows committed results \
                      only, has every job succeeded; asked every 50 ms";

pub(crate) async fn measure(
    folder: &Path,
    tasks: usize,
    rounds: usize,
    python: &Path,
) -> Result<Vec<Figure>> {
    eprintln!("==> no-op tasks through 4 worker processes of 16 boards");
    let filter = filter(&[log::COMMITS]);
    let cluster = Cluster::start(folder, "small", Hosts::Real(&[BOARDS; 4]), &filter).await?;
    let list = rounds::run(&cluster, tasks, rounds).await?;
    let commits = log::commits(&cluster.coordinator.log());
    drop(cluster);

    let (mut alone, mut rows, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for round in &list {
        let (from, to) = round.span;
        let during = commits.iter().filter(|(at, _)| (from..=to).contains(at));
        let during: Vec<_> = during.map(|(_, commit)| commit).collect();
        let time: Duration = Replay::new(folder)?.take(during.iter().copied(), Duration::ZERO)?.iter().sum();
        if !during.is_empty() {
            alone.push(round.tasks as f64 / time.as_secs_f64());
            let put: u64 = during.iter().map(|commit| commit.rows).sum();
            rows.push(put as f64 / round.tasks as f64);
            sizes.push(put as f64 / during.len() as f64);
        }
    }
    let peers: Vec<_> = peers::ALL.iter().filter_map(|peer| peer.run(python, tasks, rounds)).collect();

    let rates: Vec<f64> = list.iter().map(rounds::Round::rate).collect();
    let mut rate = Figure::new("no-op tasks, durable", "tasks/s", &rates, SOURCE)
        .at_least(GOAL)
        .beside("the store alone, same commits", Spread::of(&alone).map(|spread| spread.median));
    for (name, values) in peers {
        rate = rate.beside(name, Spread::of(&values).map(|spread| spread.median));
    }
    let mut figures = vec![rate];
    for (who, name) in ["coordinator", "worker processes", "client"].into_iter().enumerate() {
        let costs: Vec<f64> = list.iter().map(|round| round.cost(who)).collect();
        let source = "utime and stime of /proc/PID/stat over the same rounds";
        figures.push(Figure::new(format!("processor time, {name}"), "µs/task", &costs, source));
    }
    let source = "the coordinator's log of its commits";
    figures.push(Figure::new("rows that are put", "rows/task", &rows, source).below(4.5));
    figures.push(Figure::new("rows in one commit", "rows", &sizes, source));
    Ok(figures)
}
