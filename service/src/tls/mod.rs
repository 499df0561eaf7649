//! Who may connect: mutual TLS 1.3 with the lab's own certificates, and bounds on what strangers can hold.
//!
//! Both daemons accept through [`incoming`] and dial through [`crate::channel::Dialer`]. [`Keeper`] holds the files
//! of the configuration and reads them again when they change; a connection whose certificate expires or is revoked
//! meanwhile is ended. Names are those of `edgeprof-identity`: a client demands its lab's coordinator, a
//! coordinator demands the worker that it looks for, and a worker serves its lab's coordinator only.

mod accept;
mod config;
mod dial;
mod gate;
mod handed;
mod keeper;
mod loaded;
mod look;
mod named;
mod refusals;
mod sent;
mod stream;
#[cfg(test)]
mod tests;
mod verify;
mod words;

pub use accept::{Connection, Door, incoming};
pub use config::{CONNECTION_KEYS, Connections, TLS_KEYS, TlsConfig, TlsFlags, secure};
pub use dial::{Demand, Plain, Secure};
pub use gate::Gate;
pub use handed::Handed;
pub use keeper::Keeper;
pub use loaded::Own;
pub use look::{Seen, look};
pub use named::Named;
pub use refusals::{Refusal, Refusals, count_messages};

/// Why certificates keep two from speaking, in words, with the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Untrusted {
    /// Which certificate, and what is wrong with it.
    pub what: String,
    /// The way out.
    pub hint: String,
}

impl Untrusted {
    /// What is wrong, and the way out.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

impl From<edgeprof_identity::files::FileError> for Untrusted {
    fn from(error: edgeprof_identity::files::FileError) -> Self {
        Self::new(error.to_string(), error.hint)
    }
}
