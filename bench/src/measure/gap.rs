//! How long a board does nothing between two tasks that wait for it.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Result;
use edgeprof_common::Quant;

use super::millis_between;
use crate::{
    cluster::{Boards, Cluster, Hosts, filter},
    figure::{Figure, Spread, quantile},
    jobs::{self, Load},
    log::{self, Attempt},
};

/// No-op boards, what a task takes on them, and tasks for each.
const BOARDS: usize = 4;
const RUN: Duration = Duration::from_millis(50);
const TASKS: usize = 100;

/// Milliseconds.
const GOAL: f64 = 2.0;

/// Real firmware in an emulator.
const KIND: &str = "riscv32";

/// Tasks on it: with one image, and with one and another in turn.
const EMULATED: usize = 12;

const SOURCE: &str = "the worker's log: from the line of one attempt's end to that of the next one's start on \
                      the same board";

pub(crate) async fn measure(folder: &Path) -> Result<Vec<Figure>> {
    eprintln!("==> gaps between tasks of {RUN:?} on {BOARDS} no-op boards");
    let boards: &[Boards] = &[Boards::noop(BOARDS, RUN)];
    let filter = filter(&[log::ATTEMPTS]);
    let cluster = Cluster::start(folder, "noop", Hosts::Real(&[boards]), &filter).await?;
    let load = Load::new(&cluster.client, "noop").await?;
    let jobs = load.submit(&cluster.client, BOARDS * TASKS).await?;
    jobs::all_done(&cluster.client, &jobs, BOARDS * TASKS).await?;
    let gaps = gaps(&log::attempts(&cluster.workers[0].log()));
    drop(cluster);
    let gaps: Vec<f64> = gaps.into_iter().map(|gap| gap.millis).collect();
    let p95 = quantile(&gaps, 0.95);
    let mut figures = vec![
        Figure::new("gap of a no-op board", "ms", &gaps, SOURCE)
            .below(GOAL)
            .beside("its task", Some(RUN.as_secs_f64() * 1e3)),
        Figure::new("gap of a no-op board, p95", "ms", p95.as_slice(), SOURCE),
    ];
    figures.extend(emulated(folder).await?);
    Ok(figures)
}

async fn emulated(folder: &Path) -> Result<Vec<Figure>> {
    eprintln!("==> gaps between tasks on an emulated {KIND}");
    let boards: &[Boards] = &[Boards { kind: KIND, count: 1, run: None }];
    let filter = filter(&[log::ATTEMPTS]);
    let cluster = Cluster::start(folder, "emulated", Hosts::Real(&[boards]), &filter).await?;
    let load = Load::new(&cluster.client, KIND).await?;
    let mut jobs = load.submit(&cluster.client, EMULATED).await?;
    for turn in 0..EMULATED {
        let quant = if turn % 2 == 0 { Quant::Q4_0 } else { Quant::Q8_0 };
        jobs.extend(load.quant(quant).submit(&cluster.client, 1).await?);
    }
    jobs::all_done(&cluster.client, &jobs, 2 * EMULATED).await?;
    let attempts = log::attempts(&cluster.workers[0].log());
    drop(cluster);
    let runs: Vec<f64> = attempts.iter().filter_map(|a| Some(millis_between(a.started, a.ended?))).collect();
    let run = Spread::of(&runs).map(|spread| spread.median);
    let gaps = gaps(&attempts);
    let figures = [("same image", false), ("another image", true)].map(|(name, changed)| {
        let gaps: Vec<f64> = gaps.iter().filter(|gap| gap.changed == changed).map(|gap| gap.millis).collect();
        Figure::new(format!("gap of an emulated {KIND}, {name}"), "ms", &gaps, SOURCE).beside("its task", run)
    });
    Ok(figures.into())
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Gap {
    millis: f64,
    /// Whether the board had to get another image.
    changed: bool,
}

/// Between each two attempts that followed each other on a board.
fn gaps(attempts: &[Attempt]) -> Vec<Gap> {
    let mut last: BTreeMap<&str, &Attempt> = BTreeMap::new();
    let mut gaps = Vec::new();
    for attempt in attempts {
        let before = last.insert(&attempt.board, attempt);
        if let Some((before, ended)) = before.and_then(|before| Some((before, before.ended?))) {
            let millis = millis_between(ended, attempt.started);
            gaps.push(Gap { millis, changed: before.image != attempt.image });
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_between_two_attempts_on_one_board() {
        let attempt = |board: &str, image: &str, started, ended| Attempt {
            task: String::new(),
            board: board.into(),
            image: image.into(),
            started,
            ended: Some(ended),
        };
        let gaps = gaps(&[
            attempt("a", "x", 0, 1_000),
            attempt("b", "x", 500, 5_000),
            attempt("a", "x", 1_500, 2_000),
            attempt("a", "y", 4_000, 5_000),
        ]);
        assert_eq!(gaps, [Gap { millis: 0.5, changed: false }, Gap { millis: 2.0, changed: true }]);
    }
}
