//! Plain types that every part of edgeprof speaks: identifiers, lease tokens, digests, error
//! classes, jobs and the run record. No I/O, no async, no generated code.

mod digest;
mod error;
mod identity;
mod ids;
pub mod job;
mod kinds;
pub mod run;
mod token;

pub use digest::{Digest, DigestError};
pub use error::{ErrorClass, TaskError};
pub use identity::Identity;
pub use ids::{AttemptNo, BoardId, ClusterId, IdError, Incarnation, JobId, Nonce, RunId, TaskId, WorkerId};
pub use kinds::{BoardHealth, JobState, Kv, Priority, Quant, Role, TaskState, UnknownWord, WorkerHealth};
pub use token::{Epoch, Token};

/// Whether a field is as it is where nothing is said of it, so that a row need not say it either.
#[must_use]
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
