//! A new life over an old store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, hash_map::Entry},
    fs,
    sync::Arc,
};

use edgeprof_common::{Digest, TaskId, TaskState};
use edgeprof_scheduler::{EpochNotNew, Now, Recovered as ForScheduler, Scheduler, TaskRow};
use tokio::time::Instant;

use super::{Core, Dirty, Job, Parts, boards, commit, jobs::new_task, measure, prepare};
use crate::{
    preparing::Vocabulary,
    store::{
        Store, StoreError, Transaction,
        rows::{self, Prepared, StoredTask, StoryLine, key},
    },
};

/// Bits of an event's number that count within one life; those above are the epoch.
const EVENTS: u32 = 32;

/// When its attempt started, and what happened to it.
type Unfinished = (TaskId, Option<u64>, Vec<StoryLine>);

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
        let rows::Recovered {
            jobs: job_rows,
            mut defs,
            tasks,
            tokens,
            boards,
            drained,
            estimates,
            images,
            aside,
        } = rows::recover(store)?;
        // Numbers of events begin anew above those of every life before: whatever number a watcher has, it
        // gets the present state.
        let first_event = parts.identity.life.epoch.0.saturating_mul(1 << EVENTS);
        let now = Instant::now();
        let mut stories = Vec::new();
        let mut rows = Vec::new();
        let (mut jobs, mut order, mut keys) = (BTreeMap::new(), Vec::new(), HashMap::new());
        let mut stored = tasks;
        for row in job_rows {
            let mut failed = 0;
            for (seq, id) in (row.first_seq..).zip(&row.tasks) {
                let Some(def) = defs.get(id) else { continue };
                let (place, started_at, story) = match stored.remove(id) {
                    Some(StoredTask { row, started_at, story }) => (row, started_at, story),
                    None => (TaskRow::fresh(new_task(def, &row), seq), None, Vec::new()),
                };
                let state = place.state();
                failed += usize::from(matches!(state, TaskState::Failed | TaskState::Exhausted));
                if !state.is_terminal() {
                    stories.push((*id, started_at, story));
                }
                rows.push(place);
            }
            order.push(row.id);
            if let Some(key) = &row.idempotency_key {
                keys.insert(key.clone(), row.id);
            }
            let job =
                Job { row, last_event: first_event, failed, watchers: None, dirty: Dirty::No, told: now };
            jobs.insert(job.row.id, job);
        }
        let reserved =
            boards.iter().filter_map(|board| Some((board.row.board.clone(), board.reserved_until?)));
        let reserved = reserved.collect();
        let for_scheduler = ForScheduler {
            tasks: rows,
            tokens,
            boards: boards.into_iter().map(boards::in_new_life).collect(),
            drained: drained.clone(),
            estimates,
        };
        let scheduler =
            Scheduler::new(Now(0), parts.scheduler.clone(), parts.identity.life.epoch, for_scheduler)?;
        let mut core = Self {
            scheduler,
            meters: measure::Meters::new(),
            origin: now,
            heard: now,
            outbox: commit::Outbox::default(),
            failed: None,
            transaction: Transaction::default(),
            touched: BTreeSet::new(),
            tokens: BTreeMap::new(),
            outs: Vec::new(),
            payload: None,
            without_canary: Vec::new(),
            jobs,
            order,
            keys,
            defs: defs.drain().map(|(id, def)| (id, Arc::new(def))).collect(),
            open: HashMap::new(),
            untold: HashMap::new(),
            dirty: HashSet::new(),
            next_event: first_event,
            next_aside: aside,
            images,
            vocabularies: HashMap::new(),
            workloads: HashMap::new(),
            preparing: prepare::Queue::default(),
            awaiting: VecDeque::new(),
            sessions: HashMap::new(),
            commands: HashMap::new(),
            targets: BTreeMap::new(),
            workers: BTreeMap::new(),
            boards: BTreeMap::new(),
            reserved,
            drained,
            parts,
        };
        core.resume(store, stories)?;
        Ok(core)
    }

    /// Opens unfinished tasks, in the order of submission, with what they were prepared with; prepares again
    /// what was not.
    fn resume(&mut self, store: &dyn Store, tasks: Vec<Unfinished>) -> Result<(), StoreError> {
        let mut again = Vec::new();
        let (mut keys, mut looked_up) = (prepare::Keys::default(), HashMap::new());
        let open = tasks.len();
        for (task, started_at, story) in tasks {
            let Some(def) = self.defs.get(&task).cloned() else { continue };
            self.open(&def);
            if let Some(open) = self.open.get_mut(&task) {
                (open.started_at, open.story) = (started_at, story);
                open.inherited = self.scheduler.task(task).is_some_and(|task| task.row.lease().is_some());
            }
            let of = keys.of(&def);
            let prepared = match looked_up.entry(of) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let prepared = rows::read::<Prepared>(store, &key::prep(of))?;
                    unknown.insert(prepared.filter(|prepared| self.is_built(&prepared.image)).map(Arc::new))
                }
            };
            let Some(prepared) = prepared.clone() else {
                again.push(def);
                continue;
            };
            self.load_vocabulary(prepared.image.vocabulary);
            if self.scheduler.task(task).is_some_and(|task| task.row.image.is_none()) {
                self.place(task, prepared);
            } else {
                self.equip(task, prepared);
            }
        }
        tracing::info!(jobs = self.jobs.len(), open, unprepared = again.len(), "recovered");
        // Started by the loop: there is no runtime to start them on yet.
        self.queue_preparing(again);
        Ok(())
    }

    pub(super) fn load_vocabulary(&mut self, digest: Digest) {
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
