//! Blobs on disk, named by their digest. A blob is whole or not there: it is written beside, synced,
//! and then renamed.

pub mod firmware;
mod loaded;
mod upload;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use edgeprof_common::Digest;

pub use loaded::{NotFirmware, check_core, loaded_digest};
pub use upload::{Upload, UploadError};

/// The folder of all blobs of one coordinator.
#[derive(Clone, Debug)]
pub struct Artifacts {
    blobs: PathBuf,
    incoming: PathBuf,
}

impl Artifacts {
    /// Opens or makes the folders under `data`, and drops what a crash left half done.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn open(data: &Path) -> io::Result<Self> {
        let this = Self { blobs: data.join("blobs"), incoming: data.join("incoming") };
        fs::create_dir_all(&this.blobs)?;
        if this.incoming.exists() {
            fs::remove_dir_all(&this.incoming)?;
        }
        fs::create_dir_all(&this.incoming)?;
        Ok(this)
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

    /// Begins to write a blob of this digest and size.
    ///
    /// # Errors
    /// When there is no room for a file.
    pub fn upload(&self, digest: Digest, size: u64) -> Result<Upload, UploadError> {
        Upload::begin(self.clone(), digest, size)
    }

    /// Keeps bytes that are in memory; durable on return.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep(&self, bytes: &[u8]) -> Result<Digest, UploadError> {
        let digest = Digest::of(bytes);
        if self.size(&digest).is_none() {
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
mod tests {
    use super::*;

    fn artifacts() -> (tempfile::TempDir, Artifacts) {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path()).unwrap();
        (folder, artifacts)
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_blob_is_kept_under_its_digest() {
        let (_folder, artifacts) = artifacts();
        let digest = artifacts.keep(b"weights").unwrap();
        assert_eq!(artifacts.size(&digest), Some(7));
        assert_eq!(fs::read(artifacts.path(&digest)).unwrap(), b"weights");
        assert_eq!(files(&artifacts.incoming), 0);
    }

    #[test]
    fn what_is_not_what_was_announced_leaves_nothing() {
        let (_folder, artifacts) = artifacts();
        let digest = Digest::of(b"weights");
        let attempt = |size: u64, bytes: &[u8]| {
            let mut upload = artifacts.upload(digest, size)?;
            upload.write(bytes)?;
            upload.finish()
        };
        assert!(matches!(attempt(7, b"weight!"), Err(UploadError::Digest { .. })));
        assert!(matches!(attempt(8, b"weights"), Err(UploadError::Short { .. })));
        assert!(matches!(attempt(6, b"weights"), Err(UploadError::Long { .. })));
        assert_eq!(artifacts.size(&digest), None);
        assert_eq!(files(&artifacts.incoming), 0);
        assert_eq!(files(&artifacts.blobs), 0);
    }

    #[test]
    fn an_upload_cut_short_by_a_crash_is_gone_after_the_next_start() {
        let (folder, artifacts) = artifacts();
        let mut upload = artifacts.upload(Digest::of(b"x"), 9).unwrap();
        upload.write(b"half").unwrap();
        std::mem::forget(upload);
        assert_eq!(files(&artifacts.incoming), 1);
        let artifacts = Artifacts::open(folder.path()).unwrap();
        assert_eq!(files(&artifacts.incoming), 0);
    }
}
