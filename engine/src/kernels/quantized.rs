//! Quantized rows times int8 activations, in portable Rust.

use super::expand::{at_q4, at_q8, partner};
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
    2
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

/// Q4_0: a byte made of two nibbles.
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

/// Scaled integer sums of one group of R rows. `units` is the constant [`UNITS`] except in a short
/// last group, so that the usual loop has a known length.
#[inline(always)]
fn sums<U: Unit, const R: usize>(rows: &[&[U]; R], at: usize, units: usize, group: &Group) -> [i32; R] {
    let mut sum = [group.start[0]; R];
    let w: [&[U]; R] = core::array::from_fn(|r| &rows[r][at..at + units]);
    for u in 0..units {
        let (c, a) = (i32::from(group.e[U::at(u)]), i32::from(group.e[partner(U::at(u))]));
        for r in 0..R {
            let unit = w[r][u];
            sum[r] =
                sum[r].wrapping_add(unit.low().wrapping_mul(c)).wrapping_add(unit.both().wrapping_mul(a));
        }
    }
    sum
}

/// R rows at once, from group `first` on; what `out` holds is the sum of the groups before.
#[inline(always)]
fn rows<U: Unit, const R: usize>(
    out: &mut [f32],
    w: [&[U]; R],
    scales: [&[u16]; R],
    act: &Act<'_>,
    cols: usize,
    first: usize,
) {
    let mut total: [f32; R] = core::array::from_fn(|r| out[r]);
    let units = cols.div_ceil(2);
    for (g, group) in act.groups.iter().enumerate().take(cols.div_ceil(GROUP)).skip(first) {
        let at = g * UNITS;
        let sum = if at + UNITS <= units {
            sums::<U, R>(&w, at, UNITS, group)
        } else {
            sums::<U, R>(&w, at, units - at, group)
        };
        for r in 0..R {
            let weight_scale = f16::to_f32(u16::from_le(scales[r][g]));
            total[r] += (sum[r] >> U::SHIFT) as f32 * (weight_scale * group.scale);
        }
    }
    out.copy_from_slice(&total);
}

/// The rows from `from` on over the groups from `first` on.
#[inline(always)]
fn matvec<'w, U: Unit + 'w>(
    out: &mut [f32],
    w: &Tensor<'w>,
    act: &Act<'_>,
    rest: core::ops::Range<usize>,
    first: usize,
    units: impl Fn(&'w [u8]) -> &'w [U],
) {
    let groups = w.groups();
    let data = |r: usize| units(w.row(r));
    let scale = |r: usize| &u16_slice(w.row_scales(r), groups)[..groups];
    if first == 0 {
        // Adding to -0 yields the other summand unchanged, also if that is -0.
        out[rest.clone()].fill(-0.0);
    }
    let mut r = rest.start;
    while r + ROWS <= rest.end {
        rows::<U, ROWS>(
            &mut out[r..r + ROWS],
            core::array::from_fn(|i| data(r + i)),
            core::array::from_fn(|i| scale(r + i)),
            act,
            w.cols,
            first,
        );
        r += ROWS;
    }
    while r < rest.end {
        rows::<U, 1>(&mut out[r..r + 1], [data(r)], [scale(r)], act, w.cols, first);
        r += 1;
    }
}

/// What the hand-written kernels do not cover: rows and groups they have done already.
#[inline(always)]
fn by_hand(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) -> (usize, usize) {
    #[cfg(kernel_dsp)]
    return super::dsp::matvec(out, w, act, w.dtype == DType::Q8_0);
    #[cfg(not(kernel_dsp))]
    {
        let _ = (out, w, act);
        (0, 0)
    }
}

pub(super) fn matvec_q8(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    let (done, first) = by_hand(out, w, act);
    fn units(row: &[u8]) -> &[u16] {
        u16_slice(row, row.len() / 2)
    }
    if first < w.groups() {
        matvec(out, w, act, 0..done, first, units);
    }
    matvec(out, w, act, done..out.len(), 0, units);
}

pub(super) fn matvec_q4(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    let (done, first) = by_hand(out, w, act);
    if first < w.groups() {
        matvec(out, w, act, 0..done, first, |row| row);
    }
    matvec(out, w, act, done..out.len(), 0, |row| row);
}

/// One row as f32 values.
pub(super) fn embed(out: &mut [f32], w: &Tensor<'_>, r: usize) {
    let (data, scales) = (w.row(r), u16_slice(w.row_scales(r), w.groups()));
    for ((g, out), scale) in out.chunks_mut(GROUP).enumerate().zip(scales) {
        let scale = f16::to_f32(*scale);
        for (i, out) in out.iter_mut().enumerate() {
            let c = g * GROUP + i;
            let q = if w.dtype == DType::Q8_0 {
                let bias = if c % 2 == 0 { 0x80 } else { 0 };
                i32::from((data[c] ^ bias) as i8)
            } else {
                i32::from(data[c / 2] >> (4 * (c % 2)) & 0xf) - 8
            };
            *out = q as f32 * scale;
        }
    }
}
