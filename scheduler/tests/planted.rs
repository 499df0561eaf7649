//! Flaws that are planted are found: the simulation would not miss them if they came by themselves.

#[path = "sim/campaign.rs"]
mod campaign;
#[path = "sim/lab/mod.rs"]
#[allow(dead_code, unused_imports, reason = "what compares policies is not wanted here")]
mod lab;

use lab::{Bug, Plan};

/// By how many seeds a flaw must have shown.
const SEEDS: u64 = 200;

/// The seed that finds the flaw; the same seeds keep every promise without it.
fn finds(bug: Bug, plan: &str, words: &[&str]) {
    let plan = Plan::named(plan).expect("a plan of that name");
    let found = (0..SEEDS).find_map(|seed| Some((seed, campaign::run(plan, seed, Some(bug), false).err()?)));
    let Some((seed, failure)) = found else { panic!("{} is not found in {SEEDS} seeds", bug.name()) };
    let what = failure.violation.what;
    assert!(words.iter().any(|word| what.contains(word)), "{} shows as {what}", bug.name());
    campaign::each(plan, 0..seed + 1);
}

#[test]
fn workers_that_obey_anybody_are_found() {
    finds(Bug::FencingOff, "lives", &["lets"]);
}

#[test]
fn a_token_that_is_given_twice_is_found() {
    finds(Bug::TokenAgain, "crashes", &["comes after"]);
}

#[test]
fn an_acknowledgement_before_the_commit_is_found() {
    finds(Bug::AckBeforeCommit, "crashes", &["before it is durable", "before that is durable", "is lost"]);
}

#[test]
fn a_charge_for_a_restart_is_found() {
    finds(Bug::ChargeOnRestart, "crashes", &["never began"]);
}

#[test]
fn a_worker_that_forgets_its_outbox_is_found() {
    finds(Bug::ForgettingTheOutbox, "crashes", &["has forgotten the result"]);
}

#[test]
fn a_detector_that_blames_others_for_its_own_sleep_is_found() {
    finds(Bug::StallUnnoticed, "stalls", &["without a fault", "is charged"]);
}

#[test]
fn a_detector_that_blames_workers_for_the_network_is_found() {
    finds(Bug::SilenceUnheld, "pauses", &["without a fault", "is charged"]);
}

#[test]
#[ignore = "what cargo xtask sim --bug runs"]
fn campaign() {
    campaign::from_environment();
}
