//! The section `[scheduler]`.

use std::{collections::BTreeMap, time::Duration};

use edgeprof_scheduler::{Config, Policy};
use serde::{Deserialize, Serialize};

/// What an operator may change of how tasks are spread over boards. The scheduler's own defaults hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheduling {
    /// Which of the able boards a task gets: `least-completion`, `least-loaded` or `round-robin`.
    pub policy: Policy,
    /// A task that waits this long goes into the next higher priority class.
    #[serde(with = "humantime_serde")]
    pub ageing: Duration,
    /// A board that is free within this may be waited for, if a task ends sooner there.
    #[serde(with = "humantime_serde")]
    pub wait_for_better: Duration,
    /// Most tasks that wait on a board behind the one in work.
    pub max_prefetch: u32,
    /// How long running tasks of a drained worker may go on.
    #[serde(with = "humantime_serde")]
    pub drain_grace: Duration,
    /// A canary run that takes longer has failed.
    #[serde(with = "humantime_serde")]
    pub canary_deadline: Duration,
    /// A board that is restarted has to be good again within this.
    #[serde(with = "humantime_serde")]
    pub reset_grace: Duration,
    /// A task that runs longer than this, and than ten times what history says, is stopped.
    #[serde(with = "humantime_serde")]
    pub deadline_min: Duration,
    /// A task is not retried after this many failures that were not its own doing.
    pub max_failures: u32,
    /// A task is not retried after this many attempts that failed or were lost.
    pub max_attempts: u32,
    /// Shares of submitters in the boards, 1 to 1000; 1 where none is given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, Weight>,
}

/// A submitter's share, 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

impl TryFrom<u32> for Weight {
    type Error = String;

    fn try_from(weight: u32) -> Result<Self, String> {
        if (1..=1000).contains(&weight) {
            return Ok(Self(weight));
        }
        Err(format!("a weight is 1 to 1000, not {weight}"))
    }
}

impl From<Weight> for u32 {
    fn from(Weight(weight): Weight) -> Self {
        weight
    }
}

impl Default for Scheduling {
    fn default() -> Self {
        let known = Config::default();
        Self {
            policy: known.policy,
            ageing: known.ageing,
            wait_for_better: known.wait_for_better,
            max_prefetch: known.max_prefetch,
            drain_grace: known.drain_grace,
            canary_deadline: known.canary_deadline,
            reset_grace: known.reset_grace,
            deadline_min: known.deadline_min,
            max_failures: known.max_failures,
            max_attempts: known.max_attempts,
            weights: BTreeMap::new(),
        }
    }
}

impl Scheduling {
    /// The scheduler's configuration.
    #[must_use]
    pub fn resolve(&self, max_queued_tasks: usize) -> Config {
        Config {
            policy: self.policy,
            ageing: self.ageing,
            wait_for_better: self.wait_for_better,
            max_prefetch: self.max_prefetch,
            drain_grace: self.drain_grace,
            canary_deadline: self.canary_deadline,
            reset_grace: self.reset_grace,
            deadline_min: self.deadline_min,
            max_failures: self.max_failures,
            max_attempts: self.max_attempts,
            weights: self.weights.iter().map(|(name, weight)| (name.clone(), weight.0)).collect(),
            max_queued_tasks,
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_reaches_the_scheduler_and_the_rest_is_its_default() {
        let text = "policy = \"round-robin\"\nageing = \"5m\"\nweights = { ann = 3 }\n";
        let config = toml::from_str::<Scheduling>(text).unwrap().resolve(7);
        let told = Config {
            policy: Policy::RoundRobin,
            ageing: Duration::from_secs(300),
            weights: BTreeMap::from([("ann".to_owned(), 3)]),
            max_queued_tasks: 7,
            ..Config::default()
        };
        assert_eq!(config, told);
    }

    #[test]
    fn a_share_of_nothing_and_an_unknown_policy_are_refused_in_words() {
        for (text, word) in [
            ("weights = { ann = 0 }", "1 to 1000"),
            ("policy = \"fastest\"", "least-completion"),
            ("polcy = \"round-robin\"", "polcy"),
        ] {
            let error = toml::from_str::<Scheduling>(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
