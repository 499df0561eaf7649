//! Who is who in a lab: names in certificates, the lab's own certificate authority, and what it has issued and
//! revoked. Files only: no sockets, no async.
#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod authority;
mod certificate;
pub mod files;
pub mod names;
mod profile;
mod revocations;

pub use authority::{Authority, Issued, Order, PkiError, Reason, Standing};
pub use certificate::{Certificate, Serial, Unreadable};
pub use revocations::{NoList, RevocationList};
