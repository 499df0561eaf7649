//! What happened in a simulation, in order.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

/// The story. Equal seeds tell equal stories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story(Arc<Mutex<Vec<String>>>);

impl Story {
    /// Tells what happened now, on the host that this is called on.
    pub(crate) fn tell(&self, what: impl fmt::Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.note(at.as_millis(), what);
    }

    /// Tells what happened at `millis`.
    pub(crate) fn note(&self, millis: u128, what: impl fmt::Display) {
        self.0.lock().unwrap().push(format!("{millis:>8} {what}"));
    }

    /// All of it.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
