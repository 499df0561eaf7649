//! A board: what is behind its line, and the conversation on that line.

pub mod actor;
pub mod attached;
mod attempt;
pub mod check;
pub mod console;
pub mod conversation;
pub mod device;
pub mod emulated;
pub mod emulator;
pub mod error;
pub mod fault;
pub mod guard;
pub mod load;
pub mod noop;
pub mod process;
pub mod queue;
pub mod run;
pub mod spare;
pub mod stage;
pub mod transcript;
pub mod usage;
pub mod window;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
