//! Dot products of floats, in the one order that every target keeps.

use crate::dtype::DType;
use crate::f16;
use crate::image::Tensor;

#[cfg(kernel_dsp)]
pub(crate) use super::vfp::{dot_f16, dot_f32};

/// Folds 8 strided partial sums: `((0+4)+(2+6))+((1+5)+(3+7))`.
#[inline(always)]
pub(crate) fn fold8(s: [f32; 8]) -> f32 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

/// The sum of values, the i-th into partial sum i mod 8.
#[inline]
pub(crate) fn sum8(values: &[f32]) -> f32 {
    let mut s = [0.0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for v in chunks {
        for i in 0..8 {
            s[i] += v[i];
        }
    }
    for (s, v) in s.iter_mut().zip(rest) {
        *s += v;
    }
    fold8(s)
}

/// `Σ a·b` over the shorter length.
#[cfg(not(kernel_dsp))]
#[inline]
pub(crate) fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let mut s = [0.0f32; 8];
    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (a, b) in ca.zip(cb) {
        for i in 0..8 {
            s[i] += a[i] * b[i];
        }
    }
    for ((s, a), b) in s.iter_mut().zip(ra).zip(rb) {
        *s += a * b;
    }
    fold8(s)
}

/// `Σ a·b` over the shorter length, a in binary16.
#[cfg(not(kernel_dsp))]
#[inline]
pub(crate) fn dot_f16(a: &[u16], b: &[f32]) -> f32 {
    let mut s = [0.0f32; 8];
    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (a, b) in ca.zip(cb) {
        for i in 0..8 {
            s[i] += f16::to_f32(a[i]) * b[i];
        }
    }
    for ((s, a), b) in s.iter_mut().zip(ra).zip(rb) {
        *s += f16::to_f32(*a) * b;
    }
    fold8(s)
}

/// `Σ a·b` over the shorter length, a being upper halves of binary32.
#[inline]
pub(crate) fn dot_bf16(a: &[u16], b: &[f32]) -> f32 {
    let mut s = [0.0f32; 8];
    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (a, b) in ca.zip(cb) {
        for i in 0..8 {
            s[i] += bf16(a[i]) * b[i];
        }
    }
    for ((s, a), b) in s.iter_mut().zip(ra).zip(rb) {
        *s += bf16(*a) * b;
    }
    fold8(s)
}

/// The value whose upper half this is.
#[inline(always)]
fn bf16(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// The first `len` f32 values of image bytes, fewer if the bytes end before.
#[inline]
pub(crate) fn f32_slice(bytes: &[u8], len: usize) -> &[f32] {
    debug_assert_eq!(bytes.as_ptr().addr() % 4, 0);
    let len = len.min(bytes.len() / 4);
    // SAFETY: in bounds by the line above; regions of an image start at multiples of 16 and rows at
    // multiples of 8 from a base whose alignment `Image::parse` checks; any bits are an f32.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast::<f32>(), len) }
}

/// The first `len` values of 16 bits of image bytes, fewer if the bytes end before.
#[inline]
pub(crate) fn u16_slice(bytes: &[u8], len: usize) -> &[u16] {
    debug_assert_eq!(bytes.as_ptr().addr() % 2, 0);
    let len = len.min(bytes.len() / 2);
    // SAFETY: as for `f32_slice`.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast::<u16>(), len) }
}

pub(super) fn matvec_f32(out: &mut [f32], w: &Tensor<'_>, x: &[f32]) {
    for (out, row) in out.iter_mut().zip(w.data.chunks_exact(w.stride)) {
        *out = dot_f32(f32_slice(row, w.cols), x);
    }
}

pub(super) fn matvec_f16(out: &mut [f32], w: &Tensor<'_>, x: &[f32]) {
    for (out, row) in out.iter_mut().zip(w.data.chunks_exact(w.stride)) {
        *out = dot_f16(u16_slice(row, w.cols), x);
    }
}

pub(super) fn matvec_bf16(out: &mut [f32], w: &Tensor<'_>, x: &[f32]) {
    for (out, row) in out.iter_mut().zip(w.data.chunks_exact(w.stride)) {
        *out = dot_bf16(u16_slice(row, w.cols), x);
    }
}

/// One row of an F32, F16 or BF16 matrix.
pub(crate) fn embed_float(out: &mut [f32], w: &Tensor<'_>, row: usize) {
    let bytes = w.row(row);
    if w.dtype == DType::F32 {
        out.copy_from_slice(f32_slice(bytes, w.cols));
    } else {
        let value = if w.dtype == DType::F16 { f16::to_f32 } else { bf16 };
        for (o, &h) in out.iter_mut().zip(u16_slice(bytes, w.cols)) {
            *o = value(h);
        }
    }
}
