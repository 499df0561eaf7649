//! The worker daemon: owns the boards of one lab host.
//!
//! [`daemon`] wires the rooms together. [`hub`] is the one loop that owns the worker's state: fence,
//! outbox, and what every board is doing. Each board has a task of its own ([`board`]) that owns the
//! emulator process and the line to it; [`session`] turns gRPC streams into the hub's inputs.
//!
//! Nothing here knows models or tokens beyond their numbers: blobs come by digest, and results leave
//! as counts.

pub mod blobs;
pub mod board;
pub mod config;
pub mod daemon;
pub mod disk;
pub mod fence;
pub mod firmware;
pub mod home;
pub mod hub;
pub mod line;
pub mod measure;
pub mod outbox;
pub mod roster;
pub mod scan;
pub mod session;
pub mod spec;
pub mod trust;
