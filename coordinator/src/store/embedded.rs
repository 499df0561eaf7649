//! The store on disk: one redb table.

use std::{
    any::Any,
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition};

use super::{Applied, Change, Row, Store, StoreError, Transaction, Value, Visit};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// Bytes of pages that are kept in memory. What the coordinator reads while it works, it has in memory anyway.
const CACHE: usize = 32 << 20;

/// Rows in a redb file, which one process has open at a time.
pub struct Embedded {
    database: Database,
}

impl Embedded {
    /// Opens or makes the file. After a crash it is repaired, for which all of it is read.
    ///
    /// # Errors
    /// When another process has it, or it cannot be made or read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = unpanicked(|| Ok(Database::builder().set_cache_size(CACHE).create(path)));
        let database = opened?.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                StoreError::Locked(path.parent().unwrap_or(path).to_owned())
            }
            DatabaseError::Storage(StorageError::Io(source)) => {
                StoreError::Open { path: path.to_owned(), reason: source.to_string() }
            }
            DatabaseError::Storage(StorageError::Corrupted(reason)) => StoreError::Damaged(reason),
            other => StoreError::Open { path: path.to_owned(), reason: other.to_string() },
        })?;
        let store = Self { database };
        // A read of a table that was never made is an error: make it now.
        store.commit(&[Transaction::default()])?;
        Ok(store)
    }
}

/// redb panics on pages that contradict themselves. The process is about to end, but with the exit code
/// and the words of a damaged store.
fn unpanicked<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(StoreError::Damaged(words(&*panic))))
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given").to_owned()
}

/// A value's bytes. That they cannot be made is not the library's doing.
fn made<'a>(key: &[u8], value: &'a Value) -> Result<Cow<'a, [u8]>, StoreError> {
    catch_unwind(AssertUnwindSafe(|| value.bytes())).map_err(|panic| StoreError::Unmade {
        key: String::from_utf8_lossy(key).into_owned(),
        reason: words(&*panic),
    })
}

/// Every failure is fatal, and redb's own errors are sticky: no kinds are needed.
fn failed(error: impl fmt::Display) -> StoreError {
    StoreError::Io(error.to_string())
}

impl Store for Embedded {
    fn commit(&self, batch: &[Transaction]) -> Result<Vec<Applied>, StoreError> {
        unpanicked(|| self.try_commit(batch))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        unpanicked(|| self.try_get(key))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        unpanicked(|| self.try_scan(prefix, after, limit))
    }

    fn snapshot(&self, visit: Visit<'_>) -> Result<(), StoreError> {
        unpanicked(|| {
            let read = self.database.begin_read().map_err(failed)?;
            let table = read.open_table(ROWS).map_err(failed)?;
            for row in table.iter().map_err(failed)? {
                let (key, value) = row.map_err(failed)?;
                visit(key.value(), value.value())?;
            }
            Ok(())
        })
    }
}

/// The last change of every key of a batch, in the order of the keys: a row that changes several times in a
/// commit is written once.
#[derive(Default)]
struct Last<'a>(BTreeMap<&'a [u8], Option<&'a Value>>);

impl Last<'_> {
    fn write(&mut self, table: &mut Table<'_, &'static [u8], &'static [u8]>) -> Result<(), StoreError> {
        for (key, value) in std::mem::take(&mut self.0) {
            match value {
                Some(value) => drop(table.insert(key, &*made(key, value)?).map_err(failed)?),
                None => drop(table.remove(key).map_err(failed)?),
            }
        }
        Ok(())
    }
}

impl Embedded {
    fn try_commit(&self, batch: &[Transaction]) -> Result<Vec<Applied>, StoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        let mut outcomes = Vec::with_capacity(batch.len());
        {
            let mut table = write.open_table(ROWS).map_err(failed)?;
            let mut last = Last::default();
            'transactions: for transaction in batch {
                if !transaction.checks.is_empty() {
                    // It compares with what those before it have left.
                    last.write(&mut table)?;
                }
                for check in &transaction.checks {
                    let found = table.get(check.key.as_slice()).map_err(failed)?;
                    if found.as_ref().map(|value| value.value()) != check.expected.as_deref() {
                        outcomes.push(Applied::Conflict(check.key.clone()));
                        continue 'transactions;
                    }
                }
                for change in &transaction.changes {
                    match change {
                        Change::Put(key, value) => last.0.insert(key, Some(value)),
                        Change::Delete(key) => last.0.insert(key, None),
                    };
                }
                outcomes.push(Applied::Yes);
            }
            last.write(&mut table)?;
        }
        write.commit().map_err(failed)?;
        Ok(outcomes)
    }

    fn try_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(ROWS).map_err(failed)?;
        Ok(table.get(key).map_err(failed)?.map(|value| value.value().to_vec()))
    }

    fn try_scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(ROWS).map_err(failed)?;
        let mut rows = Vec::new();
        for row in table.range::<&[u8]>((from, Bound::Unbounded)).map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            if rows.len() == limit || !key.value().starts_with(prefix) {
                break;
            }
            rows.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(rows)
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows;

    #[test]
    fn a_row_that_cannot_be_made_is_no_damage_and_nothing_of_its_commit_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(&folder.path().join("store.redb")).unwrap();
        let mut transaction = Transaction::default();
        transaction.put(b"a".to_vec(), b"1".to_vec());
        transaction.put_later(b"b".to_vec(), || panic!("a map with keys that are no text"));
        let error = store.commit(&[transaction]).unwrap_err();
        let said = format!("{error}; {}", error.hint());
        for word in
            ["row b", "keys that are no text", "fault of the coordinator", "start the coordinator again"]
        {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
        assert_eq!(store.get(b"a").unwrap(), None);
    }

    /// Whatever is wrong with the file, it is said: no panic comes through.
    #[test]
    fn a_damaged_file_is_an_error_with_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = Embedded::open(&path).unwrap();
        for n in 0..200_u32 {
            let mut transaction = Transaction::default();
            transaction.put(format!("job/{n}").into_bytes(), vec![7; 100]);
            store.commit(&[transaction]).unwrap();
        }
        drop(store);
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = 0;
        for round in 0..24_usize {
            let mut bytes = whole.clone();
            for n in 0..300 {
                // Anywhere after the header, by a fixed rule.
                let at = 4096 + (n * 7919 + round * 104_729) % (bytes.len() - 4096);
                bytes[at] = !bytes[at];
            }
            std::fs::write(&path, &bytes).unwrap();
            let read = Embedded::open(&path).and_then(|store| {
                rows::claim(&store)?;
                rows::for_each(&store, "", |_, _| Ok(()))
            });
            damaged += usize::from(matches!(read, Err(StoreError::Damaged(_))));
        }
        assert!(damaged > 0, "none of these files makes the library panic: the test tests nothing");
    }
}
