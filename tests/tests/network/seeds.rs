//! Many seeds of faults, and that a seed replays.

use std::{env, time::Duration};

use super::{
    faults::Plan,
    lab::{Lab, Shape},
};

/// Seeds that every run of the tests takes.
const SEEDS: u64 = 8;

/// How long after the last fault all work is done: a worker that is taken for dead is given up after seven
/// seconds, a stale session after fifteen, and after a restart silent workers are waited for 30.
const AFTERWARDS: Duration = Duration::from_secs(120);

/// Plays a seed and gives its story.
fn play(seed: u64) -> Vec<String> {
    let shape = Shape { seed, ..Shape::default() };
    let mut lab = Lab::start(&shape);
    for _ in 0..3 {
        lab.submit(40);
    }
    Plan::of(seed, shape.boards.len()).play(&mut lab);
    lab.until("every task to be recorded", AFTERWARDS, |lab| lab.is_done());
    assert!(lab.tasks().all(|task| lab.coordinator.ledger.has_record(task)));
    lab.story.lines()
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

#[test]
fn whatever_the_network_does_each_task_is_recorded_once_and_no_result_is_lost() {
    if let Some(seed) = number("NET_SEED") {
        return play(seed).iter().for_each(|line| println!("{line}"));
    }
    for seed in 0..number("NET_SEEDS").unwrap_or(SEEDS) {
        let failed = std::panic::catch_unwind(|| play(seed)).is_err();
        assert!(
            !failed,
            "seed {seed} failed; replay it with\n    NET_SEED={seed} cargo test -p edgeprof-tests --test network \
             seeds -- --nocapture"
        );
    }
}

#[test]
fn a_seed_replays() {
    let (first, second) = (play(SEEDS), play(SEEDS));
    let differ = first.iter().zip(&second).position(|(a, b)| a != b);
    let at = differ.map(|at| (&first[at], &second[at]));
    assert!(first == second, "one seed told two stories, which part at {at:?}");
}
