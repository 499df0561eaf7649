//! What a starting coordinator takes from its store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    str::FromStr,
};

use edgeprof_common::{BoardId, Digest, IdError, JobId, Quant, TaskId, Token, WorkerId};
use edgeprof_scheduler::Estimate;
use serde::de::DeserializeOwned;

use super::{
    EndedJob, ImageRow, JobRow, SCAN, SharedParts, StoredBoard, StoredTask, TaskDef, decode, for_each, key,
    read,
};
use crate::store::{Store, StoreError};

/// A job that has not ended.
#[derive(Debug)]
pub struct OpenJob {
    /// As it was submitted.
    pub row: JobRow,
    /// What each of its tasks is.
    pub defs: HashMap<TaskId, TaskDef>,
    /// Where those of them are that are not as they were submitted.
    pub tasks: HashMap<TaskId, StoredTask>,
}

/// Everything but records, transcripts, workloads, and jobs that have ended.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Every job that has not ended, in the order of submission.
    pub jobs: Vec<OpenJob>,
    /// Above the place in the order of submission of every task of an ended job.
    pub next_seq: u64,
    /// The last token of each board.
    pub tokens: BTreeMap<BoardId, Token>,
    /// What is kept of boards.
    pub boards: Vec<StoredBoard>,
    /// Workers that an operator took out of service.
    pub drained: BTreeSet<WorkerId>,
    /// What was learned of run times.
    pub estimates: Vec<Estimate>,
    /// Board images.
    pub images: HashMap<(Digest, Quant), ImageRow>,
    /// Number of the last result kept aside.
    pub aside: u64,
}

/// Reads what a starting coordinator needs: of jobs, those that have not ended.
///
/// # Errors
/// When the store fails or a row is damaged.
pub fn recover(store: &dyn Store) -> Result<Recovered, StoreError> {
    let mut all = Recovered::default();
    for_each(store, "open/", |key, _| {
        all.jobs.push(job(store, id(key, "open/")?)?);
        Ok(())
    })?;
    if let Some((key, value)) = store.scan(b"ended/", None, 1)?.first() {
        let last: EndedJob = decode(key, value)?;
        all.next_seq = last.first_seq.saturating_add(last.tasks as u64);
    }
    for_each(store, "token/", |key, value| {
        all.tokens.insert(id(key, "token/")?, decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "board/", |key, value| {
        all.boards.push(decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "drained/", |key, _| {
        all.drained.insert(id(key, "drained/")?);
        Ok(())
    })?;
    for_each(store, "estimate/", |key, value| {
        all.estimates.push(decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "image/", |key, value| {
        let text = String::from_utf8_lossy(key);
        let mut parts = text.split('/').skip(1);
        let at = parts.next().and_then(|d| d.parse().ok()).zip(parts.next().and_then(|q| q.parse().ok()));
        if let Some(at) = at {
            all.images.insert(at, decode(key, value)?);
        }
        Ok(())
    })?;
    for_each(store, "aside/", |key, _| {
        all.aside = key::number(key).unwrap_or_default();
        Ok(())
    })?;
    all.jobs.sort_by_key(|job| job.row.first_seq);
    Ok(all)
}

fn job(store: &dyn Store, id: JobId) -> Result<OpenJob, StoreError> {
    let at = key::job(id);
    let row: JobRow = read(store, &at)?.ok_or_else(|| StoreError::Row {
        key: String::from_utf8_lossy(&at).into_owned(),
        reason: "it is missing, and the job has not ended".into(),
    })?;
    let mut defs = of_tasks(store, &row.tasks, "def/")?;
    let mut shared = SharedParts::default();
    defs.values_mut().for_each(|def| shared.share(def));
    let tasks = of_tasks(store, &row.tasks, "task/")?;
    Ok(OpenJob { row, defs, tasks })
}

/// The rows of one sort of a job's tasks, as far as they have one. Their ids ascend and lie side by side, so they are
/// read together.
pub(crate) fn of_tasks<T: DeserializeOwned>(
    store: &dyn Store,
    tasks: &[TaskId],
    sort: &str,
) -> Result<HashMap<TaskId, T>, StoreError> {
    let (Some(first), Some(last)) = (tasks.first(), tasks.last()) else { return Ok(HashMap::new()) };
    let (mut after, last) = (format!("{sort}{first}").into_bytes(), format!("{sort}{last}").into_bytes());
    // Right below the first: only ids that are no task's lie between.
    after.pop();
    let (mut rows, mut left) = (HashMap::new(), tasks.len());
    while left > 0 {
        let some = store.scan(sort.as_bytes(), Some(&after), left.min(SCAN))?;
        let Some((next, _)) = some.last() else { break };
        after.clone_from(next);
        left -= some.len();
        rows.reserve(some.len());
        for (key, value) in &some {
            if *key > last {
                return Ok(rows);
            }
            rows.insert(id(key, sort)?, decode(key, value)?);
        }
    }
    Ok(rows)
}

/// The id at the end of a key.
fn id<T: FromStr<Err = IdError>>(key: &[u8], prefix: &str) -> Result<T, StoreError> {
    let text = String::from_utf8_lossy(key);
    let parsed = text.get(prefix.len()..).unwrap_or_default().parse();
    parsed.map_err(|error: IdError| StoreError::Row { key: text.into_owned(), reason: error.to_string() })
}
