//! Results that no coordinator has acknowledged yet. They survive the process.
//!
//! A result is written before it is sent, and durable within [`UNSYNCED`] unless it is acknowledged before:
//! where the coordinator answers quickly, nothing waits for the disk. A power loss in between costs a run, never
//! an acknowledged result.

pub mod log;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    time::Duration,
};

use edgeprof_common::{TaskId, Token};
use edgeprof_proto::v1;
use tokio::time::Instant;
use tracing::{error, warn};

use self::log::{Log, Record};
use crate::spec;

/// Names a result: a task may have one from each of its attempts.
pub type Key = (TaskId, Token);

/// A result that was not acknowledged for so long is made durable.
pub const UNSYNCED: Duration = Duration::from_millis(100);

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    log: Log,
    limit: usize,
    entries: BTreeMap<Key, Entry>,
    /// Results that are only in memory.
    unwritten: usize,
    /// Written and not known to be durable, oldest first; some are acknowledged since.
    unsynced: VecDeque<(Instant, Key)>,
}

#[derive(Debug)]
struct Entry {
    result: v1::Result,
    /// The segment that has it.
    segment: Option<u64>,
    synced: bool,
}

impl Outbox {
    /// Reads what is left in `folder`. What is not whole is set aside and never sent.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path, limit: usize) -> io::Result<Self> {
        let (mut log, records) = Log::open(folder)?;
        let mut entries = BTreeMap::new();
        for (segment, record) in records {
            match record {
                Record::Put(key, result) => {
                    entries.insert(key, Entry { result: *result, segment: Some(segment), synced: true });
                }
                Record::Gone(key) => {
                    entries.remove(&key);
                }
            }
        }
        entries.values().filter_map(|entry| entry.segment).for_each(|segment| log.live(segment));
        log.trim();
        Ok(Self { log, limit, entries, unwritten: 0, unsynced: VecDeque::new() })
    }

    /// Takes a result. Where the disk does not, it is held in memory and tried again by
    /// [`Outbox::retry`]; meanwhile [`Outbox::has_room`] is false.
    pub fn put(&mut self, result: v1::Result) {
        let Some(key) = key(&result) else {
            error!(task = result.task_id, "a result without a valid task and lease is dropped");
            return;
        };
        self.remove(&key);
        self.entries.insert(key, Entry { result, segment: None, synced: false });
        self.unwritten += 1;
        self.write(&key);
    }

    /// Tries again to write what is only in memory, and writes anew what keeps old segments.
    pub fn retry(&mut self) {
        if let Some(oldest) = self.log.crowded() {
            self.renew(oldest);
        }
        if self.unwritten == 0 {
            return;
        }
        let lost = self.entries.iter().filter(|(_, entry)| entry.segment.is_none());
        let lost: Vec<Key> = lost.map(|(key, _)| *key).collect();
        // One that fails is enough to hear of.
        let _ = lost.iter().all(|key| self.write(key));
    }

    /// Moves what is waited for out of a segment, which then goes.
    fn renew(&mut self, segment: u64) {
        let kept = self.entries.iter().filter(|(_, entry)| entry.segment == Some(segment));
        let kept: Vec<Key> = kept.map(|(key, _)| *key).collect();
        let mut moved = Vec::new();
        for key in kept {
            let Some(entry) = self.entries.get(&key) else { continue };
            match self.log.put(&entry.result) {
                Ok(segment) => moved.push((key, segment)),
                Err(_) => break,
            }
        }
        // The old place goes only once the new one is durable.
        let durable = self.sync();
        for (key, new) in moved {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            // Where the sync failed, one that was not durable in its old place either is written anew.
            let old = if durable { entry.segment.replace(new) } else { Some(new) };
            if let Some(segment) = old {
                self.log.release(segment);
            }
        }
    }

    fn write(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return true };
        match self.log.put(&entry.result) {
            Ok(segment) => {
                entry.segment = Some(segment);
                self.unwritten -= 1;
                self.unsynced.push_back((Instant::now(), *key));
                true
            }
            Err(source) => {
                error!(
                    %source, task = %key.0, held = self.unwritten,
                    "a result cannot be written and is held in memory; no board takes work until there is room \
                     on the worker's disk"
                );
                false
            }
        }
    }

    /// Forgets a result: it is durable elsewhere, or nobody will ever take it.
    pub fn remove(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        match entry.segment {
            None => self.unwritten -= 1,
            Some(segment) => {
                if let Err(source) = self.log.gone(key) {
                    // It will be sent once more after a restart, and acknowledged as a duplicate.
                    warn!(%source, "an acknowledged result cannot be removed");
                }
                self.log.release(segment);
            }
        }
        true
    }

    /// When something has to be made durable, if anything has.
    pub fn sync_due(&mut self) -> Option<Instant> {
        while let Some((at, key)) = self.unsynced.front() {
            if self.entries.get(key).is_some_and(|entry| !entry.synced && entry.segment.is_some()) {
                return Some(*at + UNSYNCED);
            }
            self.unsynced.pop_front();
        }
        None
    }

    /// Makes durable what is written, and says whether it is. What cannot be counts as not written.
    pub fn sync(&mut self) -> bool {
        let outcome = self.log.sync();
        for (_, key) in self.unsynced.drain(..) {
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| !entry.synced) else { continue };
            match (&outcome, entry.segment) {
                (Ok(()), _) => entry.synced = true,
                (Err(_), Some(segment)) => {
                    entry.segment = None;
                    self.unwritten += 1;
                    self.log.release(segment);
                }
                (Err(_), None) => {}
            }
        }
        if let Err(source) = &outcome {
            error!(%source, held = self.unwritten, "results cannot be made durable and are held in memory");
        }
        outcome.is_ok()
    }

    /// Whether boards may take more work.
    pub fn has_room(&self) -> bool {
        self.entries.len() < self.limit && self.unwritten == 0
    }

    /// One result.
    pub fn get(&self, key: &Key) -> Option<&v1::Result> {
        self.entries.get(key).map(|entry| &entry.result)
    }

    /// All results, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &v1::Result)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.result))
    }
}

fn key(result: &v1::Result) -> Option<Key> {
    Some((result.task_id.parse().ok()?, spec::token(result.lease.as_ref()?)))
}

#[cfg(test)]
mod tests;
