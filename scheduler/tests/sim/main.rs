//! A simulated lab around the scheduler: workers, network, stores and coordinators fail in every way at times
//! that a seed decides, and the promises must hold. `cargo xtask sim` runs many seeds.

mod campaign;
mod lab;

use edgeprof_scheduler::Policy;

use lab::{Comparison, Plan, Shares};

const POLICIES: [Policy; 3] = [Policy::LeastCompletion, Policy::LeastLoaded, Policy::RoundRobin];

fn plan(name: &str) -> Plan {
    Plan::named(name).expect("a plan of that name")
}

/// Seeds of each plan that every test run tries.
const SEEDS: u64 = 200;

#[test]
fn a_lab_whose_streams_keep_order_survives_every_crash() {
    campaign::each(plan("crashes"), 0..SEEDS);
}

#[test]
fn a_lab_whose_frames_are_lost_doubled_and_reordered_survives_too() {
    campaign::each(plan("wild"), 0..SEEDS);
}

#[test]
fn boards_that_fail_are_told_from_tasks_that_crash_them() {
    campaign::each(plan("bench"), 0..SEEDS);
}

#[test]
fn two_lives_copies_and_restored_workers_double_nothing() {
    campaign::each(plan("lives"), 0..SEEDS);
}

#[test]
fn a_coordinator_that_stood_still_gives_nobody_up() {
    campaign::each(plan("stalls"), 0..SEEDS);
}

#[test]
fn a_coordinator_that_was_blind_gives_nobody_up() {
    campaign::each(plan("pauses"), 0..SEEDS);
}

#[test]
fn a_calm_lab_wastes_nothing() {
    campaign::each(plan("calm"), 0..SEEDS);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..5 {
        let history = || campaign::run(plan("wild"), seed, None, false).map_err(|failure| failure.violation);
        assert_eq!(history(), history(), "seed {seed}");
    }
}

/// Seeds of the trace on which policies are compared.
const TRACES: [u64; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

#[test]
fn least_completion_ends_before_the_others() {
    let [ours, loaded, robin] = POLICIES.map(|policy| Comparison::of(policy, &TRACES).makespan());
    // Without a difference, nothing would show that a policy reaches the place where boards are chosen.
    assert!(ours < loaded && ours < robin && loaded != robin, "{ours} s, {loaded} s, {robin} s");
}

#[test]
fn submitters_share_boards_by_their_weights() {
    for seed in TRACES {
        let Shares { longest, boards, apart } = Shares::of(seed);
        // Goyal's bound for one server, once more for every other board, and as much until run times are learned.
        let bound = 2 * longest * (boards + 1);
        assert!(apart <= bound, "seed {seed}: {apart} ms apart, at most {bound} ms are fair");
    }
}

#[test]
#[ignore = "what cargo xtask sim --policies runs"]
fn policies() {
    println!("\n{}", Comparison::HEAD);
    for policy in POLICIES {
        println!("{}", Comparison::of(policy, &TRACES));
    }
}

#[test]
#[ignore = "what cargo xtask sim runs"]
fn campaign() {
    campaign::from_environment();
}
