//! The coordinator daemon.
pub mod artifacts;
pub mod preparing;
pub mod store;
pub mod submit;
#[cfg(test)]
mod testing;
