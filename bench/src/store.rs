//! The store alone: what the same commits take when nothing else happens.

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use edgeprof_coordinator::store::{Embedded, Store, Transaction, rows};

use tempfile::TempDir;

use crate::log::Commit;

/// A store that takes the commits of another: as many rows of as many bytes of every sort, each behind the last one of
/// its sort, since that is where most of a task's rows come to lie.
#[derive(Debug)]
pub(crate) struct Replay {
    store: Embedded,
    /// Of each sort: the first row that is left, and the next that comes.
    ends: BTreeMap<String, (usize, usize)>,
    _folder: TempDir,
}

impl Replay {
    /// An empty one in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let folder = tempfile::tempdir_in(folder)?;
        let store = Embedded::open(&folder.path().join("store.redb"))?;
        Ok(Self { store, ends: BTreeMap::new(), _folder: folder })
    }

    /// Time that each of these commits takes, after a pause. Keys and values are made before the clock starts.
    pub(crate) fn take<'a>(
        &mut self,
        commits: impl IntoIterator<Item = &'a Commit>,
        pause: Duration,
    ) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for commit in commits {
            let transaction = self.transaction(commit);
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            let start = Instant::now();
            self.store.commit(&[transaction])?;
            times.push(start.elapsed());
        }
        Ok(times)
    }

    fn transaction(&mut self, commit: &Commit) -> Transaction {
        let mut transaction = Transaction::default();
        for sort in &commit.sorts {
            let (first, next) = self.ends.entry(sort.name.clone()).or_default();
            for _ in 0..sort.put {
                let key = key(&sort.name, *next);
                let value = vec![b'x'; (sort.bytes / sort.put).saturating_sub(key.len())];
                transaction.put(key, value);
                *next += 1;
            }
            for _ in 0..sort.removed {
                transaction.delete(key(&sort.name, *first));
                *first += 1;
            }
        }
        transaction
    }
}

/// As long as a task's: a prefix and 26 digits.
fn key(sort: &str, number: usize) -> Vec<u8> {
    format!("{sort}/{number:026}").into_bytes()
}

/// Opens a coordinator's store and reads every row: what a start cannot be faster than.
pub(crate) fn read_all(data: &Path) -> Result<Duration> {
    let start = Instant::now();
    let store = Embedded::open(&data.join("store.redb"))?;
    let mut bytes = 0;
    rows::for_each(&store, "", |key, value| {
        bytes += key.len() + value.len();
        Ok(())
    })?;
    ensure!(bytes > 0, "the store in {} is empty", data.display());
    Ok(start.elapsed())
}
