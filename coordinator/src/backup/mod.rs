//! Backups: all rows as of one moment, and the artifacts that unfinished jobs need, taken while the coordinator works.
//!
//! A backup is a tar archive of a data folder: `store.redb`, and `blobs/` as they lie there. The running coordinator
//! alone can read its store, so it makes the copy; `edgeprof-coordinator backup` asks it over a socket in the data
//! folder, which belongs to the coordinator's user.

mod copy;
mod frames;
mod restore;
mod serve;
mod take;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::store::StoreError;

pub use restore::{Restored, restore};
pub use serve::serve;
pub use take::take;

/// The store's file, in a data folder and in a backup.
const STORE: &str = "store.redb";

/// The folder of artifacts, in a backup.
const BLOBS: &str = "blobs";

/// Where a coordinator whose data is in `data` is asked for a backup.
fn socket(data: &Path) -> PathBuf {
    data.join("backup.sock")
}

/// Why there is no backup, or it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no coordinator runs on {}: {source}", data.display())]
    NotRunning {
        /// The folder.
        data: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The coordinator could not do it.
    #[error("the coordinator cannot make a backup: {0}")]
    Refused(String),
    /// It ended in the middle.
    #[error("the backup broke off, and nothing was kept of it: {0}")]
    Broken(io::Error),
    /// A file that is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The folder has something in it.
    #[error("{} is not empty: a backup is restored into a folder of its own", .0.display())]
    NotEmpty(PathBuf),
    /// Not made by `backup`.
    #[error("{} is no backup of a coordinator: {reason}", path.display())]
    NotBackup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotRunning { .. } => {
                "name the folder of the one that runs with --data; of one that does not run, copy the whole folder"
            }
            Self::Refused(_) | Self::Broken(_) => "look at the coordinator's log and its disk, and try again",
            Self::Exists(_) => "give the backup another name: none is overwritten",
            Self::NotEmpty(_) => "name an empty folder with --data, or move away what is in this one",
            Self::NotBackup { .. } => "give a file that `edgeprof-coordinator backup` has written",
            Self::Store(error) => error.hint(),
            Self::Io { .. } => "check that it is there, belongs to this user and has room",
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
