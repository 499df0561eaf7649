//! The scheduler from outside: its transition table, its liveness rules, and a simulated cluster.

mod fuzz;
mod liveness;
mod recovery;
mod rig;
mod sim;
mod transitions;
