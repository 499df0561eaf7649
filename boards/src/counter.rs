//! From ticks to whole instructions.

use crate::kind::{Kind, Rounding};

impl Kind {
    /// Whole instructions in an interval of `ticks` ticks under the kind's emulator recipe:
    /// ticks × (1e9 ÷ `tick_hz`) ÷ 2^`icount_shift`.
    ///
    /// `None` for a kind without an emulator, and for a tick count that no whole number of
    /// instructions gives: then the counter was not what the recipe says, and the run is invalid.
    /// A counter that shows whole ticks only ([`Rounding::Begun`], [`Rounding::Ended`]) makes this exact
    /// because every interval starts its counter anew, so the only rounding is the one at the end, and
    /// because no tick is longer than an instruction.
    #[must_use]
    pub fn ticks_to_instructions(&self, ticks: u64) -> Option<u64> {
        let emulator = self.emulator.as_ref()?;
        // An instruction lasts `per / NANO` ticks.
        const NANO: u128 = 1_000_000_000;
        let per = u128::from(self.counter.tick_hz) << emulator.icount_shift;
        let scaled = u128::from(ticks) * NANO;
        let instructions = match self.counter.rounding {
            Rounding::Exact => scaled.is_multiple_of(per).then_some(scaled / per)?,
            Rounding::Ended => {
                let up = scaled.div_ceil(per);
                (up * per / NANO == u128::from(ticks)).then_some(up)?
            }
            Rounding::Begun => {
                let down = scaled / per;
                ((down * per).div_ceil(NANO) == u128::from(ticks)).then_some(down)?
            }
        };
        u64::try_from(instructions).ok()
    }

    /// Instructions of the work alone: those of the interval less those of an empty one, which the
    /// board reports once as `overhead_ticks`.
    ///
    /// `None` where [`Kind::ticks_to_instructions`] is, or for an interval shorter than an empty one.
    #[must_use]
    pub fn interval_instructions(&self, ticks: u64, overhead_ticks: u64) -> Option<u64> {
        let all = self.ticks_to_instructions(ticks)?;
        all.checked_sub(self.ticks_to_instructions(overhead_ticks)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Rounding, catalogue};

    #[test]
    fn every_instruction_count_survives_the_tick_counter() {
        for kind in catalogue().kinds() {
            let Some(emulator) = &kind.emulator else {
                continue;
            };
            let per = u128::from(kind.counter.tick_hz) << emulator.icount_shift;
            let around = [0, 10_485_760, 2_684_354_560, 1 << 40];
            for n in around.iter().flat_map(|n: &u64| n.saturating_sub(50)..n + 50) {
                let exact = u128::from(n) * per;
                let ticks = match kind.counter.rounding {
                    Rounding::Ended => exact / 1_000_000_000,
                    Rounding::Exact | Rounding::Begun => exact.div_ceil(1_000_000_000),
                };
                let ticks = u64::try_from(ticks).unwrap();
                assert_eq!(kind.ticks_to_instructions(ticks), Some(n), "{} {n}", kind.name);
            }
        }
    }

    #[test]
    fn ticks_between_instructions_are_refused() {
        let mps2 = catalogue().get("mps2-an386").unwrap();
        let whole: Vec<u64> = (0..8).filter(|ticks| mps2.ticks_to_instructions(*ticks).is_some()).collect();
        assert_eq!(whole, [0, 2, 4, 5, 7]);
        // 42 instructions are 43.008 ticks: no number of them shows 42.
        let microbit = catalogue().get("microbit").unwrap();
        let none: Vec<u64> =
            (0..100).filter(|ticks| microbit.ticks_to_instructions(*ticks).is_none()).collect();
        assert_eq!(none, [42, 85]);
        let stm = catalogue().get("netduinoplus2").unwrap();
        assert_eq!(stm.ticks_to_instructions(16), Some(2));
        assert_eq!(stm.ticks_to_instructions(17), None);
    }

    #[test]
    fn overhead_is_subtracted_as_instructions() {
        let mps2 = catalogue().get("mps2-an386").unwrap();
        // 13 instructions are 20.8 ticks, 3 are 4.8.
        assert_eq!(mps2.interval_instructions(21, 5), Some(10));
        assert_eq!(mps2.interval_instructions(5, 21), None);
    }
}
