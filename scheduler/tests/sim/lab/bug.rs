//! Flaws that are planted.

/// A flaw that is planted to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Workers obey any coordinator.
    FencingOff,
    /// A board's last token is given once more.
    TokenAgain,
    /// Effects leave before what justifies them is durable.
    AckBeforeCommit,
    /// A restart of the coordinator costs tasks an attempt.
    ChargeOnRestart,
    /// A worker's new process does not know the results of the one before.
    ForgettingTheOutbox,
    /// The detector takes a sleep of its own for the workers' silence.
    StallUnnoticed,
    /// The detector takes a network that is gone for workers that are.
    SilenceUnheld,
}

impl Bug {
    pub(crate) const ALL: [Self; 7] = [
        Self::FencingOff,
        Self::TokenAgain,
        Self::AckBeforeCommit,
        Self::ChargeOnRestart,
        Self::ForgettingTheOutbox,
        Self::StallUnnoticed,
        Self::SilenceUnheld,
    ];

    /// The scheduler's own part in it.
    #[cfg(feature = "planted-bugs")]
    pub(super) const fn of_the_scheduler(self) -> Option<edgeprof_scheduler::Bug> {
        match self {
            Self::TokenAgain => Some(edgeprof_scheduler::Bug::TokenAgain),
            Self::ChargeOnRestart => Some(edgeprof_scheduler::Bug::ChargeOnRestart),
            Self::StallUnnoticed => Some(edgeprof_scheduler::Bug::StallUnnoticed),
            Self::SilenceUnheld => Some(edgeprof_scheduler::Bug::SilenceUnheld),
            Self::FencingOff | Self::AckBeforeCommit | Self::ForgettingTheOutbox => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FencingOff => "fencing-off",
            Self::TokenAgain => "token-again",
            Self::AckBeforeCommit => "ack-before-commit",
            Self::ChargeOnRestart => "charge-on-restart",
            Self::ForgettingTheOutbox => "forgetting-the-outbox",
            Self::StallUnnoticed => "stall-unnoticed",
            Self::SilenceUnheld => "silence-unheld",
        }
    }
}
