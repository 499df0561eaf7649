//! The scheduler from outside: its transition table, its liveness rules, and what it does with boards.

mod fuzz;
mod liveness;
mod recovery;
mod rig;
mod transitions;
