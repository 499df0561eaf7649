//! Every span and bound of the scheduler, with its default.

use std::{collections::BTreeMap, time::Duration};

/// Which of the able boards a task gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The one on which it is likely to end first, by what history says of its image on each kind.
    #[default]
    LeastCompletion,
    /// The one with the fewest attempts.
    LeastLoaded,
    /// Each in turn.
    RoundRobin,
}

/// A fault that is built in to show that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "only the feature exports it"))]
pub enum Bug {
    /// A board's last token is given again once its attempt is over.
    TokenAgain,
    /// A lease of an earlier life that its worker does not have any more is charged.
    ChargeOnRestart,
    /// A stall of the coordinator's own loop shifts no deadline.
    StallUnnoticed,
    /// Silence of most workers holds nothing.
    SilenceUnheld,
}

/// What an operator may change.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A worker silent this long is suspect.
    pub suspect_after: Duration,
    /// A silent worker is never dead before this.
    pub dead_min: Duration,
    /// A silent worker is always dead after this.
    pub dead_max: Duration,
    /// What the detector forgives beyond the usual distance of heartbeats.
    pub pause: Duration,
    /// The detector never takes heartbeats for steadier than this standard deviation.
    pub min_deviation: Duration,
    /// Refused dials prove a process gone if at least this far apart.
    pub refused_apart: Duration,
    /// Longest hold of re-dispatch when most workers go silent together.
    pub silence_hold: Duration,
    /// After a start, a worker that holds leases is dead if unheard this long.
    pub restart_grace: Duration,
    /// Two machines that claim one worker id get no work until this long after the last of their disputes.
    pub contest: Duration,
    /// An offer without an answer is sent again after this.
    pub offer_resend: Duration,
    /// How often it is sent again before the attempt is lost.
    pub offer_resends: u32,
    /// Least hard deadline of an attempt.
    pub deadline_min: Duration,
    /// The hard deadline is this many times the predicted run time, if that is more.
    pub deadline_factor: u32,
    /// A cancel that is not answered within this loses the attempt and restarts the board.
    pub cancel_answer: Duration,
    /// A cancel of what should not be running is repeated after this.
    pub cancel_resend: Duration,
    /// A task is not retried after this many retryable failures.
    pub max_failures: u32,
    /// A task is not retried after this many attempts that failed or were lost.
    pub max_attempts: u32,
    /// A task is exhausted after this many started attempts that ended with a proven process death; one that others
    /// shared counts half.
    pub max_deaths: u32,
    /// First wait before a retry; doubles with each failure.
    pub backoff: Duration,
    /// Longest wait before a retry.
    pub backoff_max: Duration,
    /// How boards are chosen.
    pub policy: Policy,
    /// A task that waits this long goes into the next higher class.
    pub ageing: Duration,
    /// Shares of submitters; 1 where none is given.
    pub weights: BTreeMap<String, u32>,
    /// A board that is free within this may be waited for, if a task ends sooner there.
    pub wait_for_better: Duration,
    /// Most attempts that wait on a board behind the one in work.
    pub max_prefetch: u32,
    /// How long running attempts of a drained worker may go on.
    pub drain_grace: Duration,
    /// A canary run that takes longer has failed.
    pub canary_deadline: Duration,
    /// A board that is restarted has to be good again within this.
    pub reset_grace: Duration,
    /// Most tasks that wait, prepared or not, in backoff or not.
    pub max_queued_tasks: usize,
    /// What a submitter is told to wait when the queue is full.
    pub queue_retry_after: Duration,
    /// A fault to be found.
    #[cfg(feature = "planted-bugs")]
    pub bug: Option<Bug>,
}

impl Config {
    /// Whether a fault is built in.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn planted(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether a fault is built in.
    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) const fn planted(&self, _: Bug) -> bool {
        false
    }
}

impl Default for Config {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            suspect_after: s(3),
            dead_min: s(4),
            dead_max: s(7),
            pause: s(3),
            min_deviation: Duration::from_millis(200),
            refused_apart: s(1),
            silence_hold: s(15),
            restart_grace: s(30),
            contest: s(30),
            offer_resend: s(5),
            offer_resends: 3,
            deadline_min: s(600),
            deadline_factor: 10,
            cancel_answer: s(15),
            cancel_resend: s(5),
            max_failures: 3,
            max_attempts: 8,
            max_deaths: 2,
            backoff: s(1),
            backoff_max: s(60),
            policy: Policy::default(),
            ageing: s(600),
            weights: BTreeMap::new(),
            wait_for_better: s(5),
            max_prefetch: 32,
            drain_grace: s(60),
            canary_deadline: s(120),
            reset_grace: s(60),
            max_queued_tasks: 200_000,
            queue_retry_after: s(10),
            #[cfg(feature = "planted-bugs")]
            bug: None,
        }
    }
}
