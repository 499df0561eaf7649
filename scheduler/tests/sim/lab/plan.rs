//! What a run is like: which faults it has, and for how long.

/// Something that goes wrong, or that an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The coordinator's process is killed; what it had not committed is gone, or committed and untold.
    CoordinatorKilled,
    /// The coordinator's loop stands still.
    CoordinatorStalled,
    /// A new life starts over the same store while the old one goes on.
    TwoLives,
    /// Two copies of one store are started at once: same epoch, different nonces.
    CopiedStore,
    /// A worker's process is killed; its disk keeps what was written.
    WorkerKilled,
    /// A worker's host loses power; its disk keeps what was synced.
    PowerLost,
    /// A worker comes back with an older state of its disk.
    WorkerRestored,
    /// A worker is told to stop, and drains.
    WorkerStopped,
    /// A worker's process stands still.
    WorkerFrozen,
    /// A stream breaks.
    StreamBroken,
    /// A worker cannot be reached, nor reach anybody.
    Cut,
    /// Nothing arrives at a worker.
    CutOut,
    /// Nothing of a worker arrives.
    CutBack,
    /// No worker can be reached.
    AllCut,
    /// A board fails everything from now on.
    BoardBroken,
    /// An operator drains a worker, for a while.
    Drained,
    /// An operator reserves a board, for a while.
    Reserved,
    /// An operator quarantines a board, for a while.
    Quarantined,
}

use Fault::{
    AllCut, BoardBroken, CoordinatorKilled, CoordinatorStalled, CopiedStore, Cut, CutBack, CutOut, Drained,
    PowerLost, Quarantined, Reserved, StreamBroken, TwoLives, WorkerFrozen, WorkerKilled, WorkerRestored,
    WorkerStopped,
};

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Frames of a session arrive in order and once, as TCP gives them; else they are lost, doubled and
    /// overtake each other too.
    pub(crate) ordered: bool,
    /// What may go wrong; each word as often as it stands in one of these.
    pub(crate) faults: &'static [&'static [Fault]],
    /// Until when, in ms.
    pub(crate) faults_until: u64,
    /// How many of a thousand workers that are killed stay away for good.
    pub(crate) gone: u64,
    /// Every task succeeds unless its board or worker fails.
    pub(crate) only_good: bool,
    /// Labs on one network.
    pub(crate) clusters: usize,
    /// Fewest workers of a lab.
    pub(crate) workers: u64,
}

const CALM: Plan = Plan {
    name: "calm",
    ordered: true,
    faults: &[],
    faults_until: 0,
    gone: 0,
    only_good: true,
    clusters: 1,
    workers: 1,
};

/// Processes die, stand still, and cannot be reached.
const CRASHES: &[Fault] = &[
    CoordinatorKilled,
    CoordinatorKilled,
    CoordinatorStalled,
    WorkerKilled,
    PowerLost,
    WorkerFrozen,
    StreamBroken,
    Cut,
    AllCut,
];

/// Boards fail, and operators take them and their workers out of service.
const BENCH: &[Fault] = &[
    BoardBroken,
    BoardBroken,
    Drained,
    Reserved,
    Reserved,
    Quarantined,
    WorkerStopped,
    WorkerKilled,
    CoordinatorKilled,
];

/// Coordinators come twice, workers come back older, and what is sent one way does not come back the other.
const LIVES: &[Fault] = &[
    TwoLives,
    TwoLives,
    CopiedStore,
    CoordinatorKilled,
    WorkerRestored,
    WorkerRestored,
    WorkerKilled,
    StreamBroken,
    Cut,
    CutOut,
    CutBack,
];

/// Every fault comes for a while, and tasks may be as bad as they like.
const FAULTY: Plan = Plan { faults_until: 60_000, only_good: false, ..CALM };

/// All plans.
pub(crate) const PLANS: &[Plan] = &[
    CALM,
    // The coordinator's loop stands still; of one worker or two, silence together holds nothing.
    Plan { name: "stalls", faults: &[&[CoordinatorStalled]], faults_until: 60_000, ..CALM },
    // The coordinator is blind for less than the hold of re-dispatch; nobody else has a fault.
    Plan {
        name: "pauses",
        faults: &[&[CoordinatorStalled, AllCut]],
        faults_until: 60_000,
        workers: 3,
        ..CALM
    },
    Plan { name: "crashes", faults: &[CRASHES], gone: 200, ..FAULTY },
    Plan { name: "bench", faults: &[BENCH], ..FAULTY },
    Plan { name: "lives", faults: &[LIVES], clusters: 2, ..FAULTY },
    Plan { name: "wild", ordered: false, faults: &[CRASHES, BENCH, LIVES], gone: 100, clusters: 2, ..FAULTY },
];

impl Plan {
    /// When work comes that finds no fault any more, where there were some.
    pub(crate) fn late(&self) -> Option<u64> {
        (self.faults_until > 0).then_some(self.faults_until + 35_000)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        PLANS.iter().find(|plan| plan.name == name).copied()
    }
}
