//! A blob on its way in.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use edgeprof_common::Digest;
use sha2::{Digest as _, Sha256};

use super::{BlobError, Blobs, Shared};
use crate::disk;

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
    path: PathBuf,
    /// It has the blob's name, and is no more this upload's.
    kept: bool,
}

impl Upload {
    /// Begins the upload of this number; its `size` bytes are reserved in the index.
    pub(super) fn begin(blobs: &Blobs, digest: Digest, size: u64, number: u64) -> io::Result<Self> {
        let room = Room { shared: Arc::clone(&blobs.shared), size };
        let path = blobs.shared.folder.join(format!("upload-{number}.tmp"));
        let file = File::create(&path)?;
        Ok(Self {
            blobs: blobs.clone(),
            _room: room,
            digest,
            expected: size,
            size: 0,
            hash: Sha256::new(),
            file,
            path,
            kept: false,
        })
    }

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
        self.file
            .sync_all()
            .and_then(|()| disk::rename_durably(&self.path, &self.blobs.shared.path(&digest)))
            .map_err(|source| self.blobs.failed(digest, source))?;
        self.kept = true;
        self.blobs.commit(digest, self.size);
        self.blobs.shared.arrivals.send_modify(|n| *n += 1);
        Ok(self.size)
    }
}

/// Writes all of it. A full disk is tried again for as long as `evict` makes room.
pub(super) fn write_all(file: &mut impl Write, mut piece: &[u8], evict: impl Fn() -> bool) -> io::Result<()> {
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
        if !self.kept {
            let _ = disk::remove(&self.path);
        }
    }
}
