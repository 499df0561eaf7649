//! The fake beside the real store: forgets everything at the end of the process.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{PoisonError, RwLock},
};

use super::{Applied, Change, Row, Store, StoreError, Transaction, Visit};

/// Rows in memory.
#[derive(Debug, Default)]
pub struct Memory {
    rows: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Store for Memory {
    fn commit(&self, batch: &[Transaction]) -> Result<Vec<Applied>, StoreError> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        Ok(batch
            .iter()
            .map(|transaction| {
                let failed = transaction.checks.iter().find(|c| rows.get(&c.key) != c.expected.as_ref());
                if let Some(check) = failed {
                    return Applied::Conflict(check.key.clone());
                }
                for change in &transaction.changes {
                    match change {
                        Change::Put(key, value) => {
                            rows.insert(key.clone(), value.bytes().into_owned());
                        }
                        Change::Delete(key) => {
                            rows.remove(key);
                        }
                    }
                }
                Applied::Yes
            })
            .collect())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        Ok(rows
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn snapshot(&self, visit: Visit<'_>) -> Result<(), StoreError> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner).clone();
        rows.iter().try_for_each(|(key, value)| visit(key, value))
    }
}
