//! The scheduler from outside: its transition table, its liveness rules, and a simulated cluster.

mod sim;
