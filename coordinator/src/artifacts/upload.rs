//! One blob on its way to the disk.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::SystemTime,
};

use edgeprof_common::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{Artifacts, index::Full};

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
    /// The quota is used up, and nothing may go.
    #[error(
        "no room for {size} bytes: artifacts may take {quota}, and {needed} are needed by unfinished jobs or \
         were just uploaded"
    )]
    Full {
        /// What was to come.
        size: u64,
        /// What all may take.
        quota: u64,
        /// What stays in any case.
        needed: u64,
    },
    /// The disk refused.
    #[error("cannot keep the artifact: {0}")]
    Io(#[from] io::Error),
}

impl UploadError {
    /// The way out, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Full { size, quota, .. } if size > quota => {
                Some("raise artifact_quota_bytes in the coordinator's configuration")
            }
            Self::Full { .. } => Some(
                "try again when jobs have ended, or raise artifact_quota_bytes in the coordinator's configuration",
            ),
            Self::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
                Some("free space on the coordinator's disk, or give it another folder with --data")
            }
            Self::Io(_) => Some("look at the coordinator's log and the disk of its data folder"),
            _ => Some("the file changed while it was read, or the line is broken: try again"),
        }
    }
}

/// A blob that is being written; dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    artifacts: Artifacts,
    _room: Room,
    file: NamedTempFile,
    hasher: Sha256,
    announced: (Digest, u64),
    written: u64,
}

impl Upload {
    pub(super) fn begin(artifacts: Artifacts, digest: Digest, size: u64) -> Result<Self, UploadError> {
        {
            let mut index = artifacts.index();
            let gone = index
                .reserve(size, SystemTime::now())
                .map_err(|Full { quota, needed }| UploadError::Full { size, quota, needed })?;
            gone.iter().for_each(|digest| artifacts.remove(digest));
        }
        let room = Room { artifacts: artifacts.clone(), size };
        let file = NamedTempFile::new_in(&artifacts.incoming)?;
        Ok(Self {
            artifacts,
            _room: room,
            file,
            hasher: Sha256::new(),
            announced: (digest, size),
            written: 0,
        })
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
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The disk may have less room than the quota promises.
                Err(error) if error.kind() == io::ErrorKind::StorageFull && self.artifacts.evict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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
        {
            let mut index = self.artifacts.index();
            self.file.persist(&path).map_err(|error| error.error)?;
            index.insert(digest, size, SystemTime::now());
        }
        sync_folder(folder)?;
        sync_folder(&self.artifacts.blobs)?;
        Ok(size)
    }
}

/// Room that an upload has reserved.
#[derive(Debug)]
struct Room {
    artifacts: Artifacts,
    size: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.artifacts.index().release(self.size);
    }
}

/// A rename is durable only once the folder that holds the name is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
