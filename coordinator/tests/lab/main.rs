//! The coordinator as its clients and workers see it: real daemon, real sockets, a worker that is played.

mod access;
mod ended;
mod operate;
mod preparing;
mod process;
mod refusals;
mod sessions;
mod support;
#[path = "../../src/testing.rs"]
mod testing;
