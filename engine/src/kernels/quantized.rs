//! Quantized rows times int8 activations, in portable Rust.

use super::u16_slice;
use crate::dtype::{DType, GROUP};
use crate::f16;
use crate::image::Tensor;
use crate::quant::Act;

const UNITS: usize = GROUP / 2;

/// 256 times the integer sum of a group, less where it starts. `w` may be short.
#[inline(always)]
fn sum_q8(w: &[u8], e: &[i16; GROUP], start: i32) -> i32 {
    let mut sum = start;
    let (c, a) = e.split_at(UNITS);
    for ((w, c), a) in w.chunks_exact(2).zip(c).zip(a) {
        let unit = i16::from_le_bytes([w[0], w[1]]);
        let low = i32::from(unit) & 0xff;
        sum = sum
            .wrapping_add(low.wrapping_mul(i32::from(*c)))
            .wrapping_add(i32::from(unit).wrapping_mul(i32::from(*a)));
    }
    sum
}

/// 16 times the integer sum of a group, less where it starts. `w` may be short.
#[inline(always)]
fn sum_q4(w: &[u8], e: &[i16; GROUP], start: i32) -> i32 {
    let mut sum = start;
    let (c, a) = e.split_at(UNITS);
    for ((&w, c), a) in w.iter().zip(c).zip(a) {
        let both = i32::from(w);
        let low = both & 0xf;
        sum += low * i32::from(*c) + both * i32::from(*a);
    }
    sum
}

/// One row; `full` is a group's bytes.
#[inline(always)]
fn row(
    data: &[u8],
    scales: &[u16],
    act: &Act<'_>,
    full: usize,
    unscale: f32,
    sum: impl Fn(&[u8], &[i16; GROUP], i32) -> i32,
) -> f32 {
    let mut total = 0.0f32;
    let groups = data.chunks(full).zip(scales).zip(groups(act.expanded)).zip(&*act.start).zip(&*act.scale);
    for (g, ((((w, &ws), e), &start), &scale)) in groups.enumerate() {
        let isum = if w.len() == full { sum(&w[..full], e, start) } else { sum(w, e, start) };
        let part = (isum as f32 * unscale) * (f16::to_f32(ws) * scale);
        total = if g == 0 { part } else { total + part };
    }
    total
}

/// The expanded activations by group (`as_chunks` is too young for our compilers).
#[inline(always)]
fn groups(e: &[i16]) -> &[[i16; GROUP]] {
    // SAFETY: an array of i16 has i16's alignment, and the length is rounded down.
    unsafe { core::slice::from_raw_parts(e.as_ptr().cast(), e.len() / GROUP) }
}

pub(super) fn matvec_q8(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    let rows = w.data.chunks_exact(w.stride).zip(w.scales.chunks_exact(w.scale_stride));
    for (out, (data, scales)) in out.iter_mut().zip(rows) {
        let scales = u16_slice(scales, w.groups());
        *out = row(data, scales, act, GROUP, 1.0 / 256.0, sum_q8);
    }
}

pub(super) fn matvec_q4(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    let rows = w.data.chunks_exact(w.stride).zip(w.scales.chunks_exact(w.scale_stride));
    for (out, (data, scales)) in out.iter_mut().zip(rows) {
        let scales = u16_slice(scales, w.groups());
        *out = row(data, scales, act, GROUP / 2, 1.0 / 16.0, sum_q4);
    }
}

/// One row as f32 values.
pub(super) fn embed(out: &mut [f32], w: &Tensor<'_>, r: usize) {
    let (data, scales) = (w.row(r), u16_slice(w.row_scales(r), w.groups()));
    for (c, out) in out.iter_mut().enumerate() {
        let q = if w.dtype == DType::Q8_0 {
            let bias = if c % 2 == 0 { 0x80 } else { 0 };
            i32::from((data[c] ^ bias) as i8)
        } else {
            i32::from(data[c / 2] >> (4 * (c % 2)) & 0xf) - 8
        };
        *out = q as f32 * f16::to_f32(scales[c / GROUP]);
    }
}
