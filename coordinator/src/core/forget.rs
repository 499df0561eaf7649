//! Jobs that have ended leave the loop's memory; from then on they are asked of the store.

use std::{collections::VecDeque, sync::Arc};

use edgeprof_common::{JobId, JobState, TaskId};
use edgeprof_scheduler::Event;

use super::{Core, Failed};
use crate::store::{
    StoreError,
    rows::{self, EndedJob, key},
};

/// Tasks of ended jobs that are kept, for who asks how it went.
const KEEP: usize = 1024;

/// Ended jobs that are still known, in the order of their ends.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// With the number of the transaction that has the end.
    jobs: VecDeque<(JobId, u64)>,
    tasks: usize,
    forgotten: u64,
}

impl Ended {
    /// How many were forgotten so far.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Core {
    /// Writes down how a job ended.
    pub(super) fn job_ended(&mut self, id: JobId, state: JobState) {
        let Some(job) = self.jobs.get(&id) else { return };
        let ended = EndedJob::of(&job.row, state, job.failed, job.last_event);
        self.transaction.put(key::ended(ended.first_seq), rows::encode(&ended));
        self.transaction.delete(key::open(id));
        self.ended.tasks += ended.tasks;
        // Part of the next transaction that is handed in.
        self.ended.jobs.push_back((id, self.outbox.handed() + 1));
    }

    /// Forgets the jobs that ended first, beyond so many tasks. Whoever is told afterwards that a job is not known
    /// here finds its end in the store.
    pub(super) fn forget_ended(&mut self) {
        for _ in 0..self.ended.jobs.len() {
            let Some((id, at)) = self.ended.jobs.pop_front() else { return };
            if self.ended.tasks <= KEEP || at > self.outbox.done() {
                return self.ended.jobs.push_front((id, at));
            }
            self.step(Event::Forget { job: id });
            if self.scheduler.job(id).is_some() {
                // An attempt of it has its board still.
                self.ended.jobs.push_back((id, at));
                continue;
            }
            let Some(job) = self.jobs.remove(&id) else { continue };
            self.ended.forgotten += 1;
            self.ended.tasks -= job.row.tasks.len();
            self.order.remove(&job.row.first_seq);
            self.dirty.remove(&id);
            for task in &job.row.tasks {
                self.defs.remove(task);
            }
            if let Some(key) = &job.row.idempotency_key {
                self.keys.remove(key);
            }
        }
    }

    /// Whether there was such a task in a job that was forgotten.
    pub(super) fn was_task(&mut self, id: TaskId) -> bool {
        let read = self.parts.store.get(&key::def(id));
        self.or_fail(read).flatten().is_some()
    }

    /// A store that cannot be read ends the loop, as one does that cannot be written.
    pub(super) fn or_fail<T>(&mut self, read: Result<T, StoreError>) -> Option<T> {
        read.map_err(|error| self.failed = Some(Failed::Store(Arc::new(error)))).ok()
    }
}
