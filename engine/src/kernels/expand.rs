//! Activations of one group of 32 in the order that the kernels multiply them.
//!
//! For the 16 units of two columns each: c and a1 of the identity in [the module](super). A span of
//! units has all its c, then all its a1. Vectorizing and plain kernels take the group as one span;
//! the DSP kernels want 4 units a span, so that one LDM fetches what 8 columns need, and for Q4_0
//! and Q4_1 the middle two of the 4 exchanged, as unpacking halfwords yields them.

use crate::dtype::GROUP;

/// Units of a span.
const SPAN: usize = if cfg!(kernel_dsp) { 4 } else { GROUP / 2 };

/// Where the c of a Q8_0 unit lies; its a1 lies [`SPAN`] further.
#[inline(always)]
pub(crate) const fn at_q8(unit: usize) -> usize {
    unit / SPAN * (2 * SPAN) + unit % SPAN
}

/// The same for Q4_0 and Q4_1.
#[inline(always)]
pub(crate) const fn at_q4(unit: usize) -> usize {
    let unit = if cfg!(kernel_dsp) { [0, 2, 1, 3][unit % 4] + (unit & !3) } else { unit };
    at_q8(unit)
}

/// The a1 that belongs to the c at this place.
#[inline(always)]
pub(crate) const fn partner(at: usize) -> usize {
    at + SPAN
}

/// Where the c of a unit and its right neighbours begin; the unit is a multiple of 4, or of 2 if
/// spans are whole groups.
#[inline(always)]
pub(crate) const fn step(unit: usize) -> usize {
    if SPAN == GROUP / 2 { unit } else { at_q8(unit) }
}

/// For Q8_0; returns where the group's sum starts.
#[inline]
pub(crate) fn q8(q: &[i8], e: &mut [i16; GROUP]) -> i32 {
    let mut even = 0i32;
    for (u, q) in q.chunks_exact(2).enumerate().take(GROUP / 2) {
        let (a0, a1) = (i32::from(q[0]), i32::from(q[1]));
        e[at_q8(u)] = (256 * a0 - a1) as i16;
        e[partner(at_q8(u))] = a1 as i16;
        even += a0;
    }
    -256 * 128 * even
}

/// For Q4_0 and Q4_1; returns the sum of all activations.
#[inline]
pub(crate) fn q4(q: &[i8], e: &mut [i16; GROUP]) -> i32 {
    let mut all = 0i32;
    for (u, q) in q.chunks_exact(2).enumerate().take(GROUP / 2) {
        let (a0, a1) = (i32::from(q[0]), i32::from(q[1]));
        e[at_q4(u)] = (16 * a0 - a1) as i16;
        e[partner(at_q4(u))] = a1 as i16;
        all += a0 + a1;
    }
    all
}
