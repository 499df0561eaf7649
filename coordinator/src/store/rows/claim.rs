//! What is done to the rows of the store itself when it is opened.

use edgeprof_common::{ClusterId, Epoch, Nonce};

use super::{Identity, Life, SCHEMA, encode, read};
use crate::store::{Applied, Store, StoreError, Transaction};

/// Checks the schema, makes the cluster id of a new store, and raises the epoch; durable on return.
///
/// # Errors
/// When the store fails or has another schema.
pub fn claim(store: &dyn Store) -> Result<Identity, StoreError> {
    const SCHEMA_KEY: &[u8] = b"meta/schema";
    const CLUSTER_KEY: &[u8] = b"meta/cluster";
    const EPOCH_KEY: &[u8] = b"meta/epoch";
    let mut transaction = Transaction::default();
    match store.get(SCHEMA_KEY)? {
        None => transaction.put(SCHEMA_KEY.into(), encode(&SCHEMA)),
        Some(found) if found == encode(&SCHEMA) => {}
        Some(found) => {
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err(StoreError::Schema { found, expected: SCHEMA });
        }
    }
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
    match store.commit(&[transaction])?.first() {
        Some(Applied::Yes) => Ok(Identity { cluster, life }),
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
    fn a_store_of_another_schema_is_refused() {
        let store = Memory::default();
        let mut transaction = Transaction::default();
        transaction.put(b"meta/schema".to_vec(), b"99".to_vec());
        store.commit(&[transaction]).unwrap();
        assert!(matches!(claim(&store), Err(StoreError::Schema { .. })));
    }
}
