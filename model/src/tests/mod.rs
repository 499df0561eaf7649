//! Tests, within the crate so that they are optimized with it.

// What is compared with the engine is computed by other means, on purpose.
#![allow(clippy::disallowed_methods)]

mod bpe;
mod files;
mod hostile;
mod images;
mod plain;
mod runc;
mod shipped;
mod tokens;
mod toy;
