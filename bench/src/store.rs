//! The store alone: what the same commits take when nothing else happens.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use edgeprof_coordinator::store::{Embedded, Store, Transaction, rows};

use crate::log::Commit;

/// Beginnings of the keys of what a task writes: what it is, where it is, its record. Ids ascend behind each.
const ROWS: [&str; 3] = ["def/", "run/", "task/"];

/// Time that each of these commits takes in a fresh store in `folder`: as many rows of as many bytes, at places
/// like those of the coordinator's rows, each a step behind the last one of its sort. Keys and values are made
/// before the clock starts.
pub(crate) fn replay(folder: &Path, commits: &[Commit]) -> Result<Vec<Duration>> {
    let folder = tempfile::tempdir_in(folder)?;
    let store = Embedded::open(&folder.path().join("store.redb"))?;
    let mut rows = 0..;
    let mut times = Vec::with_capacity(commits.len());
    for commit in commits {
        let mut transaction = Transaction::default();
        let row = usize::try_from(commit.bytes / commit.rows.max(1))?;
        for number in rows.by_ref().take(usize::try_from(commit.rows)?) {
            let key = key(number);
            let value = vec![b'x'; row.saturating_sub(key.len())];
            transaction.put(key, value);
        }
        let start = Instant::now();
        store.commit(&[transaction])?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// As long as a task's: a prefix and 26 digits.
fn key(number: usize) -> Vec<u8> {
    format!("{}{:026}", ROWS[number % ROWS.len()], number / ROWS.len()).into_bytes()
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
