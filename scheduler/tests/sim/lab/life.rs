//! A coordinator's process around the scheduler: group commit, sessions, and what it knows of itself.

use std::collections::BTreeMap;

use edgeprof_common::{BoardId, Epoch, TaskId};
use edgeprof_scheduler::{Command, Config, NewTask, Now, Scheduler, Send, SessionId};

use super::{
    disk::Claim,
    store::{Store, Transaction},
};

/// One process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LifeId(pub(crate) usize);

impl std::fmt::Display for LifeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "life{}", self.0)
    }
}

pub(crate) struct Life {
    pub(crate) id: LifeId,
    pub(crate) cluster: usize,
    pub(crate) store: usize,
    pub(crate) up: bool,
    pub(crate) epoch: Epoch,
    nonce: u64,
    pub(crate) scheduler: Scheduler,
    /// Handed in, not committed.
    pub(crate) pending: Transaction,
    /// What leaves after the commit.
    pub(crate) sends: Vec<Send>,
    pub(crate) commit_due: bool,
    pub(crate) stalled_until: u64,
    /// Sessions whose handshake is complete, by worker.
    pub(crate) linked: BTreeMap<usize, SessionId>,
    pub(crate) last_command: BTreeMap<usize, Command>,
    /// When a tick is planned.
    pub(crate) tick: Option<u64>,
}

impl Life {
    /// A process starts over a store.
    pub(crate) fn start(
        (id, cluster, store): (LifeId, usize, usize),
        kept: &mut Store,
        (now, nonce): (u64, u64),
        config: Config,
    ) -> Self {
        kept.epoch += 1;
        kept.owner = Some(id);
        let epoch = Epoch(kept.epoch);
        let scheduler = Scheduler::new(Now(now), config, epoch, kept.recovered(now));
        Self {
            id,
            cluster,
            store,
            up: true,
            epoch,
            nonce,
            scheduler: scheduler.expect("the store has seen no token of this epoch"),
            pending: Transaction::default(),
            sends: Vec::new(),
            commit_due: false,
            stalled_until: 0,
            linked: BTreeMap::new(),
            last_command: BTreeMap::new(),
            tick: None,
        }
    }

    pub(crate) fn claim(&self) -> Claim {
        Claim { cluster: self.cluster, epoch: self.epoch, nonce: self.nonce }
    }

    /// Submitted tasks with their places in the order, for the transaction that accepts them.
    pub(crate) fn submitted(&self, tasks: &[NewTask]) -> Vec<(NewTask, u64)> {
        let seq = |id: TaskId| self.scheduler.task(id).map(|task| task.row.seq);
        tasks.iter().filter_map(|task| Some((task.clone(), seq(task.id)?))).collect()
    }

    /// Whether boards of this kind can be put to the proof.
    pub(crate) fn has_canary(board: &BoardId) -> bool {
        !board.as_str().ends_with("b2")
    }
}
