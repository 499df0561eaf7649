//! What a starting coordinator takes from its store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    str::FromStr,
};

use edgeprof_common::{BoardId, Digest, IdError, Quant, TaskId, Token, WorkerId};
use edgeprof_scheduler::Estimate;

use super::{ImageRow, JobRow, StoredBoard, StoredTask, TaskDef, decode, for_each, key};
use crate::store::{Store, StoreError};

/// Everything but records, transcripts and workloads.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Every job, in the order of submission.
    pub jobs: Vec<JobRow>,
    /// Every task's definition.
    pub defs: HashMap<TaskId, TaskDef>,
    /// The place of every task that is not as it was submitted.
    pub tasks: HashMap<TaskId, StoredTask>,
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

/// Reads what a starting coordinator needs.
///
/// # Errors
/// When the store fails or a row is damaged.
pub fn recover(store: &dyn Store) -> Result<Recovered, StoreError> {
    let mut all = Recovered::default();
    for_each(store, "job/", |key, value| {
        all.jobs.push(decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "def/", |key, value| {
        let def: TaskDef = decode(key, value)?;
        all.defs.insert(def.id, def);
        Ok(())
    })?;
    for_each(store, "task/", |key, value| {
        let task: StoredTask = decode(key, value)?;
        all.tasks.insert(task.row.id, task);
        Ok(())
    })?;
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
    all.jobs.sort_by_key(|job| job.first_seq);
    Ok(all)
}

/// The id at the end of a key.
fn id<T: FromStr<Err = IdError>>(key: &[u8], prefix: &str) -> Result<T, StoreError> {
    let text = String::from_utf8_lossy(key).into_owned();
    let parsed = text.get(prefix.len()..).unwrap_or_default().parse();
    parsed.map_err(|error: IdError| StoreError::Row { key: text, reason: error.to_string() })
}
