//! The copy itself, as the running coordinator makes it.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use edgeprof_common::Digest;

use super::{BLOBS, Error, STORE, at};
use crate::{
    artifacts::Artifacts,
    store::{Embedded, Store, StoreError, Transaction},
};

/// Bytes of rows that are copied at once.
const BATCH: usize = 8 << 20;

/// Writes the archive to `to`. Commits go on meanwhile; the store's copy takes room beside the artifacts until this
/// returns.
pub(super) fn copy(store: &dyn Store, artifacts: &Artifacts, to: impl Write) -> Result<(), Error> {
    let scratch = artifacts.scratch().map_err(|source| Error::Io { path: "incoming".into(), source })?;
    let path = scratch.path().join(STORE);
    // A job may begin or end while the rows are copied. What one that is unfinished in them needs was held before
    // they were read, or was uploaded since and is spared for longer than this takes.
    let before = artifacts.hold_needed();
    rows(store, &path)?;
    let after = artifacts.hold_needed();

    let mut archive = tar::Builder::new(to);
    // A hole is written as the zeros that it is: an entry with holes could say that it is of any size.
    archive.sparse(false);
    archive.append_path_with_name(&path, STORE).map_err(broken)?;
    let mut digests: Vec<_> = before.digests().iter().chain(after.digests()).copied().collect();
    digests.sort_unstable_by_key(Digest::hex);
    digests.dedup();
    for digest in digests {
        let path = artifacts.path(&digest);
        // What was never uploaded, or is made anew when it is wanted, is not there.
        match File::open(&path) {
            Ok(mut file) => archive.append_file(name(&digest), &mut file).map_err(broken)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path)(error)),
        }
    }
    archive.into_inner().and_then(|mut to| to.flush()).map_err(broken)
}

/// Where a blob is in the archive.
fn name(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{BLOBS}/{}/{hex}", hex.get(..2).unwrap_or_default())
}

fn broken(source: io::Error) -> Error {
    Error::Broken(source)
}

/// All rows as of one moment, in a store of their own.
fn rows(store: &dyn Store, path: &Path) -> Result<(), StoreError> {
    let copy = Embedded::open(path)?;
    let (mut batch, mut bytes) = (Transaction::default(), 0);
    store.snapshot(&mut |key, value| {
        batch.put(key.to_vec(), value.to_vec());
        bytes += key.len() + value.len();
        if bytes >= BATCH {
            copy.commit(&[std::mem::take(&mut batch)])?;
            bytes = 0;
        }
        Ok(())
    })?;
    copy.commit(&[batch]).map(drop)
}
