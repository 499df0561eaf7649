//! Every span and bound of the scheduler, with its default.

use std::time::Duration;

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
    /// Least hard deadline of an accepted attempt.
    pub deadline_min: Duration,
    /// The hard deadline is this many times the predicted run time, if that is more.
    pub deadline_factor: u32,
    /// A cancel that is not answered within this loses the attempt and marks the board bad.
    pub cancel_answer: Duration,
    /// A cancel of what should not be running is repeated after this.
    pub cancel_resend: Duration,
    /// A task is not retried after this many retryable failures.
    pub max_failures: u32,
    /// A task is not retried after this many attempts that failed or were lost.
    pub max_attempts: u32,
    /// A task is exhausted after this many started attempts that ended with a proven process death.
    pub max_deaths: u32,
    /// First wait before a retry; doubles with each failure.
    pub backoff: Duration,
    /// Longest wait before a retry.
    pub backoff_max: Duration,
    /// Most tasks that wait, prepared or not, in backoff or not.
    pub max_queued_tasks: usize,
    /// What a submitter is told to wait when the queue is full.
    pub queue_retry_after: Duration,
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
            max_queued_tasks: 200_000,
            queue_retry_after: s(10),
        }
    }
}
