//! Whether a model fits a board: arithmetic on fixed regions.

use crate::kind::Kind;

/// Needs and regions of one model on one kind, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Size of the board image.
    pub model_need: u64,
    /// Size of the model region.
    pub model_have: u64,
    /// Arena that the engine needs for this model, context and KV type.
    pub arena_need: u64,
    /// Size of the arena region.
    pub arena_have: u64,
}

impl Fit {
    /// Sets needs against the regions of a kind.
    #[must_use]
    pub const fn of(kind: &Kind, model_need: u64, arena_need: u64) -> Self {
        Self {
            model_need,
            model_have: kind.memory.model.size,
            arena_need,
            arena_have: kind.memory.arena.size,
        }
    }

    /// Whether both fit.
    #[must_use]
    pub const fn ok(&self) -> bool {
        self.model_missing() == 0 && self.arena_missing() == 0
    }

    /// Bytes that the model region is short of.
    #[must_use]
    pub const fn model_missing(&self) -> u64 {
        self.model_need.saturating_sub(self.model_have)
    }

    /// Bytes that the arena is short of.
    #[must_use]
    pub const fn arena_missing(&self) -> u64 {
        self.arena_need.saturating_sub(self.arena_have)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn the_last_byte_decides() {
        let kind = catalogue().get("netduinoplus2").unwrap();
        let (model, arena) = (kind.memory.model.size, kind.memory.arena.size);
        assert!(Fit::of(kind, model, arena).ok());
        let over = Fit::of(kind, model + 1, arena);
        assert!(!over.ok());
        assert_eq!((over.model_missing(), over.arena_missing()), (1, 0));
        assert!(!Fit::of(kind, model, arena + 3).ok());
    }
}
