//! Headers of models that were submitted lately. A blob never changes, and a real tokenizer takes tens of
//! milliseconds to read past.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use edgeprof_common::Digest;
use edgeprof_model::{Header, ModelError};

/// Headers that are kept: some kilobytes each.
const KEPT: usize = 64;

/// What was read, by the file's digest.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    headers: HashMap<Digest, (u64, Arc<Header>)>,
    /// Counts uses, to tell which header was used last.
    uses: u64,
}

impl Headers {
    /// The header of the model file at `path`, whose digest is `digest`. What cannot be read is tried again the
    /// next time.
    ///
    /// # Errors
    /// As [`Header::open`].
    pub(super) fn of(&self, digest: Digest, path: &Path) -> Result<Arc<Header>, ModelError> {
        if let Some(header) = self.known(digest) {
            return Ok(header);
        }
        let header = Arc::new(Header::open(path)?);
        self.keep(digest, Arc::clone(&header));
        Ok(header)
    }

    fn known(&self, digest: Digest) -> Option<Arc<Header>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        let (used, header) = kept.headers.get_mut(&digest)?;
        *used = now;
        Some(Arc::clone(header))
    }

    fn keep(&self, digest: Digest, header: Arc<Header>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = kept.headers.iter().min_by_key(|(_, (used, _))| *used).map(|(digest, _)| *digest);
        if kept.headers.len() >= KEPT
            && let Some(oldest) = oldest
        {
            kept.headers.remove(&oldest);
        }
        kept.uses += 1;
        let now = kept.uses;
        kept.headers.insert(digest, (now, header));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_model;

    #[test]
    fn a_header_is_read_once_and_the_one_not_used_for_longest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let headers = Headers::default();
        let digest = |n: usize| Digest::of(&n.to_le_bytes());
        assert!(headers.of(digest(0), &path).is_err());
        std::fs::write(&path, tiny_model().0).unwrap();
        for n in 0..KEPT {
            headers.of(digest(n), &path).unwrap();
        }
        headers.of(digest(0), &path).unwrap();
        headers.of(digest(KEPT), &path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(headers.of(digest(1), &path).is_err());
        assert!(headers.of(digest(0), &path).is_ok());
        assert!(headers.of(digest(KEPT), &path).is_ok());
    }
}
