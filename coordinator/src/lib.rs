//! The coordinator daemon: finds workers, spreads profiling tasks over their boards, keeps the results.
#![forbid(unsafe_code)]

pub mod access;
pub mod adopt;
pub mod api;
pub mod artifacts;
pub mod backup;
pub mod canary;
mod clock;
pub mod config;
pub mod core;
pub mod daemon;
pub mod discovery;
mod ended;
pub mod ingest;
pub mod preparing;
pub mod session;
mod shown;
pub mod store;
pub mod submit;
#[cfg(test)]
mod testing;
