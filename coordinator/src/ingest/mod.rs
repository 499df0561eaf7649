//! Records from results: what a worker measured, what was asked for, and what is known of the board, put
//! together. Pure.

mod assemble;
mod measured;
#[cfg(test)]
pub(crate) mod tests;

pub use assemble::{Ended, Subject, assemble, seen};
pub use measured::{Measured, Undecodable};
