//! A row's value. A long one is made where it is written, one at a time: ten thousand of them in bytes would be most of
//! what a submission takes, and the loop, which everybody waits for, has better to do.

use std::{
    borrow::Cow,
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

/// What is put under a key.
#[derive(Debug)]
pub enum Value {
    /// It is made.
    Bytes(Vec<u8>),
    /// It is made when it is written, from what will not change.
    Later(Later),
}

/// Makes a value, the same whenever it is asked.
pub struct Later {
    make: Box<dyn Fn() -> Vec<u8> + Send + Sync>,
    /// Of the value, once it was made.
    len: AtomicUsize,
}

impl Value {
    /// One that is made when it is written.
    pub fn later(make: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::Later(Later { make: Box::new(make), len: AtomicUsize::new(0) })
    }

    /// The value.
    #[must_use]
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
            Self::Later(later) => {
                let bytes = (later.make)();
                later.len.store(bytes.len(), Ordering::Relaxed);
                Cow::Owned(bytes)
            }
        }
    }

    /// How long it is; 0 for one that was not made yet.
    #[must_use]
    pub fn made(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Later(later) => later.len.load(Ordering::Relaxed),
        }
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}
