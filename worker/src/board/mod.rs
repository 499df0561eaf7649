//! A board: an emulator process, a line to it, and the conversation on that line.

pub mod actor;
pub mod conversation;
pub mod device;
pub mod emulator;
pub mod error;
pub mod process;
pub mod run;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
