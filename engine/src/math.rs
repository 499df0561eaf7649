//! The few functions beyond arithmetic, the same bits on every target.

/// e to the x.
#[must_use]
#[inline]
pub fn exp(x: f32) -> f32 {
    libm::expf(x)
}

/// Adding this to a float of small magnitude leaves its nearest integer (ties to even) in the low
/// bits: 1.5 · 2^23.
const ROUND: f32 = 12_582_912.0;

/// The nearest integer, ties to even, of a number within ±2^21.
#[must_use]
#[inline(always)]
pub fn round(x: f32) -> i32 {
    (x + ROUND).to_bits() as i32 - ROUND.to_bits() as i32
}

/// x / (1 + e^-x).
#[must_use]
#[inline]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}
