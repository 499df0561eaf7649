//! A new life over an old store.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs,
    sync::Arc,
};

use edgeprof_common::{Digest, Quant, TaskId};
use edgeprof_scheduler::{Config, EpochNotNew, Now, Recovered as ForScheduler, Scheduler};
use tokio::time::Instant;

use super::{Core, Dirty, Job, Parts, commit, prepare};
use crate::{
    preparing::Vocabulary,
    store::{
        Store, StoreError, Transaction,
        rows::{self, ImageRow, Prepared, key},
    },
};

/// Why an old store cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store has tokens of this epoch or a later one.
    #[error("the store contradicts itself: {0}")]
    Epoch(#[from] EpochNotNew),
}

impl Core {
    /// Takes up where the store left off.
    ///
    /// # Errors
    /// When the store fails or contradicts itself.
    pub fn recover(store: &dyn Store, parts: Parts) -> Result<Self, RecoverError> {
        let recovered = rows::recover(store)?;
        let open: HashSet<TaskId> =
            recovered.tasks.iter().filter(|row| !row.state().is_terminal()).map(|row| row.id).collect();
        let unplaced: HashSet<TaskId> =
            recovered.tasks.iter().filter(|row| row.image.is_none()).map(|row| row.id).collect();
        let config = Config { max_queued_tasks: parts.max_queued_tasks, ..Config::default() };
        let for_scheduler =
            ForScheduler { tasks: recovered.tasks, tokens: recovered.tokens, ..ForScheduler::default() };
        let scheduler = Scheduler::new(Now(0), config, parts.identity.life.epoch, for_scheduler)?;
        let images = images(store)?;

        let mut jobs = BTreeMap::new();
        let (mut order, mut keys) = (Vec::new(), HashMap::new());
        for row in recovered.jobs {
            // Where its events are no longer kept, the last was one of those before the oldest.
            let pruned = || recovered.events.map_or(0, |(first, _)| first.saturating_sub(1));
            let last_event = recovered.last_events.get(&row.id).copied().unwrap_or_else(pruned);
            order.push(row.id);
            if let Some(key) = &row.idempotency_key {
                keys.insert(key.clone(), row.id);
            }
            jobs.insert(row.id, Job { row, last_event, watchers: None, dirty: Dirty::No });
        }
        let now = Instant::now();
        let mut core = Self {
            scheduler,
            origin: now,
            outbox: commit::Outbox::default(),
            transaction: Transaction::default(),
            outs: Vec::new(),
            payload: None,
            failed: None,
            jobs,
            order,
            keys,
            defs: recovered.defs.into_iter().map(|def| (def.id, Arc::new(def))).collect(),
            prepared: HashMap::new(),
            progress: HashMap::new(),
            started: recovered.started.into_iter().collect(),
            dirty: HashSet::new(),
            told: now,
            events: recovered.events.map_or((1, 1), |(first, last)| (first, last + 1)),
            next_aside: recovered.aside,
            holds: HashMap::new(),
            images,
            vocabularies: HashMap::new(),
            preparing: prepare::Queue::default(),
            awaiting: VecDeque::new(),
            sessions: HashMap::new(),
            commands: HashMap::new(),
            targets: BTreeMap::new(),
            workers: BTreeMap::new(),
            boards: BTreeMap::new(),
            parts,
        };
        core.resume(store, &open, &unplaced)?;
        Ok(core)
    }

    /// Reads what open tasks were prepared with; prepares again what was not.
    fn resume(
        &mut self,
        store: &dyn Store,
        open: &HashSet<TaskId>,
        unplaced: &HashSet<TaskId>,
    ) -> Result<(), StoreError> {
        let mut again = Vec::new();
        // In the order of submission, which the map of definitions does not keep.
        let tasks: Vec<TaskId> = self
            .order
            .iter()
            .filter_map(|job| self.jobs.get(job))
            .flat_map(|job| job.row.tasks.iter().copied())
            .filter(|task| open.contains(task))
            .collect();
        for task in tasks {
            self.hold(task);
            let prepared = rows::read::<Prepared>(store, &key::prep(task))?;
            match prepared.filter(|prepared| self.is_built(&prepared.image)) {
                Some(prepared) => {
                    self.hold_image(task, &prepared.image);
                    self.load_vocabulary(prepared.image.vocabulary);
                    let prepared = Arc::new(prepared);
                    if unplaced.contains(&task) {
                        self.place(task, prepared);
                    } else {
                        self.prepared.insert(task, prepared);
                    }
                }
                None => again.extend(self.defs.get(&task).cloned()),
            }
        }
        tracing::info!(jobs = self.jobs.len(), open = open.len(), unprepared = again.len(), "recovered");
        // Started by the loop: there is no runtime to start them on yet.
        self.queue_preparing(again);
        Ok(())
    }

    fn load_vocabulary(&mut self, digest: Digest) {
        if self.vocabularies.contains_key(&digest) {
            return;
        }
        let path = self.parts.artifacts.path(&digest);
        let vocabulary = fs::read(&path).ok().and_then(|bytes| Vocabulary::from_bytes(&bytes).ok());
        match vocabulary {
            Some(vocabulary) => {
                self.vocabularies.insert(digest, Arc::new(vocabulary));
            }
            None => tracing::error!(%digest, "a vocabulary is missing; its results will have no text"),
        }
    }
}

fn images(store: &dyn Store) -> Result<HashMap<(Digest, Quant), ImageRow>, StoreError> {
    let mut images = HashMap::new();
    rows::for_each(store, "image/", |key, value| {
        let text = String::from_utf8_lossy(key);
        let mut parts = text.split('/').skip(1);
        let at = parts.next().and_then(|d| d.parse().ok()).zip(parts.next().and_then(|q| q.parse().ok()));
        if let Some(at) = at {
            images.insert(at, rows::decode(key, value)?);
        }
        Ok(())
    })?;
    Ok(images)
}
