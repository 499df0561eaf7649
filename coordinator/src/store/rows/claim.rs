//! What is done to the rows of the store itself when it is opened.

use edgeprof_common::{ClusterId, Epoch, Nonce};

use super::{Identity, Life, encode, read, schema};
use crate::store::{Applied, Store, StoreError, Transaction};

const CLUSTER_KEY: &[u8] = b"meta/cluster";
const EPOCH_KEY: &[u8] = b"meta/epoch";

/// Whose store it is, where it was claimed before.
///
/// # Errors
/// When the store fails.
pub fn owner(store: &dyn Store) -> Result<Option<(ClusterId, Epoch)>, StoreError> {
    let life: Option<Life> = read(store, EPOCH_KEY)?;
    let cluster = read(store, CLUSTER_KEY)?;
    Ok(cluster.zip(life).map(|(cluster, life)| (cluster, life.epoch)))
}

/// Brings the schema up, makes the cluster id of a new store, and raises the epoch; durable on return.
///
/// # Errors
/// When the store fails, or has a schema that is not known here.
pub fn claim(store: &dyn Store) -> Result<Identity, StoreError> {
    let mut transaction = Transaction::default();
    schema::bring_up(store, &mut transaction)?;
    let cluster = match read(store, CLUSTER_KEY)? {
        Some(cluster) => cluster,
        None => {
            let cluster = ClusterId::random();
            transaction.put(CLUSTER_KEY.into(), encode(&cluster));
            cluster
        }
    };
    let before: Option<Life> = read(store, EPOCH_KEY)?;
    let epoch = Epoch(before.map_or(0, |life| life.epoch.0) + 1);
    let life = Life { epoch, nonce: Nonce::random() };
    transaction.put(EPOCH_KEY.into(), encode(&life));
    let transaction = transaction.when(EPOCH_KEY.into(), before.as_ref().map(encode));
    commit(store, transaction)?;
    Ok(Identity { cluster, life })
}

/// Why a store keeps its cluster id or epoch.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Epochs only rise.
    #[error("the store has epoch {stored} already; {asked} is not above it")]
    Epoch {
        /// What it has.
        stored: u64,
        /// What was asked for.
        asked: u64,
    },
    /// No coordinator lives so long.
    #[error("epoch {0} is above {MAX_EPOCH}")]
    TooHigh(u64),
    /// It has a cluster of its own, with work in it.
    #[error("the store has jobs of cluster {0}, whose workers would not obey it any more")]
    Other(ClusterId),
}

impl AdoptError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Store(error) => error.hint(),
            Self::Epoch { .. } => {
                "name a higher epoch; workers that have seen none so high obey this store as it is, if the \
                 cluster is theirs"
            }
            Self::TooHigh(_) => "name the highest epoch that a worker has seen, plus one",
            Self::Other(_) => {
                "restore the store that those workers belong to, or name an empty folder with --data; with \
                 --force this store changes sides: its jobs go on, but what its old workers still hold for them is \
                 run again"
            }
        }
    }
}

/// Numbers of events begin with the epoch, in 32 bits.
const MAX_EPOCH: u64 = 1 << 31;

/// Gives a store another cluster id, and an epoch for its next life; durable on return.
///
/// # Errors
/// When the epoch is not above the store's, or the store has jobs of another cluster and nobody insists.
pub fn adopt(store: &dyn Store, cluster: ClusterId, epoch: Epoch, force: bool) -> Result<(), AdoptError> {
    let mut transaction = Transaction::default();
    schema::bring_up(store, &mut transaction)?;
    let before: Option<Life> = read(store, EPOCH_KEY)?;
    let stored = before.map_or(0, |life| life.epoch.0);
    if epoch.0 <= stored {
        return Err(AdoptError::Epoch { stored, asked: epoch.0 });
    }
    if epoch.0 > MAX_EPOCH {
        return Err(AdoptError::TooHigh(epoch.0));
    }
    let own: Option<ClusterId> = read(store, CLUSTER_KEY)?;
    if let Some(own) = own.filter(|own| *own != cluster && !force)
        && !store.scan(b"job/", None, 1)?.is_empty()
    {
        return Err(AdoptError::Other(own));
    }
    // The next life has the epoch after the stored one.
    let life = Life { epoch: Epoch(epoch.0 - 1), nonce: Nonce::random() };
    transaction.put(CLUSTER_KEY.into(), encode(&cluster));
    transaction.put(EPOCH_KEY.into(), encode(&life));
    Ok(commit(store, transaction.when(EPOCH_KEY.into(), before.as_ref().map(encode)))?)
}

pub(super) fn commit(store: &dyn Store, transaction: Transaction) -> Result<(), StoreError> {
    match store.commit(&[transaction])?.first() {
        Some(Applied::Yes) => Ok(()),
        _ => Err(StoreError::Row {
            key: "meta/epoch".into(),
            reason: "another coordinator raised it meanwhile".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[test]
    fn each_start_raises_the_epoch_of_the_same_cluster() {
        let store = Memory::default();
        let (first, second) = (claim(&store).unwrap(), claim(&store).unwrap());
        assert_eq!(first.cluster, second.cluster);
        assert!(first.life.epoch < second.life.epoch);
        assert_ne!(first.life.nonce, second.life.nonce);
    }

    #[test]
    fn the_next_life_after_an_adoption_has_its_cluster_and_epoch() {
        let store = Memory::default();
        let own = claim(&store).unwrap();
        let other = ClusterId::random();
        adopt(&store, other, Epoch(10), false).unwrap();
        let next = claim(&store).unwrap();
        assert_eq!((next.cluster, next.life.epoch), (other, Epoch(10)));
        // Back, and no lower.
        let error = adopt(&store, own.cluster, Epoch(10), false).unwrap_err();
        assert!(error.to_string().contains("epoch 10 already"), "{error}");
        assert!(matches!(adopt(&store, own.cluster, Epoch(u64::MAX), false), Err(AdoptError::TooHigh(_))));
    }

    #[test]
    fn a_store_with_jobs_changes_sides_only_if_somebody_insists() {
        let store = Memory::default();
        let own = claim(&store).unwrap();
        let mut transaction = Transaction::default();
        transaction.put(b"job/x".to_vec(), b"{}".to_vec());
        store.commit(&[transaction]).unwrap();
        adopt(&store, own.cluster, Epoch(5), false).unwrap();
        let other = ClusterId::random();
        let error = adopt(&store, other, Epoch(6), false).unwrap_err();
        assert!(error.to_string().contains(&own.cluster.to_string()), "{error}");
        adopt(&store, other, Epoch(6), true).unwrap();
        assert_eq!(claim(&store).unwrap().cluster, other);
    }
}
