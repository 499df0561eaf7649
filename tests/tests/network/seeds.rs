//! Many seeds of faults, and that a seed replays.

use std::{
    env,
    process::{Command, Output},
    time::Duration,
};

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

/// Plays a seed in a process of its own: in which order a runtime drops its tasks when its host crashes depends on
/// their numbers, which the process counts.
fn play_apart(seed: u64) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "seeds::whatever_the_network_does_no_task_and_no_result_is_lost"])
        .env("NET_SEED", seed.to_string())
        .output()
        .unwrap()
}

#[test]
fn whatever_the_network_does_no_task_and_no_result_is_lost() {
    if let Some(seed) = number("NET_SEED") {
        return play(seed).iter().for_each(|line| println!("{line}"));
    }
    for seed in 0..number("NET_SEEDS").unwrap_or(SEEDS) {
        let Output { status, stdout, stderr } = play_apart(seed);
        assert!(
            status.success(),
            "{}{}\nseed {seed} failed; replay it with\n    NET_SEED={seed} cargo test -p edgeprof-tests --test \
             network seeds::whatever -- --nocapture",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr),
        );
    }
}

#[test]
fn a_seed_replays() {
    let story = || -> Vec<String> {
        let output = String::from_utf8(play_apart(SEEDS).stdout).unwrap();
        // The other lines are the test runner's.
        let told = |line: &&str| line.get(..8).is_some_and(|at| at.trim().parse::<u64>().is_ok());
        output.lines().filter(told).map(str::to_owned).collect()
    };
    let (first, second) = (story(), story());
    let differ = first.iter().zip(&second).position(|(a, b)| a != b);
    let at = differ.map(|at| (&first[at], &second[at]));
    assert!(first.len() > 100, "{first:?}");
    assert!(first == second, "one seed told two stories, which part at {at:?}");
}
