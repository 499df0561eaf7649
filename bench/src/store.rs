//! The store alone: what the same commits take when nothing else happens.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use edgeprof_coordinator::store::{Embedded, Store, Transaction, rows};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::log::Commit;

/// Bytes of a key: a prefix and an id, as most rows have.
const KEY: usize = 24;

/// Time that each of these commits takes in a fresh store in `folder`: as many rows of as many bytes, at
/// places as random as ids are. Ids, encoding and everything else are made before the clock starts.
pub(crate) fn replay(folder: &Path, commits: &[Commit]) -> Result<Vec<Duration>> {
    let folder = tempfile::tempdir_in(folder)?;
    let store = Embedded::open(&folder.path().join("store.redb"))?;
    let mut random = StdRng::seed_from_u64(0);
    let mut times = Vec::with_capacity(commits.len());
    for commit in commits {
        let mut transaction = Transaction::default();
        let value = (commit.bytes / commit.rows.max(1)).saturating_sub(KEY as u64);
        for _ in 0..commit.rows {
            let key: [u8; KEY] = random.random();
            transaction.put(key.to_vec(), vec![b'x'; usize::try_from(value)?]);
        }
        let start = Instant::now();
        store.commit(&[transaction])?;
        times.push(start.elapsed());
    }
    Ok(times)
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
