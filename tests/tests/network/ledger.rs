//! The coordinator's store in memory, which outlives its host and notes every record.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use edgeprof_common::{RunId, TaskId, run::RunRecord};
use edgeprof_coordinator::store::{
    Applied, Change, Memory, Row, Store, StoreError, Transaction, Visit,
    rows::{self, key},
};

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    rows: Memory,
    /// How often each record was written.
    records: Mutex<BTreeMap<Vec<u8>, usize>>,
}

impl Ledger {
    /// Another store with the same rows: the data directory, copied.
    pub(crate) fn copy(&self) -> Arc<Self> {
        let mut all = Transaction::default();
        for (key, value) in self.rows.scan(b"", None, usize::MAX).unwrap() {
            all.put(key, value);
        }
        let copy = Self::default();
        copy.rows.commit(&[all]).unwrap();
        Arc::new(copy)
    }

    /// The record of a task.
    pub(crate) fn record(&self, task: TaskId) -> Option<RunRecord> {
        let key = key::run(RunId::from(task));
        let value = self.rows.get(&key).unwrap()?;
        Some(rows::unpack(&key, &value).unwrap())
    }

    /// Whether a task has a record.
    pub(crate) fn has_record(&self, task: TaskId) -> bool {
        self.records.lock().unwrap().contains_key(&key::run(RunId::from(task)))
    }

    /// Whether a task was leased to a board.
    pub(crate) fn has_lease(&self) -> bool {
        !self.rows.scan(b"task/", None, 1).unwrap().is_empty()
    }

    /// Records, and how often any was written: both are the same if each was written once.
    pub(crate) fn written(&self) -> (usize, usize) {
        let records = self.records.lock().unwrap();
        (records.len(), records.values().sum())
    }
}

impl Store for Ledger {
    fn commit(&self, batch: &[Transaction]) -> Result<Vec<Applied>, StoreError> {
        let outcomes = self.rows.commit(batch)?;
        let mut records = self.records.lock().unwrap();
        for (transaction, outcome) in batch.iter().zip(&outcomes) {
            if *outcome != Applied::Yes {
                continue;
            }
            for change in &transaction.changes {
                if let Change::Put(key, _) = change
                    && key.starts_with(b"run/")
                {
                    *records.entry(key.clone()).or_default() += 1;
                }
            }
        }
        Ok(outcomes)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows.scan(prefix, after, limit)
    }

    fn snapshot(&self, visit: Visit<'_>) -> Result<(), StoreError> {
        self.rows.snapshot(visit)
    }
}
