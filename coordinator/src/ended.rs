//! Jobs that have ended, as the store has them: the loop forgets them. Each call reads; none is for the loop's
//! everyday.

use std::collections::HashMap;

use edgeprof_common::{JobId, TaskId};
use edgeprof_proto::v1;

use crate::{
    core::{Known, Told},
    shown,
    store::{
        Store, StoreError,
        rows::{self, EndedJob, JobRow, StoredTask, TaskDef, key, of_tasks},
    },
};

/// A job that has ended.
pub(crate) fn job(store: &dyn Store, id: JobId) -> Result<Option<v1::Job>, StoreError> {
    Ok(read(store, id)?.map(|ended| ended.job))
}

/// The same with the number of its end, or of the beginning of the life at hand if it ended before.
pub(crate) fn update(
    store: &dyn Store,
    id: JobId,
    first_event: u64,
) -> Result<Option<v1::JobUpdate>, StoreError> {
    let update =
        |ended: Ended| v1::JobUpdate { sequence: ended.last_event.max(first_event), job: Some(ended.job) };
    Ok(read(store, id)?.map(update))
}

/// The job that an idempotency key made, and what was asked for it.
pub(crate) fn of_key(store: &dyn Store, key: &str) -> Result<Option<Known>, StoreError> {
    let Some(id) = rows::read::<JobId>(store, &key::key(key))? else { return Ok(None) };
    Ok(read(store, id)?.map(|ended| (ended.job, ended.row)))
}

struct Ended {
    row: JobRow,
    job: v1::Job,
    last_event: u64,
}

fn read(store: &dyn Store, id: JobId) -> Result<Option<Ended>, StoreError> {
    let Some(row) = rows::read::<JobRow>(store, &key::job(id))? else { return Ok(None) };
    let Some(ended) = rows::read::<EndedJob>(store, &key::ended(row.first_seq))? else { return Ok(None) };
    let stored: HashMap<TaskId, StoredTask> = of_tasks(store, &row.tasks, "task/")?;
    let defs: HashMap<TaskId, TaskDef> = of_tasks(store, &row.tasks, "def/")?;
    let shown = |task: &TaskId| Some(shown::task(defs.get(task)?, &stored.get(task)?.standing));
    let tasks = row.tasks.iter().filter_map(shown).collect();
    let last_event = ended.last_event;
    Ok(Some(Ended { row, job: shown::job(ended, tasks), last_event }))
}

/// Those that were submitted last, without tasks, each with its place in the order of submission.
pub(crate) fn jobs(store: &dyn Store, limit: usize) -> Result<Vec<(u64, v1::Job)>, StoreError> {
    let rows = store.scan(b"ended/", None, limit)?;
    let job = |(key, value): (Vec<u8>, Vec<u8>)| {
        let ended: EndedJob = rows::decode(&key, &value)?;
        Ok((ended.first_seq, shown::job(ended, Vec::new())))
    };
    rows.into_iter().map(job).collect()
}

/// The tasks of a job, in order.
pub(crate) fn tasks(store: &dyn Store, id: JobId) -> Result<Option<Vec<TaskId>>, StoreError> {
    Ok(rows::read::<JobRow>(store, &key::job(id))?.map(|row| row.tasks))
}

/// What stands at the head of tasks' stories, of those tasks that there are.
pub(crate) fn told(store: &dyn Store, tasks: &[TaskId]) -> Result<Vec<Told>, StoreError> {
    let (mut told, mut last) = (Vec::new(), None);
    for task in tasks {
        let Some(def) = rows::read::<TaskDef>(store, &key::def(*task))? else { continue };
        // The row of a large job is long.
        let job = match last.take().filter(|job: &JobRow| job.id == def.job) {
            Some(job) => Some(job),
            None => rows::read(store, &key::job(def.job))?,
        };
        let Some(job) = job else { continue };
        let submitted_at = job.submitted_at.clone();
        told.push(Told { task: *task, scenario: def.scenario, submitted_at, story: None });
        last = Some(job);
    }
    Ok(told)
}
