//! A simulated lab around the scheduler: workers, network and coordinator fail in every way at times that a
//! seed decides, and the promises must hold.
//!
//! `SIM_SEED=17 cargo test -p edgeprof-scheduler sim` replays one seed and prints its events;
//! `SIM_SEEDS=10000` runs that many.

mod checks;
mod coordinator;
mod faults;
mod lab;
mod net;
mod rng;
mod worker;

use lab::{Lab, Plan};

fn number(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "the test's knob, not the scheduler's")]
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

fn each_seed(plan: fn(u64) -> Plan) {
    if let Some(seed) = number("SIM_SEED") {
        Lab::new(plan(seed), true).run();
        return;
    }
    for seed in 0..number("SIM_SEEDS").unwrap_or(100) {
        let run = std::panic::catch_unwind(|| Lab::new(plan(seed), false).run());
        if let Err(panic) = run {
            eprintln!("replay with SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_lab_whose_streams_keep_order_survives_every_crash() {
    each_seed(Plan::ordered);
}

#[test]
fn a_lab_whose_frames_are_lost_doubled_and_reordered_survives_too() {
    each_seed(Plan::wild);
}

#[test]
fn a_calm_lab_wastes_nothing() {
    for seed in 0..20 {
        let end = Lab::new(Plan::calm(seed), false).run();
        assert_eq!((end.rejected, end.lost), (0, 0), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..5 {
        let history = || Lab::new(Plan::wild(seed), false).run();
        assert_eq!(history(), history(), "seed {seed}");
    }
}
