//! A fast counter that wraps and a slow one that does not, together.

/// Ticks of a fine counter that has shown `fine` after an unknown number of wraps at `2^bits`, when a
/// coarse one tells that about `about` of its ticks went by.
///
/// Exact as long as `about` is off by less than half a wrap, which leaves ample room for the
/// coarse counter's own step and for the time between the two reads.
///
/// ```
/// use edgeprof_firmware_core::extend::extend;
/// assert_eq!(extend(5, 24, 0), 5);
/// assert_eq!(extend(5, 24, (1 << 24) - 251), (1 << 24) + 5);
/// ```
#[must_use]
pub const fn extend(fine: u32, bits: u32, about: u64) -> u64 {
    let wrap = 1_u64 << bits;
    let fine = fine as u64 & (wrap - 1);
    // The multiple of the wrap nearest to what is missing; none if the coarse one lags behind.
    let missing = (about + wrap / 2).saturating_sub(fine);
    fine + missing / wrap * wrap
}

#[cfg(test)]
mod tests {
    use super::extend;

    #[test]
    fn any_error_below_half_a_wrap_is_harmless() {
        for bits in [24, 32] {
            let wrap = 1_u64 << bits;
            for ticks in [0, 1, wrap - 1, wrap, wrap + 1, 7 * wrap - 1, 7 * wrap, 300 * wrap + 12_345] {
                for error in [0, 1, 255, 65_535, wrap / 2 - 1] {
                    let fine = (ticks % wrap) as u32;
                    assert_eq!(extend(fine, bits, ticks + error), ticks);
                    assert_eq!(extend(fine, bits, ticks.saturating_sub(error)), ticks);
                }
            }
        }
    }
}
