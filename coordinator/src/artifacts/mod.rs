//! Blobs on disk, named by their digest. A blob is whole or not there: it is written beside, synced,
//! and then renamed. Together they keep a quota: what no unfinished job needs goes first.

pub mod firmware;
mod headers;
mod index;
mod loaded;
mod upload;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use edgeprof_common::Digest;
use edgeprof_model::{Header, ModelError};

use headers::Headers;
use index::Index;
pub use loaded::{NotFirmware, check_core, loaded_digest};
pub use upload::{Upload, UploadError};

/// The folder of all blobs of one coordinator. Clones share it.
#[derive(Clone, Debug)]
pub struct Artifacts {
    blobs: Arc<Path>,
    incoming: Arc<Path>,
    index: Arc<Mutex<Index>>,
    headers: Headers,
}

/// Blobs that are needed: they stay while this lives.
#[derive(Debug)]
pub struct Hold {
    artifacts: Artifacts,
    digests: Vec<Digest>,
}

impl Hold {
    /// The blobs; not each needs to be here.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Needs more of them.
    pub fn extend(&mut self, digests: impl IntoIterator<Item = Digest>) {
        for digest in digests {
            let now = SystemTime::now();
            if self.artifacts.index().hold(digest, now) {
                self.artifacts.touch(&digest, now);
            }
            self.digests.push(digest);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let now = SystemTime::now();
        let mut index = self.artifacts.index();
        self.digests.iter().for_each(|digest| index.let_go(digest, now));
    }
}

impl Artifacts {
    /// Opens or makes the folders under `data`, and drops what a crash left half done. All blobs together
    /// are kept below `quota` bytes.
    ///
    /// # Errors
    /// When they cannot be made or read.
    pub fn open(data: &Path, quota: u64) -> io::Result<Self> {
        let (blobs, incoming) = (data.join("blobs"), data.join("incoming"));
        fs::create_dir_all(&blobs)?;
        if incoming.exists() {
            fs::remove_dir_all(&incoming)?;
        }
        fs::create_dir_all(&incoming)?;
        let mut index = Index::new(quota);
        for folder in fs::read_dir(&blobs)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(&folder)? {
                let file = file?;
                let name = file.file_name();
                let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
                let meta = file.metadata()?;
                if let (Some(digest), true) = (digest, meta.is_file()) {
                    // The time of its last use: see `touch`.
                    index.found(digest, meta.len(), meta.modified()?);
                }
            }
        }
        Ok(Self {
            blobs: blobs.into(),
            incoming: incoming.into(),
            index: Arc::new(Mutex::new(index)),
            headers: Headers::default(),
        })
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps blobs from being evicted, also those that are yet to come.
    pub fn hold(&self, digests: impl IntoIterator<Item = Digest>) -> Hold {
        let mut hold = Hold { artifacts: self.clone(), digests: Vec::new() };
        hold.extend(digests);
        hold
    }

    /// Keeps all that unfinished jobs need from being evicted.
    pub fn hold_needed(&self) -> Hold {
        let needed = self.index().needed();
        self.hold(needed)
    }

    /// Keeps a blob from being evicted for the minutes that it takes to submit a job. Whether it is here.
    pub fn spare(&self, digest: &Digest) -> bool {
        self.index().spare(digest, SystemTime::now());
        self.size(digest).is_some()
    }

    /// Drops the least recently used blob that nobody needs; whether there was one.
    pub fn evict(&self) -> bool {
        let mut index = self.index();
        match index.evict(SystemTime::now()) {
            Some((digest, _)) => {
                self.remove(&digest);
                true
            }
            None => false,
        }
    }

    /// Under the lock of the index: an upload of the same blob must not end in between.
    fn remove(&self, digest: &Digest) {
        tracing::info!(%digest, "an artifact that no unfinished job needs makes room");
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, %digest, "an evicted artifact cannot be removed");
            }
            _ => {}
        }
    }

    /// Notes its last use in the file's time, where the next life of the coordinator finds it.
    fn touch(&self, digest: &Digest, now: SystemTime) {
        let touched = File::open(self.path(digest)).and_then(|file| file.set_modified(now));
        if let Err(error) = touched {
            tracing::debug!(%error, %digest, "the last use of an artifact cannot be noted");
        }
    }

    /// Where a blob lies, or would.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs.join(&hex[..2]).join(hex)
    }

    /// Size of a blob, if it is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
    }

    /// The header of a blob that is a model.
    ///
    /// # Errors
    /// As [`Header::open`].
    pub fn header(&self, digest: &Digest) -> Result<Arc<Header>, ModelError> {
        self.headers.of(*digest, &self.path(digest))
    }

    /// Begins to write a blob of this digest and size, and makes room for it.
    ///
    /// # Errors
    /// When nothing may go that would make enough room, or there is none for a file.
    pub fn upload(&self, digest: Digest, size: u64) -> Result<Upload, UploadError> {
        Upload::begin(self.clone(), digest, size)
    }

    /// Keeps bytes that are in memory; durable on return.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep(&self, bytes: &[u8]) -> Result<Digest, UploadError> {
        let digest = Digest::of(bytes);
        if !self.spare(&digest) {
            let mut upload = self.upload(digest, bytes.len() as u64)?;
            upload.write(bytes)?;
            upload.finish()?;
        }
        Ok(digest)
    }

    /// Room for a file that another process writes, on the same file system.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn scratch(&self) -> io::Result<tempfile::TempDir> {
        tempfile::tempdir_in(&self.incoming)
    }
}

#[cfg(test)]
mod tests;
