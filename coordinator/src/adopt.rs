//! `adopt`: gives a store the cluster id and the epoch that workers obey, while no coordinator runs on it.

use std::{fs, path::Path};

use edgeprof_common::{ClusterId, Epoch};

use crate::{
    daemon::StartError,
    store::{
        Embedded, StoreError,
        rows::{self, AdoptError},
    },
};

/// Why workers are not adopted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory or its store cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store does not take it.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
}

impl Error {
    /// The way out.
    pub fn hint(&self) -> &str {
        match self {
            Self::Start(StartError::Store(StoreError::Locked(_))) => {
                "stop the coordinator that runs on it first: it goes by the old id until it starts again"
            }
            Self::Start(error) => error.hint(),
            Self::Adopt(error) => error.hint(),
        }
    }
}

/// Durable on return; the next start has `epoch`, and is obeyed by workers of `cluster` that have seen none so high.
///
/// # Errors
/// When the store is in use, cannot be used, or has to keep its own id or epoch.
pub fn adopt(data: &Path, cluster: ClusterId, epoch: Epoch, force: bool) -> Result<(), Error> {
    let unusable = |source| StartError::Data { path: data.to_owned(), source };
    fs::create_dir_all(data).map_err(unusable)?;
    let store = Embedded::open(&data.join("store.redb")).map_err(StartError::Store)?;
    Ok(rows::adopt(&store, cluster, epoch, force)?)
}
