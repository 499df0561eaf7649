//! The coordinator daemon.
pub mod artifacts;
pub mod store;
