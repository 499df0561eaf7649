//! A worker's disk: who commands it, and results that no coordinator has acknowledged.

use std::collections::BTreeMap;

use edgeprof_common::{Epoch, TaskId, Token};
use edgeprof_scheduler::{LeaseRef, Outcome};

/// What is not acknowledged is synced after this long, in ms.
pub(crate) const SYNC: u64 = 100;

/// Who commands. Synced before a greeting is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) cluster: usize,
    pub(crate) epoch: Epoch,
    pub(crate) nonce: u64,
}

/// Why a greeting is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Cluster,
    Epoch,
    Nonce,
}

#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) lease: LeaseRef,
    pub(crate) outcome: Outcome,
    written: u64,
    /// When it was sent last.
    pub(crate) sent: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) claim: Option<Claim>,
    pub(crate) outbox: BTreeMap<(TaskId, Token), Kept>,
    /// Removals that are not synced, with their time.
    removed: Vec<(u64, Kept)>,
}

impl Disk {
    /// The claim after a greeting, or why it is turned away.
    pub(crate) fn admit(&self, offered: Claim) -> Result<Claim, Refusal> {
        match self.claim {
            Some(held) if held.cluster != offered.cluster => Err(Refusal::Cluster),
            Some(held) if held.epoch > offered.epoch => Err(Refusal::Epoch),
            Some(held) if held.epoch == offered.epoch && held.nonce != offered.nonce => Err(Refusal::Nonce),
            _ => Ok(offered),
        }
    }

    pub(crate) fn put(&mut self, now: u64, lease: LeaseRef, outcome: Outcome) {
        self.outbox.insert((lease.task, lease.token), Kept { lease, outcome, written: now, sent: now });
    }

    pub(crate) fn remove(&mut self, now: u64, lease: &LeaseRef) {
        self.removed.retain(|(at, _)| at + SYNC > now);
        self.removed.extend(self.outbox.remove(&(lease.task, lease.token)).map(|kept| (now, kept)));
    }

    /// The power fails: what was not synced did not happen.
    pub(crate) fn lose_power(&mut self, now: u64) {
        let back = std::mem::take(&mut self.removed).into_iter().filter(|(at, _)| at + SYNC > now);
        self.outbox.extend(back.map(|(_, kept)| ((kept.lease.task, kept.lease.token), kept)));
        self.outbox.retain(|_, kept| kept.written + SYNC <= now);
    }

    /// Results that not even a loss of power takes away.
    pub(crate) fn durable(&self, now: u64) -> impl Iterator<Item = &LeaseRef> {
        self.outbox.values().filter(move |kept| kept.written + SYNC <= now).map(|kept| &kept.lease)
    }
}
