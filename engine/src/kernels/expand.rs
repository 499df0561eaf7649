//! Activations of one group of 32 in the order that the kernels multiply them.
//!
//! For the 16 units of two columns each: c and a1 of the identity in [the module](super). Portable
//! kernels read 16 c, then 16 a1.

use crate::dtype::GROUP;

/// For Q8_0; returns where the group's sum starts.
#[inline]
pub(crate) fn q8(q: &[i8], e: &mut [i16]) -> i32 {
    let mut even = 0i32;
    let (c, a) = e.split_at_mut(GROUP / 2);
    for ((q, c), a) in q.chunks_exact(2).zip(c).zip(a) {
        let (a0, a1) = (i32::from(q[0]), i32::from(q[1]));
        *c = (256 * a0 - a1) as i16;
        *a = a1 as i16;
        even += a0;
    }
    -256 * 128 * even
}

/// For Q4_0; returns where the group's sum starts.
#[inline]
pub(crate) fn q4(q: &[i8], e: &mut [i16]) -> i32 {
    let mut all = 0i32;
    let (c, a) = e.split_at_mut(GROUP / 2);
    for ((q, c), a) in q.chunks_exact(2).zip(c).zip(a) {
        let (a0, a1) = (i32::from(q[0]), i32::from(q[1]));
        *c = (16 * a0 - a1) as i16;
        *a = a1 as i16;
        all += a0 + a1;
    }
    -16 * 8 * all
}
