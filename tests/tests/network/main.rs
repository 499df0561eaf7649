//! Real sessions over a simulated network: the coordinator's loop and sessions against the worker's hub and
//! gRPC face, each on a host of its own, in simulated time. Not the real ones are the network, the clock, the
//! boards, the preparing of models, the store, which is in memory and outlives its host's crashes, and clients: jobs
//! are handed to the loop without the API before it.
//!
//! `NET_SEED=17 cargo test -p edgeprof-tests --test network seeds::whatever -- --nocapture` replays one seed and prints its story;
//! `NET_SEEDS=1000` runs that many.

mod board;
mod coordinator;
mod faults;
mod lab;
mod ledger;
mod net;
mod scenarios;
mod seeds;
mod story;
mod stuck;
mod submission;
mod worker;
