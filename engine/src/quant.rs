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

/// A vector of activations, quantized by groups of 32 and expanded for the kernel of one weight
/// format. Buffers are as long as the widest vector, rounded up to whole groups.
#[derive(Debug)]
pub(crate) struct Act<'m> {
    /// q, zero beyond the vector's end up to a whole group.
    pub(crate) q: &'m mut [i8],
    /// What the kernel multiplies with: see [`crate::kernels`].
    pub(crate) expanded: &'m mut [i16],
    /// Scale of each group.
    pub(crate) scale: &'m mut [f32],
    /// Where each group's integer sum starts.
    pub(crate) start: &'m mut [i32],
    /// Which format `expanded` and `start` are for.
    pub(crate) ready: Option<DType>,
}

impl Act<'_> {
    /// Takes in a vector.
    pub(crate) fn set(&mut self, x: &[f32]) {
        self.ready = None;
        let groups = x.chunks(GROUP).zip(self.q.chunks_exact_mut(GROUP)).zip(&mut *self.scale);
        for ((x, q), scale) in groups {
            let (used, pad) = q.split_at_mut(x.len());
            *scale = quantize(x, used);
            pad.fill(0);
        }
    }

    /// Expands for a weight format, unless that is done already.
    pub(crate) fn expand(&mut self, dtype: DType, cols: usize) {
        if self.ready == Some(dtype) {
            return;
        }
        self.ready = Some(dtype);
        let groups = self.q.chunks_exact(GROUP).zip(self.expanded.chunks_exact_mut(GROUP));
        for ((q, e), start) in groups.zip(&mut *self.start).take(cols.div_ceil(GROUP)) {
            *start = match dtype {
                DType::Q4_0 => expand::q4(q, e),
                _ => expand::q8(q, e),
            };
        }
    }
}
