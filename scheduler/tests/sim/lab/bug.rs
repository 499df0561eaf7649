//! Flaws that are planted.

/// A flaw that is planted to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Workers obey any coordinator.
    FencingOff,
    /// Effects leave before what justifies them is durable.
    AckBeforeCommit,
    /// A restart of the coordinator costs tasks an attempt.
    ChargeOnRestart,
    /// A worker's new process does not know the results of the one before.
    ForgettingTheOutbox,
    /// Silence kills, whoever is to blame for it.
    DetectorWithoutGuard,
}

impl Bug {
    pub(crate) const ALL: [Self; 5] = [
        Self::FencingOff,
        Self::AckBeforeCommit,
        Self::ChargeOnRestart,
        Self::ForgettingTheOutbox,
        Self::DetectorWithoutGuard,
    ];

    /// The scheduler's own part in it.
    #[cfg(feature = "planted-bugs")]
    pub(super) const fn of_the_scheduler(self) -> Option<edgeprof_scheduler::Bug> {
        match self {
            Self::FencingOff => Some(edgeprof_scheduler::Bug::FencingOff),
            Self::ChargeOnRestart => Some(edgeprof_scheduler::Bug::ChargeOnRestart),
            Self::DetectorWithoutGuard => Some(edgeprof_scheduler::Bug::DetectorWithoutGuard),
            Self::AckBeforeCommit | Self::ForgettingTheOutbox => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FencingOff => "fencing-off",
            Self::AckBeforeCommit => "ack-before-commit",
            Self::ChargeOnRestart => "charge-on-restart",
            Self::ForgettingTheOutbox => "forgetting-the-outbox",
            Self::DetectorWithoutGuard => "detector-without-guard",
        }
    }
}
