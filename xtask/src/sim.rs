//! The scheduler's simulation: many seeds, one seed with its log, planted bugs, or policies compared.

use anyhow::Result;
use clap::Args;

use crate::build::{self, cargo};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many seeds of each plan.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// Only this seed, with its whole event log.
    #[arg(long, conflicts_with = "seeds", requires = "plan")]
    seed: Option<u64>,
    /// Only this plan: calm, stalls, pauses, crashes, bench, lives or wild.
    #[arg(long)]
    plan: Option<String>,
    /// With a bug planted: fencing-off, token-again, ack-before-commit, charge-on-restart,
    /// forgetting-the-outbox, stall-unnoticed or silence-unheld.
    #[arg(long)]
    bug: Option<String>,
    /// Compare the policies of placement on one trace of jobs instead.
    #[arg(long, conflicts_with_all = ["seeds", "seed", "plan", "bug"])]
    policies: bool,
}

/// The package with its test targets. The feature that plants bugs is in no daemon.
pub(crate) const PACKAGE: &str = "edgeprof-scheduler";
pub(crate) const PLANTED: [&str; 4] = ["--features", "planted-bugs", "--test", "planted"];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--package", PACKAGE]);
    match arguments.bug {
        None => command.args(["--test", "sim"]),
        Some(_) => command.args(PLANTED),
    };
    let what = if arguments.policies { "policies" } else { "campaign" };
    command.args(["--", "--exact", what, "--ignored", "--nocapture"]);
    let knobs = [
        ("SIM_SEEDS", Some(arguments.seeds.to_string())),
        ("SIM_SEED", arguments.seed.map(|seed| seed.to_string())),
        ("SIM_PLAN", arguments.plan.clone()),
        ("SIM_BUG", arguments.bug.clone()),
    ];
    for (name, value) in knobs {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    build::run("simulation", &mut command)
}
