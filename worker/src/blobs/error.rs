//! Why a blob is not taken.

use std::io;

use edgeprof_common::Digest;

/// Why a blob was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Larger than allowed.
    #[error(
        "blob {digest} has {size} bytes, the limit is {limit}; raise blob_bytes in the worker's [limits]"
    )]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// More than was announced.
    #[error("more than the {expected} bytes of blob {digest} came that were announced")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// What was announced.
        expected: u64,
    },
    /// What is in use and what is on its way leave no room.
    #[error(
        "no room for blob {digest} of {size} bytes: the cache may take {quota}, and {needed} are in use or on \
         their way; raise cache_bytes in the worker's [limits], or wait until its runs have ended"
    )]
    Full {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// What all may take.
        quota: u64,
        /// What stays in any case.
        needed: u64,
    },
    /// The content is not what its name says.
    #[error("blob {digest} is damaged: {size} bytes came, of digest {found}")]
    Mismatch {
        /// The name.
        digest: Digest,
        /// What came.
        found: Digest,
        /// How much.
        size: u64,
    },
    /// The disk.
    #[error("cannot keep blob {digest}: {source}")]
    Io {
        /// The blob.
        digest: Digest,
        /// What the system said.
        source: io::Error,
    },
}
