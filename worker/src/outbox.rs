//! Results that no coordinator has acknowledged yet. They survive the process.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use edgeprof_common::{Digest, TaskId, Token};
use edgeprof_proto::v1;
use prost::Message;
use tracing::{error, warn};

use crate::{disk, spec};

/// Names a result: a task may have one from each of its attempts.
pub type Key = (TaskId, Token);

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    limit: usize,
    entries: BTreeMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    result: v1::Result,
    durable: bool,
}

impl Outbox {
    /// Reads what is left in `folder`. A file that is not whole is set aside and never sent.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path, limit: usize) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                // Cut short before it was ever sent.
                disk::remove(&path)?;
            }
            if path.extension().is_none_or(|e| e != "result") {
                continue;
            }
            let bytes = fs::read(&path)?;
            match decode(&bytes).and_then(|result| Some((key(&result)?, result))) {
                Some((key, result)) => {
                    entries.insert(key, Entry { result, durable: true });
                }
                None => {
                    warn!(file = %path.display(), "a kept result is damaged and set aside");
                    fs::rename(&path, path.with_extension("damaged"))?;
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), limit, entries })
    }

    /// Takes a result. Where the disk does not, it is held in memory and tried again by
    /// [`Outbox::retry`]; meanwhile [`Outbox::has_room`] is false.
    pub fn put(&mut self, result: v1::Result) {
        let Some(key) = key(&result) else {
            error!(task = result.task_id, "a result without a valid task and lease is dropped");
            return;
        };
        let durable = self.write(&key, &result);
        self.entries.insert(key, Entry { result, durable });
    }

    /// Tries again to write what is only in memory.
    pub fn retry(&mut self) {
        let pending: Vec<Key> = self.entries.iter().filter(|(_, e)| !e.durable).map(|(k, _)| *k).collect();
        for key in pending {
            let durable = self.entries.get(&key).is_some_and(|entry| self.write(&key, &entry.result));
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.durable = durable;
            }
        }
    }

    /// Forgets a result: it is durable elsewhere, or nobody will ever take it.
    pub fn remove(&mut self, key: &Key) -> bool {
        let known = self.entries.remove(key).is_some();
        if known && let Err(source) = disk::remove(&self.file(key)) {
            // It will be sent once more after a restart, and acknowledged as a duplicate.
            warn!(%source, "an acknowledged result cannot be removed");
        }
        known
    }

    /// Whether boards may take more work.
    pub fn has_room(&self) -> bool {
        self.entries.len() < self.limit && self.entries.values().all(|entry| entry.durable)
    }

    /// One result.
    pub fn get(&self, key: &Key) -> Option<&v1::Result> {
        self.entries.get(key).map(|entry| &entry.result)
    }

    /// All results, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &v1::Result)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.result))
    }

    fn write(&self, key: &Key, result: &v1::Result) -> bool {
        let body = result.encode_to_vec();
        let bytes = [Digest::of(&body).as_bytes().as_slice(), &body].concat();
        match disk::write_durably(&self.file(key), &bytes) {
            Ok(()) => true,
            Err(source) => {
                error!(%source, task = %key.0, "a result cannot be written and is held in memory");
                false
            }
        }
    }

    fn file(&self, (task, token): &Key) -> PathBuf {
        self.folder.join(format!("{task}-{}-{}.result", token.epoch.0, token.counter))
    }
}

fn key(result: &v1::Result) -> Option<Key> {
    Some((result.task_id.parse().ok()?, spec::token(result.lease.as_ref()?)))
}

/// A kept result: its SHA-256, then the message. `None` where the file is not whole.
pub fn decode(bytes: &[u8]) -> Option<v1::Result> {
    let (sum, body) = bytes.split_first_chunk::<32>()?;
    (Digest::of(body).as_bytes() == sum).then(|| v1::Result::decode(body).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(task: u128, counter: u64) -> v1::Result {
        v1::Result {
            lease: Some(v1::Lease { epoch: 3, counter }),
            task_id: TaskId::from_raw(task).to_string(),
            board: "w/b".into(),
            outcome: Some(v1::result::Outcome::Cancelled(v1::Cancelled {})),
            transcript: Vec::new(),
        }
    }

    fn keys(outbox: &Outbox) -> Vec<Key> {
        outbox.iter().map(|(key, _)| *key).collect()
    }

    /// What a SIGKILL leaves is what a reopened outbox reads: nothing is flushed on drop.
    #[test]
    fn results_outlive_the_process_until_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path(), 10).unwrap();
        outbox.put(result(1, 1));
        outbox.put(result(1, 2));
        outbox.put(result(2, 3));
        let first = keys(&outbox);
        std::mem::forget(outbox);
        let mut outbox = Outbox::open(folder.path(), 10).unwrap();
        assert_eq!(keys(&outbox), first);
        assert_eq!(outbox.get(&first[2]), Some(&result(2, 3)));
        assert!(outbox.remove(&first[0]) && !outbox.remove(&first[0]));
        std::mem::forget(outbox);
        assert_eq!(keys(&Outbox::open(folder.path(), 10).unwrap()), first[1..]);
    }

    #[test]
    fn a_torn_file_is_set_aside_and_never_sent() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path(), 10).unwrap();
        outbox.put(result(1, 1));
        outbox.put(result(2, 2));
        let torn = outbox.file(&keys(&outbox)[0]);
        let bytes = fs::read(&torn).unwrap();
        fs::write(&torn, &bytes[..bytes.len() - 1]).unwrap();
        fs::write(folder.path().join("half.tmp"), b"x").unwrap();
        let outbox = Outbox::open(folder.path(), 10).unwrap();
        assert_eq!(outbox.iter().count(), 1);
        assert!(torn.with_extension("damaged").exists());
    }

    #[test]
    fn a_full_or_unwritable_outbox_gives_no_room_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path(), 2).unwrap();
        outbox.put(result(1, 1));
        assert!(outbox.has_room());
        outbox.put(result(2, 2));
        assert!(!outbox.has_room());
        let mut outbox = Outbox::open(folder.path(), 10).unwrap();
        fs::remove_dir_all(folder.path()).unwrap();
        outbox.put(result(3, 3));
        assert!(!outbox.has_room());
        assert_eq!(outbox.iter().count(), 3);
        fs::create_dir(folder.path()).unwrap();
        outbox.retry();
        assert!(outbox.has_room());
    }
}
