//! Activations as int8, a scale a group.

use crate::dtype::{DType, GROUP};
use crate::kernels::expand;
use crate::math::round;

/// Below this largest magnitude a group counts as zero, so that 127 / amax stays finite.
const TINY: f32 = 1e-35;

/// The largest magnitude. Compares bits, so NaN is larger than everything.
#[inline]
fn largest(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |m, v| {
        let a = v.to_bits() & 0x7fff_ffff;
        if a > m { a } else { m }
    }))
}

/// Quantizes values to q in -127..=127 with one scale, which is returned: largest magnitude / 127;
/// q = round(x · (127 / largest)), ties to even. All-zero (or tiny) input gives scale 0. Values that
/// are not finite give q = 0 and a NaN scale, so that they are not lost. `q` is as long as `x`.
#[inline]
pub fn quantize(x: &[f32], q: &mut [i8]) -> f32 {
    let amax = largest(x);
    if amax < TINY {
        q.fill(0);
        return 0.0;
    }
    if !amax.is_finite() {
        q.fill(0);
        return f32::NAN;
    }
    let inverse = 127.0 / amax;
    for (q, &x) in q.iter_mut().zip(x) {
        *q = round(x * inverse) as i8;
    }
    amax * (1.0 / 127.0)
}

/// A group of activations, ready for a kernel. Assembly reads it: 19 words in this order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Where the group's integer sum starts, once for each of two rows. For Q4_1, where sums start at
    /// 0, 0 and the bits of [`Group::minimum_factor`].
    pub(crate) start: [i32; 2],
    /// What a q of 1 stands for.
    pub(crate) scale: f32,
    /// What the kernel multiplies with: see [`crate::kernels::expand`].
    pub(crate) e: [i16; GROUP],
}

impl Group {
    /// Q4_1: what a group's minimum is multiplied with, scale · Σq.
    #[inline(always)]
    #[cfg_attr(target_arch = "riscv64", allow(dead_code))]
    pub(crate) fn minimum_factor(&self) -> f32 {
        f32::from_bits(self.start[1] as u32)
    }
}

/// [`Group::minimum_factor`] of a sum and a scale: the one place where it is rounded.
#[inline(always)]
pub(crate) fn minimum_factor(sum: i32, scale: f32) -> f32 {
    sum as f32 * scale
}

/// A vector of activations, quantized by groups of 32 and expanded for the kernel of one weight
/// format. Buffers are as long as the widest vector, rounded up to whole groups.
#[derive(Debug)]
pub(crate) struct Act<'m> {
    /// q, zero beyond the vector's end up to a whole group.
    pub(crate) q: &'m mut [i8],
    /// The same expanded, and the scales.
    pub(crate) groups: &'m mut [Group],
    /// Which format `groups` is expanded for.
    pub(crate) ready: Option<DType>,
}

impl Act<'_> {
    /// Takes in a vector.
    pub(crate) fn set(&mut self, x: &[f32]) {
        self.ready = None;
        let groups = x.chunks(GROUP).zip(self.q.chunks_exact_mut(GROUP)).zip(&mut *self.groups);
        for ((x, q), group) in groups {
            let (used, pad) = q.split_at_mut(x.len());
            group.scale = quantize(x, used);
            pad.fill(0);
        }
    }

    /// Expands the first `cols` values for a weight format, unless that is done already.
    #[cfg_attr(target_arch = "riscv64", allow(dead_code))]
    pub(crate) fn expand(&mut self, dtype: DType, cols: usize) {
        if self.ready == Some(dtype) {
            return;
        }
        self.ready = Some(dtype);
        let groups = self.q.chunks_exact(GROUP).zip(&mut *self.groups);
        for (q, group) in groups.take(cols.div_ceil(GROUP)) {
            group.start = match dtype {
                DType::Q4_0 => [-16 * 8 * expand::q4(q, &mut group.e); 2],
                DType::Q4_1 => {
                    let sum = expand::q4(q, &mut group.e);
                    [0, minimum_factor(sum, group.scale).to_bits() as i32]
                }
                _ => [expand::q8(q, &mut group.e); 2],
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_is_within_half_a_step(x in prop::collection::vec(-1e20f32..1e20, 1..40), down in 0i32..40) {
            let x: std::vec::Vec<f32> = x.iter().map(|x| x * libm::exp2f(-(down as f32))).collect();
            let mut q = std::vec![0i8; x.len()];
            let scale = quantize(&x, &mut q);
            for (x, &q) in x.iter().zip(&q) {
                prop_assert!(q != i8::MIN);
                prop_assert!((x - f32::from(q) * scale).abs() <= scale * 0.5001);
            }
        }
    }

    #[test]
    fn nothing_and_nonsense() {
        let mut q = [1i8; 3];
        assert_eq!(quantize(&[0.0, -0.0, 0.0], &mut q), 0.0);
        assert_eq!(q, [0; 3]);
        assert_eq!(quantize(&[1e-40, 0.0, 0.0], &mut q), 0.0);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut q = [1i8; 3];
            assert!(quantize(&[1.0, bad, -3.0], &mut q).is_nan());
            assert_eq!(q, [0; 3]);
        }
        let mut q = [0i8; 3];
        assert_eq!(quantize(&[127.0, -127.0, 0.5], &mut q), 1.0);
        assert_eq!(q, [127, -127, 0]);
    }
}
