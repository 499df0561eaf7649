//! The scheduler from outside: its transition table, its liveness rules, and what it does with boards.

mod alone;
mod aside;
mod blame;
mod fairness;
mod forget;
mod fuzz;
mod lines;
mod liveness;
mod recovery;
mod rig;
mod transitions;
mod views;
