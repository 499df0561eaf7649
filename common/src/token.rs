//! Leases: who may run what, and the order in which rights were given.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of a coordinator's life over one store; rises by at least one at each start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The right to run one attempt. Ordered by epoch, then counter; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// The coordinator life that issued it.
    pub epoch: Epoch,
    /// Its number within that life, from 1.
    pub counter: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch.0, self.counter)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_outranks_every_counter_of_an_earlier_one() {
        let old = Token { epoch: Epoch(1), counter: u64::MAX };
        let new = Token { epoch: Epoch(2), counter: 1 };
        assert!(old < new);
    }
}
