//! Time estimated from an instruction count: a range through a named model, never a measurement.

use serde::Deserialize;

use crate::kind::Kind;

/// A closed range.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// What a count of instructions a token may mean on the kind's reference silicon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate<'a> {
    /// Cycles a token.
    pub cycles: Range,
    /// Tokens a second; the low bound belongs to the high bound of cycles.
    pub tokens_per_second: Range,
    /// Name of the model that the figures were derived through.
    pub model: &'a str,
}

impl<'a> Estimate<'a> {
    /// The estimate for a token that takes `per_token` instructions; `None` for zero, which is no
    /// measurement of a token.
    #[must_use]
    pub fn from_instructions(kind: &'a Kind, per_token: u64) -> Option<Self> {
        if per_token == 0 {
            return None;
        }
        let basis = &kind.estimate;
        let count = per_token as f64;
        let cycles = Range {
            low: count * basis.cycles_per_instruction.low,
            high: count * basis.cycles_per_instruction.high,
        };
        let clock = basis.clock_hz as f64;
        let tokens_per_second = Range { low: clock / cycles.high, high: clock / cycles.low };
        Some(Self { cycles, tokens_per_second, model: &basis.model })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn the_range_holds_its_order_and_names_its_model() {
        for kind in catalogue().kinds() {
            let estimate = Estimate::from_instructions(kind, 2_000_000).unwrap();
            assert!(estimate.cycles.low < estimate.cycles.high);
            assert!(estimate.tokens_per_second.low < estimate.tokens_per_second.high);
            assert!(!estimate.model.is_empty());
        }
        let stm = catalogue().get("netduinoplus2").unwrap();
        let estimate = Estimate::from_instructions(stm, 1_680_000).unwrap();
        assert_eq!(estimate.tokens_per_second.high, 100.0);
        assert_eq!(Estimate::from_instructions(stm, 0), None);
    }
}
