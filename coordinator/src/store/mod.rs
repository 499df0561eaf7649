//! The store: rows of bytes in one ordered key space, changed by transactions that compare before they
//! write, read by key and by prefix. An implementation passes `conformance`.

#[cfg(test)]
mod conformance;
mod embedded;
mod memory;
pub mod rows;
mod value;
mod writer;

use std::path::PathBuf;

pub use embedded::Embedded;
pub use memory::Memory;
pub use value::Value;
pub use writer::{Committed, Writer};

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Takes a row's key and value.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// What must hold for a transaction to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The row.
    pub key: Vec<u8>,
    /// Its value; `None` means that there is no such row.
    pub expected: Option<Vec<u8>>,
}

/// One change.
#[derive(Debug)]
pub enum Change {
    /// Makes or replaces a row.
    Put(Vec<u8>, Value),
    /// Removes a row, if it is there.
    Delete(Vec<u8>),
}

impl Change {
    /// The row.
    fn key(&self) -> &[u8] {
        let (Self::Put(key, _) | Self::Delete(key)) = self;
        key
    }

    /// Of its key and value, once it is written.
    fn bytes(&self) -> usize {
        let value = match self {
            Self::Put(_, value) => value.made(),
            Self::Delete(_) => 0,
        };
        self.key().len() + value
    }
}

/// All or nothing: if every check holds, every change is made.
#[derive(Debug, Default)]
pub struct Transaction {
    /// What must hold before.
    pub checks: Vec<Check>,
    /// What is done then, in order.
    pub changes: Vec<Change>,
}

impl Transaction {
    /// Puts a row whatever was there.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change::Put(key, value.into()));
    }

    /// The same, with a value that is made when it is written.
    pub fn put_later(&mut self, key: Vec<u8>, make: impl Fn() -> Vec<u8> + Send + Sync + 'static) {
        self.changes.push(Change::Put(key, Value::later(make)));
    }

    /// Whether it asks for nothing and changes nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.checks.is_empty() && self.changes.is_empty()
    }

    /// Removes a row.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push(Change::Delete(key));
    }

    /// Requires that a row has this value, or that there is none.
    #[must_use]
    pub fn when(mut self, key: Vec<u8>, expected: Option<Vec<u8>>) -> Self {
        self.checks.push(Check { key, expected });
        self
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Durable.
    Yes,
    /// A check did not hold; nothing was changed. The key of the first such check.
    Conflict(Vec<u8>),
}

/// A store that cannot be used. Always fatal: the process exits, and opens it anew.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the data directory {} is in use by another coordinator", .0.display())]
    Locked(PathBuf),
    /// It cannot be made or opened.
    #[error("cannot open the store {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A later version made its rows.
    #[error(
        "the store has schema {found}, made by edgeprof {}; this is {}, which reads up to schema {expected}",
        writer.as_deref().unwrap_or("of a later version"), env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// What it has.
        found: u32,
        /// The latest that is known here.
        expected: u32,
        /// The version that had it last, where it says so.
        writer: Option<String>,
    },
    /// Its rows are of a version that was never released.
    #[error("the store has schema {found}; the oldest that can be taken over is {oldest}")]
    Older {
        /// What it has.
        found: String,
        /// The oldest of a release.
        oldest: u32,
    },
    /// A row that cannot be read.
    #[error("row {key} cannot be read: {reason}")]
    Row {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A row that cannot be made: a fault of this program.
    #[error("row {key} cannot be made, which is a fault of the coordinator and none of the store: {reason}")]
    Unmade {
        /// Its key.
        key: String,
        /// What went wrong.
        reason: String,
    },
    /// Its file contradicts itself.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Reading or writing failed.
    #[error("storage failed: {0}")]
    Io(String),
}

impl StoreError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Locked(_) => "stop the other coordinator, or give this one another --data directory",
            Self::Open { .. } => {
                "check that the directory exists, is writable and has room, or give another --data"
            }
            Self::Newer { .. } => {
                "install that version or a later one, or restore a backup of before the upgrade into another --data"
            }
            Self::Older { .. } => "give another --data directory",
            Self::Row { .. } | Self::Damaged(_) => {
                "the store is damaged: restore it from a backup, or give another --data"
            }
            Self::Unmade { .. } => {
                "nothing that was acknowledged is lost: start the coordinator again, and report this with its log"
            }
            Self::Io(_) => "check the disk's free space and health, then start the coordinator again",
        }
    }
}

/// A durable, ordered map of bytes.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Applies transactions in order, each seeing those before it, in one durable commit.
    ///
    /// # Errors
    /// None of them is applied then, as far as is known; the store must not be used again.
    fn commit(&self, batch: &[Transaction]) -> Result<Vec<Applied>, StoreError>;

    /// The committed value of a row.
    ///
    /// # Errors
    /// When the store fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Committed rows whose key begins with `prefix` and is above `after` where that is given, in
    /// order, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// Calls `visit` with every row as of one moment, in order; commits go on meanwhile.
    ///
    /// # Errors
    /// When the store fails, or `visit` does.
    fn snapshot(&self, visit: Visit<'_>) -> Result<(), StoreError>;
}
