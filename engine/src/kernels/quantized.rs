//! Quantized rows times int8 activations, in portable Rust.

use super::expand::{self, at_q4, at_q8, partner};
use super::u16_slice;
use crate::dtype::{DType, GROUP};
use crate::f16;
use crate::image::Tensor;
use crate::quant::{Act, Group};

/// Units of two columns in a group.
const UNITS: usize = GROUP / 2;

/// Rows that share the loads of the activations. A machine that vectorizes takes one; else as many
/// as the registers hold.
const ROWS: usize = if cfg!(any(target_arch = "riscv32", target_arch = "riscv64")) {
    4
} else if cfg!(target_arch = "arm") {
    3
} else {
    1
};

/// Two weights as they are stored.
pub(super) trait Unit: Copy {
    /// The sum of a group comes out as this power of two times the true sum.
    const SHIFT: u32;
    /// Where its activations lie.
    fn at(unit: usize) -> usize;
    /// The weight in the even column.
    fn low(self) -> i32;
    /// Both.
    fn both(self) -> i32;
}

/// Q8_0: a little-endian i16 made of two bytes.
impl Unit for u16 {
    const SHIFT: u32 = 8;

    #[inline(always)]
    fn at(unit: usize) -> usize {
        at_q8(unit)
    }

    #[inline(always)]
    fn low(self) -> i32 {
        i32::from(u16::from_le(self) & 0xff)
    }

    #[inline(always)]
    fn both(self) -> i32 {
        i32::from(u16::from_le(self) as i16)
    }
}

/// Q4_0 and Q4_1: a byte made of two nibbles.
impl Unit for u8 {
    const SHIFT: u32 = 4;

    #[inline(always)]
    fn at(unit: usize) -> usize {
        at_q4(unit)
    }

    #[inline(always)]
    fn low(self) -> i32 {
        i32::from(self & 0xf)
    }

    #[inline(always)]
    fn both(self) -> i32 {
        i32::from(self)
    }
}

/// Units that [`sums`] takes at a time: few, lest a compiler loads more than the registers hold. Rows
/// are padded to a multiple.
const STEP: usize = if cfg!(kernel_dsp) { 4 } else { 2 };

/// Scaled integer sums of one group of R rows over `steps` times [`STEP`] units.
///
/// # Safety
/// Each of `w` can be read `steps` times `STEP` units far.
#[inline(always)]
unsafe fn sums<U: Unit, const R: usize>(w: [*const U; R], steps: usize, group: &Group) -> [i32; R] {
    let mut sum = [group.start[0]; R];
    if ROWS == 1 && steps * STEP == UNITS {
        // A loop of constant length vectorizes.
        for u in 0..UNITS {
            let (c, a) = (i32::from(group.e[U::at(u)]), i32::from(group.e[partner(U::at(u))]));
            for r in 0..R {
                // SAFETY: u is below `steps` times `STEP`.
                sum[r] = add(sum[r], unsafe { *w[r].add(u) }, c, a);
            }
        }
        return sum;
    }
    // Elsewhere that would be unrolled to more values than there are registers.
    for s in 0..steps {
        // In one span or in several, the c of a step are neighbours, as are the a1.
        let at = expand::step(s * STEP);
        let (c, a) = (&group.e[at..at + STEP], &group.e[partner(at)..partner(at) + STEP]);
        for u in 0..STEP {
            let (c, a) = (i32::from(c[U::at(u)]), i32::from(a[U::at(u)]));
            for r in 0..R {
                // SAFETY: the unit is below `steps` times `STEP`.
                sum[r] = add(sum[r], unsafe { *w[r].add(s * STEP + u) }, c, a);
            }
        }
    }
    sum
}

#[inline(always)]
fn add<U: Unit>(sum: i32, unit: U, c: i32, a: i32) -> i32 {
    sum.wrapping_add(unit.low().wrapping_mul(c)).wrapping_add(unit.both().wrapping_mul(a))
}

/// R rows from `r` on, over the groups from `first` on; what `out` holds is the sum of the groups
/// before. `units` is the length of a row; `MIN` says whether each scale is followed by a minimum.
///
/// # Safety
/// `data` and `scales` are a tensor's, of units of this type; all R rows exist.
#[inline(always)]
unsafe fn rows<U: Unit, const MIN: bool, const R: usize>(
    out: &mut [f32],
    w: &Tensor<'_>,
    groups: &[Group],
    r: usize,
    first: usize,
    units: usize,
) {
    let scales_step = if MIN { 2 } else { 1 };
    let mut total: [f32; R] = core::array::from_fn(|i| out[i]);
    // SAFETY: the caller vouches for the rows, and a row has all its groups.
    let (mut data, mut scales): ([*const U; R], [*const u16; R]) = unsafe {
        (
            core::array::from_fn(|i| w.data.as_ptr().add((r + i) * w.stride).cast::<U>().add(first * UNITS)),
            core::array::from_fn(|i| {
                w.scales.as_ptr().add((r + i) * w.scale_stride).cast::<u16>().add(first * scales_step)
            }),
        )
    };
    let mut left = units - first * UNITS;
    for group in groups {
        let steps = if left < UNITS { left.div_ceil(STEP) } else { UNITS / STEP };
        // SAFETY: a row's length is a multiple of 8 bytes, so of a step, and `left` units of it
        // are left; each group has its scale. The last additions may lead past the row, so wrap.
        unsafe {
            let sum = sums::<U, R>(data, steps, group);
            for i in 0..R {
                let weight_scale = f16::to_f32(u16::from_le(*scales[i]));
                let mut part = (sum[i] >> U::SHIFT) as f32 * (weight_scale * group.scale);
                if MIN {
                    part += f16::to_f32(u16::from_le(*scales[i].add(1))) * group.minimum_factor();
                }
                total[i] += part;
                data[i] = data[i].wrapping_add(UNITS);
                scales[i] = scales[i].wrapping_add(scales_step);
            }
        }
        left = left.saturating_sub(UNITS);
    }
    out.copy_from_slice(&total);
}

/// The rows `rest` over the groups from `first` on.
#[inline(always)]
fn matvec<U: Unit, const MIN: bool>(
    out: &mut [f32],
    w: &Tensor<'_>,
    act: &Act<'_>,
    rest: core::ops::Range<usize>,
    first: usize,
) {
    let units = w.cols.div_ceil(2);
    let groups = &act.groups[first..w.groups()];
    let rest = rest.start..rest.end.min(w.rows);
    let out = &mut out[rest.clone()];
    if first == 0 {
        // Adding to -0 yields the other summand unchanged, also if that is -0.
        out.fill(-0.0);
    }
    let mut r = rest.start;
    let mut several = out.chunks_exact_mut(ROWS);
    for out in several.by_ref() {
        // SAFETY: rows below `w.rows`, of a tensor of U's format.
        unsafe { rows::<U, MIN, ROWS>(out, w, groups, r, first, units) };
        r += ROWS;
    }
    for out in several.into_remainder().chunks_exact_mut(1) {
        // SAFETY: as above.
        unsafe { rows::<U, MIN, 1>(out, w, groups, r, first, units) };
        r += 1;
    }
}

/// What the hand-written kernels do not cover: rows and groups they have done already.
#[inline(always)]
fn by_hand(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) -> (usize, usize) {
    #[cfg(kernel_dsp)]
    return super::dsp::matvec(out, w, act);
    #[cfg(not(kernel_dsp))]
    {
        let _ = (out, w, act);
        (0, 0)
    }
}

#[inline(always)]
fn all<U: Unit, const MIN: bool>(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    let (done, first) = by_hand(out, w, act);
    if first < w.groups() {
        matvec::<U, MIN>(out, w, act, 0..done, first);
    }
    matvec::<U, MIN>(out, w, act, done..out.len(), 0);
}

/// The product with a Q8_0 matrix.
#[inline(never)]
pub(super) fn matvec_q8_0(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    all::<u16, false>(out, w, act);
}

/// The product with a Q4_0 matrix.
#[inline(never)]
pub(super) fn matvec_q4_0(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    all::<u8, false>(out, w, act);
}

/// The product with a Q4_1 matrix.
#[inline(never)]
pub(super) fn matvec_q4_1(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    all::<u8, true>(out, w, act);
}

/// One row as f32 values.
pub(super) fn embed(out: &mut [f32], w: &Tensor<'_>, r: usize) {
    let step = if w.dtype == DType::Q4_1 { 2 } else { 1 };
    let (data, scales) = (w.row(r), u16_slice(w.row_scales(r), w.groups() * step));
    for ((g, out), scale) in out.chunks_mut(GROUP).enumerate().zip(scales.chunks_exact(step)) {
        let d = f16::to_f32(scale[0]);
        for (i, out) in out.iter_mut().enumerate() {
            let c = g * GROUP + i;
            let nibble = || i32::from(data[c / 2] >> (4 * (c % 2)) & 0xf);
            *out = match w.dtype {
                DType::Q4_1 => nibble() as f32 * d + f16::to_f32(scale[1]),
                DType::Q4_0 => (nibble() - 8) as f32 * d,
                _ => {
                    let bias = if c.is_multiple_of(2) { 0x80 } else { 0 };
                    f32::from((data[c] ^ bias) as i8) * d
                }
            };
        }
    }
}
