//! A new life over an old store.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque, hash_map::Entry},
    fs,
    sync::Arc,
};

use edgeprof_common::{Digest, JobId, JobState, TaskId, TaskState};
use edgeprof_scheduler::{EpochNotNew, Now, Recovered as ForScheduler, Scheduler, TaskRow};
use tokio::time::Instant;

use super::{
    Core, Dirty, Job, Parts, access, boards, commit, forget::Ended, jobs::new_task, measure, prepare,
};
use crate::{
    preparing::Vocabulary,
    store::{
        Store, StoreError, Transaction,
        rows::{self, OpenJob, Prepared, StoryLine, key},
    },
};

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
    pub fn recover(parts: Parts) -> Result<Self, RecoverError> {
        let store = parts.store.clone();
        let rows::Recovered { jobs: open, next_seq, tokens, boards, drained, estimates, images, aside } =
            rows::recover(&*store)?;
        let first_event = parts.identity.life.first_event();
        let now = Instant::now();
        let mut stories = Vec::new();
        let mut rows = Vec::new();
        let (mut jobs, mut order, mut keys) = (BTreeMap::new(), BTreeMap::new(), HashMap::new());
        let mut all_defs = HashMap::new();
        for OpenJob { row, mut defs, tasks: mut stored } in open {
            let mut failed = 0;
            for (seq, id) in (row.first_seq..).zip(&row.tasks) {
                let Some(def) = defs.remove(id) else { continue };
                let mut task = TaskRow::fresh(new_task(&def, &row), seq);
                let (mut started_at, mut story) = (None, Vec::new());
                if let Some(stored) = stored.remove(id) {
                    (task.standing, started_at, story) = (stored.standing, stored.started_at, stored.story);
                }
                let state = task.state();
                failed += usize::from(matches!(state, TaskState::Failed | TaskState::Exhausted));
                if !state.is_terminal() {
                    stories.push((*id, started_at, story));
                }
                rows.push(task);
                all_defs.insert(*id, Arc::new(def));
            }
            order.insert(row.first_seq, row.id);
            if let Some(key) = &row.idempotency_key {
                keys.insert(key.clone(), row.id);
            }
            let job = Job {
                row,
                last_event: first_event,
                failed,
                watchers: None,
                dirty: Dirty::No,
                told: now,
                outlook: Default::default(),
            };
            jobs.insert(job.row.id, job);
        }
        let reserved =
            boards.iter().filter_map(|board| Some((board.row.board.clone(), board.reserved_until?)));
        let reserved = reserved.collect();
        let for_scheduler = ForScheduler {
            tasks: rows,
            next_seq,
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
            submitted: Vec::new(),
            touched: BTreeMap::new(),
            tokens: BTreeMap::new(),
            outs: Vec::new(),
            payload: None,
            without_canary: Vec::new(),
            jobs,
            order,
            keys,
            ended: Ended::default(),
            defs: all_defs,
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
            present: None,
            drained,
            taken_back: boards::TakenBack::default(),
            access: access::State::recover(&*store)?,
            parts,
        };
        core.resume(&*store, stories)?;
        core.end_over();
        Ok(core)
    }

    /// Opens unfinished tasks, in the order of submission, with what they were prepared with; prepares again
    /// what was not.
    fn resume(&mut self, store: &dyn Store, tasks: Vec<Unfinished>) -> Result<(), StoreError> {
        let mut again = Vec::new();
        let (mut keys, mut looked_up) = (prepare::Keys::default(), HashMap::new());
        let mut placing = prepare::Placing::default();
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
            if self.scheduler.task(task).is_some_and(|task| task.row.standing.image.is_none()) {
                self.prepared_for(task, prepared, &mut placing);
            } else {
                self.equip(task, prepared);
            }
        }
        self.place(placing);
        tracing::info!(jobs = self.jobs.len(), open, unprepared = again.len(), "recovered");
        // Started by the loop: there is no runtime to start them on yet.
        self.queue_preparing(again);
        Ok(())
    }

    /// What a cancelled job was waited for when the last life ended, nobody waits for any more: it is over.
    fn end_over(&mut self) {
        let state = |id: &JobId| Some((*id, self.scheduler.job(*id)?.state));
        let jobs: Vec<_> = self.jobs.keys().filter_map(state).collect();
        for (id, state) in jobs {
            if !matches!(state, JobState::Open | JobState::Cancelling) {
                self.job_ended(id, state);
            }
        }
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
