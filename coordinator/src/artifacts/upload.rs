//! One blob on its way to the disk.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use edgeprof_common::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::Artifacts;

/// Why a blob was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Other bytes than announced.
    #[error("the bytes have digest {found}, announced was {announced}")]
    Digest {
        /// What was to come.
        announced: Digest,
        /// What came.
        found: Digest,
    },
    /// Fewer bytes than announced.
    #[error("{found} bytes came, announced were {announced}")]
    Short {
        /// What was to come.
        announced: u64,
        /// What came.
        found: u64,
    },
    /// More bytes than announced.
    #[error("more than the announced {announced} bytes came")]
    Long {
        /// What was to come.
        announced: u64,
    },
    /// The disk refused.
    #[error("cannot keep the artifact: {0}")]
    Io(#[from] io::Error),
}

/// A blob that is being written; dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    artifacts: Artifacts,
    file: NamedTempFile,
    hasher: Sha256,
    announced: (Digest, u64),
    written: u64,
}

impl Upload {
    pub(super) fn begin(artifacts: Artifacts, digest: Digest, size: u64) -> Result<Self, UploadError> {
        let file = NamedTempFile::new_in(&artifacts.incoming)?;
        Ok(Self { artifacts, file, hasher: Sha256::new(), announced: (digest, size), written: 0 })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When there are more than announced, or the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.written += bytes.len() as u64;
        if self.written > self.announced.1 {
            return Err(UploadError::Long { announced: self.announced.1 });
        }
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// Checks size and digest, and keeps the blob; durable on return.
    ///
    /// # Errors
    /// When it is not what was announced, or the disk refuses.
    pub fn finish(self) -> Result<u64, UploadError> {
        let (digest, size) = self.announced;
        if self.written != size {
            return Err(UploadError::Short { announced: size, found: self.written });
        }
        let found = Digest::from_bytes(self.hasher.finalize().into());
        if found != digest {
            return Err(UploadError::Digest { announced: digest, found });
        }
        self.file.as_file().sync_all()?;
        let path = self.artifacts.path(&digest);
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder)?;
        self.file.persist(&path).map_err(|error| error.error)?;
        sync_folder(folder)?;
        sync_folder(&self.artifacts.blobs)?;
        Ok(size)
    }
}

/// A rename is durable only once the folder that holds the name is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
