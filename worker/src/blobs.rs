//! Content-addressed cache of what the coordinator sends: firmware and board images.

mod error;
mod upload;

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use edgeprof_common::Digest;
use tokio::sync::watch;

pub use self::{error::BlobError, upload::Upload};
use crate::disk;

/// Blobs whose failures are remembered.
const FAILURES: usize = 64;

/// The cache. Clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Largest blob.
    limit: u64,
    /// What all together are kept below.
    quota: u64,
    index: Mutex<Index>,
    /// Rises with every piece that arrives.
    arrivals: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Index {
    blobs: HashMap<Digest, Known>,
    uploads: u64,
    /// Bytes of uploads that are under way.
    reserved: u64,
    /// Why blobs did not get here, since their last upload began.
    failures: HashMap<Digest, String>,
}

#[derive(Debug)]
struct Known {
    size: u64,
    /// Kept as the file's time, so that the next start knows it.
    used: SystemTime,
    pins: u32,
}

impl Index {
    /// Drops the least recently used blobs that nobody uses from the index until `size` more bytes have
    /// room, and returns them; nothing where that cannot be.
    fn make_room(&mut self, size: u64, quota: u64) -> Result<Vec<Digest>, u64> {
        let sum = |pinned: bool| -> u64 {
            self.blobs.values().filter(|known| (known.pins > 0) == pinned).map(|known| known.size).sum()
        };
        let needed = sum(true).saturating_add(self.reserved);
        if needed.saturating_add(size) > quota {
            return Err(needed);
        }
        let mut all = needed.saturating_add(size).saturating_add(sum(false));
        let mut gone = Vec::new();
        while all > quota {
            let Some(digest) = self.oldest() else { break };
            all -= self.blobs.remove(&digest).map_or(0, |known| known.size);
            gone.push(digest);
        }
        Ok(gone)
    }

    fn oldest(&self) -> Option<Digest> {
        let unused = self.blobs.iter().filter(|(_, known)| known.pins == 0);
        unused.min_by_key(|(digest, known)| (known.used, **digest)).map(|(digest, _)| *digest)
    }
}

/// A blob in use: it is not evicted while this lives.
#[derive(Debug)]
pub struct Pin {
    shared: Arc<Shared>,
    digest: Digest,
    path: PathBuf,
}

impl Pin {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The blob.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(known) = self.shared.index().blobs.get_mut(&self.digest) {
            known.pins -= 1;
        }
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }
}

impl Blobs {
    /// Opens the cache in `folder`. Uploads that were cut short are removed.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path, limit: u64, quota: u64) -> io::Result<Self> {
        let mut index = Index::default();
        for file in fs::read_dir(folder)? {
            let file = file?;
            let name = file.file_name();
            match name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                Some(digest) => {
                    let meta = file.metadata()?;
                    index.blobs.insert(digest, Known { size: meta.len(), used: meta.modified()?, pins: 0 });
                }
                None => disk::remove(&file.path())?,
            }
        }
        let shared = Shared {
            folder: folder.to_owned(),
            limit,
            quota,
            index: Mutex::new(index),
            arrivals: watch::Sender::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether it is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.shared.index().blobs.contains_key(digest)
    }

    /// Keeps it from being evicted; `None` if it is not here.
    pub fn pin(&self, digest: &Digest) -> Option<Pin> {
        let mut index = self.shared.index();
        let known = index.blobs.get_mut(digest)?;
        let path = self.shared.path(digest);
        known.used = SystemTime::now();
        known.pins += 1;
        if let Err(error) = File::open(&path).and_then(|file| file.set_modified(known.used)) {
            tracing::debug!(%error, blob = %digest, "the last use of a blob cannot be noted");
        }
        Some(Pin { shared: Arc::clone(&self.shared), digest: *digest, path })
    }

    /// Changes with every piece of a blob that arrives, and with every blob that is whole.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.shared.arrivals.subscribe()
    }

    /// Bytes of all blobs that are here.
    pub fn bytes(&self) -> u64 {
        self.shared.index().blobs.values().map(|known| known.size).sum()
    }

    /// Begins to receive a blob of `size` bytes.
    ///
    /// # Errors
    /// When it is too large or cannot be written.
    pub fn receive(&self, digest: Digest, size: u64) -> Result<Upload, BlobError> {
        if size > self.shared.limit {
            let error = BlobError::TooLarge { digest, size, limit: self.shared.limit };
            self.note(digest, error.to_string());
            return Err(error);
        }
        let quota = self.shared.quota;
        let made = {
            let mut index = self.shared.index();
            index.failures.remove(&digest);
            index.make_room(size, quota).map(|gone| {
                gone.iter().for_each(|old| self.unlink(old));
                index.reserved += size;
                index.uploads += 1;
                index.uploads
            })
        };
        let number = made.map_err(|needed| {
            let error = BlobError::Full { digest, size, quota, needed };
            self.note(digest, error.to_string());
            error
        })?;
        Upload::begin(self, digest, size, number).map_err(|source| self.failed(digest, source))
    }

    /// Why the last upload of a blob failed on this side; `None` once another began.
    pub fn failure(&self, digest: &Digest) -> Option<String> {
        self.shared.index().failures.get(digest).cloned()
    }

    /// Forgets why a blob did not get here: the next upload may fare better.
    pub fn forgive(&self, digest: &Digest) {
        self.shared.index().failures.remove(digest);
    }

    fn failed(&self, digest: Digest, source: io::Error) -> BlobError {
        let error = BlobError::Io { digest, source };
        self.note(digest, error.to_string());
        error
    }

    fn note(&self, digest: Digest, why: String) {
        let mut index = self.shared.index();
        if index.failures.len() >= FAILURES {
            index.failures.clear();
        }
        index.failures.insert(digest, why);
        drop(index);
        self.shared.arrivals.send_modify(|n| *n += 1);
    }

    /// Makes room on a full disk: drops the least recently used blob that nobody uses.
    fn evict(&self) -> bool {
        let mut index = self.shared.index();
        let Some(oldest) = index.oldest() else { return false };
        index.blobs.remove(&oldest);
        self.unlink(&oldest);
        true
    }

    /// Under the lock of the index: an upload of the same blob must not end in between.
    fn unlink(&self, digest: &Digest) {
        if let Err(source) = disk::remove(&self.shared.path(digest)) {
            tracing::warn!(%source, blob = %digest, "an evicted blob cannot be removed");
        }
    }

    fn commit(&self, digest: Digest, size: u64) {
        let mut index = self.shared.index();
        let known = index.blobs.entry(digest).or_insert(Known { size, used: SystemTime::now(), pins: 0 });
        known.used = SystemTime::now();
    }
}

#[cfg(test)]
mod tests;
