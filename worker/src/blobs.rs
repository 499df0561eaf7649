//! Content-addressed cache of what the coordinator sends: firmware and board images.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use edgeprof_common::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::disk;

/// Blobs whose failures are remembered.
const FAILURES: usize = 64;

/// Why a blob was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Larger than allowed.
    #[error(
        "blob {digest} has {size} bytes, the limit is {limit}; raise blob_bytes in the worker's [limits]"
    )]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// More than was announced.
    #[error("more than the {expected} bytes of blob {digest} came that were announced")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// What was announced.
        expected: u64,
    },
    /// What is in use and what is on its way leave no room.
    #[error(
        "no room for blob {digest} of {size} bytes: the cache may take {quota}, and {needed} are in use or on \
         their way; raise cache_bytes in the worker's [limits], or wait until its runs have ended"
    )]
    Full {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// What all may take.
        quota: u64,
        /// What stays in any case.
        needed: u64,
    },
    /// The content is not what its name says.
    #[error("blob {digest} is damaged: {size} bytes came, of digest {found}")]
    Mismatch {
        /// The name.
        digest: Digest,
        /// What came.
        found: Digest,
        /// How much.
        size: u64,
    },
    /// The disk.
    #[error("cannot keep blob {digest}: {source}")]
    Io {
        /// The blob.
        digest: Digest,
        /// What the system said.
        source: io::Error,
    },
}

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
        let room = Room { shared: Arc::clone(&self.shared), size };
        let path = self.shared.folder.join(format!("upload-{number}.tmp"));
        let file = File::create(&path).map_err(|source| self.failed(digest, source))?;
        Ok(Upload {
            blobs: self.clone(),
            _room: room,
            digest,
            expected: size,
            size: 0,
            hash: Sha256::new(),
            file,
            path: Some(path),
        })
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

/// Room that an upload has reserved.
#[derive(Debug)]
struct Room {
    shared: Arc<Shared>,
    size: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut index = self.shared.index();
        index.reserved = index.reserved.saturating_sub(self.size);
    }
}

/// A blob on its way in. Dropped unfinished, it leaves nothing. Its calls block on the disk.
#[derive(Debug)]
pub struct Upload {
    blobs: Blobs,
    _room: Room,
    digest: Digest,
    expected: u64,
    size: u64,
    hash: Sha256,
    file: File,
    path: Option<PathBuf>,
}

impl Upload {
    /// Takes a piece.
    ///
    /// # Errors
    /// When more comes than was announced, or the disk does not take it.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        let digest = self.digest;
        self.size += piece.len() as u64;
        if self.size > self.expected {
            return Err(BlobError::TooLong { digest, expected: self.expected });
        }
        self.hash.update(piece);
        write_all(&mut self.file, piece, || self.blobs.evict())
            .map_err(|source| self.blobs.failed(digest, source))?;
        self.blobs.shared.arrivals.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Checks the content and keeps it durably.
    ///
    /// # Errors
    /// When it is not what its name says, or the disk does not take it.
    pub fn finish(mut self) -> Result<u64, BlobError> {
        let digest = self.digest;
        let found = Digest::from_bytes(self.hash.clone().finalize().into());
        if found != digest || self.size != self.expected {
            return Err(BlobError::Mismatch { digest, found, size: self.size });
        }
        let path = self.path.take().expect("an upload is finished once");
        self.file
            .sync_all()
            .and_then(|()| disk::rename_durably(&path, &self.blobs.shared.path(&digest)))
            .map_err(|source| self.blobs.failed(digest, source))?;
        self.blobs.commit(digest, self.size);
        self.blobs.shared.arrivals.send_modify(|n| *n += 1);
        Ok(self.size)
    }
}

/// Writes all of it. A full disk is tried again for as long as `evict` makes room.
fn write_all(file: &mut impl Write, mut piece: &[u8], evict: impl Fn() -> bool) -> io::Result<()> {
    while !piece.is_empty() {
        match file.write(piece) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => piece = piece.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull && evict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = disk::remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    use super::*;

    fn put(blobs: &Blobs, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut upload = blobs.receive(digest, bytes.len() as u64).unwrap();
        bytes.chunks(2).for_each(|piece| upload.push(piece).unwrap());
        upload.finish().unwrap();
        digest
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn only_what_is_named_right_and_whole_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100, 1_000).unwrap();
        let digest = Digest::of(b"abcd");
        let mut upload = blobs.receive(digest, 4).unwrap();
        upload.push(b"abcX").unwrap();
        assert!(matches!(upload.finish(), Err(BlobError::Mismatch { .. })));
        let mut upload = blobs.receive(digest, 4).unwrap();
        upload.push(b"abc").unwrap();
        assert!(matches!(upload.finish(), Err(BlobError::Mismatch { .. })));
        let mut upload = blobs.receive(digest, 4).unwrap();
        assert!(matches!(upload.push(b"abcde"), Err(BlobError::TooLong { .. })));
        drop(upload);
        assert!(matches!(blobs.receive(digest, 101), Err(BlobError::TooLarge { .. })));
        assert_eq!(files(folder.path()), 0);
        put(&blobs, b"abcd");
        let again = Blobs::open(folder.path(), 100, 1_000).unwrap();
        assert_eq!(fs::read(again.pin(&digest).unwrap().path()).unwrap(), b"abcd");
    }

    /// A disk with so much room.
    struct Disk(Arc<Mutex<usize>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.0.lock().unwrap();
            let n = bytes.len().min(*room);
            *room -= n;
            if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_blobs_that_nobody_uses_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100, 1_000).unwrap();
        let [used, unused] = [b"aaaa", b"bbbb"].map(|bytes| put(&blobs, bytes));
        let _pin = blobs.pin(&used).unwrap();
        let room = Arc::new(Mutex::new(3));
        let evict = || {
            let evicted = blobs.evict();
            *room.lock().unwrap() += if evicted { 4 } else { 0 };
            evicted
        };
        write_all(&mut Disk(room.clone()), b"1234567", evict).unwrap();
        assert!(blobs.has(&used) && !blobs.has(&unused));
        let error = write_all(&mut Disk(room.clone()), b"8", evict).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn why_a_blob_did_not_get_here_is_known_until_it_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 4, 1_000).unwrap();
        let digest = Digest::of(b"abcde");
        assert!(blobs.receive(digest, 5).is_err());
        assert!(blobs.failure(&digest).unwrap().contains("the limit is 4"));
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(blobs.receive(digest, 4).is_err());
        assert!(blobs.failure(&digest).unwrap().contains("No such file"));
        fs::create_dir(folder.path()).unwrap();
        let _upload = blobs.receive(digest, 4).unwrap();
        assert_eq!(blobs.failure(&digest), None);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_a_pinned_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100, 10).unwrap();
        let [a, b, c] = [b"aaaa", b"bbbb", b"cccc"].map(|bytes| {
            let digest = put(&blobs, bytes);
            if bytes == b"bbbb" {
                drop(blobs.pin(&Digest::of(b"aaaa")));
            }
            digest
        });
        assert!(blobs.has(&a) && !blobs.has(&b) && blobs.has(&c));
        let pin = blobs.pin(&a).unwrap();
        put(&blobs, b"dddd");
        put(&blobs, b"eeee");
        assert!(blobs.has(&a) && pin.path().exists());
        drop(pin);
        put(&blobs, b"ffff");
        put(&blobs, b"gggg");
        assert!(!blobs.has(&a));
        // Across a restart the order holds: the one of the two that was used last stays.
        drop(blobs.pin(&Digest::of(b"ffff")));
        let blobs = Blobs::open(folder.path(), 100, 10).unwrap();
        put(&blobs, b"hhhh");
        assert!(blobs.has(&Digest::of(b"ffff")) && !blobs.has(&Digest::of(b"gggg")));
    }

    #[test]
    fn what_is_in_use_or_on_its_way_leaves_less_room_and_the_refusal_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100, 10).unwrap();
        let a = put(&blobs, b"aaaa");
        let pin = blobs.pin(&a).unwrap();
        let coming = blobs.receive(Digest::of(b"bbbb"), 4).unwrap();
        let error = blobs.receive(Digest::of(b"ccc"), 3).unwrap_err();
        assert!(matches!(error, BlobError::Full { size: 3, quota: 10, needed: 8, .. }), "{error}");
        assert!(blobs.failure(&Digest::of(b"ccc")).unwrap().contains("cache_bytes"));
        drop((pin, coming));
        put(&blobs, b"cccccccccc");
        assert!(!blobs.has(&a));
    }

    const FOLDER: &str = "EDGEPROF_TEST_BLOBS_INTO";

    /// The process that is killed: receives blobs without end, a line for each step.
    #[test]
    fn blobs_without_end_where_it_is_told_to() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        let blobs = Blobs::open(Path::new(&folder), 1 << 20, 2_000_000).unwrap();
        for n in 0_u32.. {
            let bytes = n.to_le_bytes().repeat(1 + (n as usize * 7_919) % 60_000);
            let mut upload = blobs.receive(Digest::of(&bytes), bytes.len() as u64).unwrap();
            for piece in bytes.chunks(16_384) {
                upload.push(piece).unwrap();
                println!("\npiece");
            }
            upload.finish().unwrap();
            println!("\nwhole");
        }
    }

    #[test]
    fn a_process_killed_while_blobs_come_leaves_whole_ones_only() {
        let folder = tempfile::tempdir().unwrap();
        for steps in [1, 2, 5, 17, 40, 41, 90, 150, 151, 260] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "blobs::tests::blobs_without_end_where_it_is_told_to", "--nocapture"])
                .env(FOLDER, folder.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            let said = lines.filter(|line| line == "piece" || line == "whole").take(steps).count();
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(said, steps);
            let blobs = Blobs::open(folder.path(), 1 << 20, 2_000_000).unwrap();
            let known = blobs.shared.index().blobs.len();
            assert_eq!(files(folder.path()), known, "no upload is left");
            let mut total = 0;
            for file in fs::read_dir(folder.path()).unwrap() {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                total += bytes.len();
                assert_eq!(Some(Digest::of(&bytes).hex().as_str()), path.file_name().unwrap().to_str());
            }
            assert!(total <= 2_000_000, "{total} bytes after {steps} steps");
        }
    }
}
