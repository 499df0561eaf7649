//! Matrix times vector.
//!
//! # Quantized weights
//!
//! A group's integer sum is exact, so a kernel may compute it in any order. All kernels use one
//! identity that saves unpacking half of the weights. Take a 16-bit unit L that holds two weights,
//! L = b + 256·h, b its low byte read as unsigned, h its high byte read as signed. Then
//!
//! 256·(b·a0 + h·a1) = b·(256·a0 - a1) + L·a1
//!
//! so with `c = 256·a0 - a1` prepared once a vector, the high weight never needs to be taken out of
//! its unit. In the image b is q0 + 128, so the sum starts at -256·128·Σa0. It ends at 256 times the
//! wanted sum: below 2^31 in magnitude, exact as f32 after division by 256, since the wanted sum is
//! below 2^24. Intermediate values wrap, which is harmless. The same with nibbles: B = n0 + 16·n1,
//! 16·(n0·a0 + n1·a1) = n0·(16·a0 - a1) + B·a1, starting at -16·8·Σa, or at 0 for Q4_1, whose nibbles
//! stand for themselves.
//!
//! Of a group, with d and m its scale and minimum and s that of the activations, all kernels add
//! sum·(d·s) to the row's total; for Q4_1 sum·(d·s) + m·(s·Σa), where s·Σa is rounded once a vector.
//!
//! [`expand`] prepares c and a1 in the order the kernel reads them. 64-bit cores take another way: see
//! [`wide`].

#[cfg(kernel_dsp)]
mod dsp;
#[cfg_attr(target_arch = "riscv64", allow(dead_code))]
pub(crate) mod expand;
mod float;
#[cfg_attr(target_arch = "riscv64", allow(dead_code))]
mod quantized;
#[cfg(test)]
mod tests;
#[cfg(kernel_dsp)]
mod vfp;
#[cfg(any(target_arch = "riscv64", test))]
mod wide;

use crate::dtype::DType;
use crate::image::Tensor;
use crate::quant::Act;

pub(crate) use float::{dot_f16, dot_f32, embed_float, f32_slice, fold8, sum8, u16_slice};

/// `out[r] = Σ_c w[r][c] · x[c]`. `x` is the vector and `act` the same vector quantized; which of
/// the two is used depends on the weights' format.
pub(crate) fn matvec(out: &mut [f32], w: &Tensor<'_>, x: &[f32], act: &mut Act<'_>) {
    match w.dtype {
        DType::F32 => float::matvec_f32(out, w, x),
        DType::F16 => float::matvec_f16(out, w, x),
        DType::BF16 => float::matvec_bf16(out, w, x),
        DType::Q8_0 | DType::Q4_0 | DType::Q4_1 => matvec_quantized(out, w, act),
    }
}

#[cfg(target_arch = "riscv64")]
fn matvec_quantized(out: &mut [f32], w: &Tensor<'_>, act: &mut Act<'_>) {
    wide::matvec(out, w, act);
}

#[cfg(not(target_arch = "riscv64"))]
fn matvec_quantized(out: &mut [f32], w: &Tensor<'_>, act: &mut Act<'_>) {
    act.expand(w.dtype, w.cols);
    match w.dtype {
        DType::Q4_0 => quantized::matvec_q4_0(out, w, act),
        DType::Q4_1 => quantized::matvec_q4_1(out, w, act),
        _ => quantized::matvec_q8_0(out, w, act),
    }
}

/// One row of a matrix as f32 values.
pub(crate) fn embed(out: &mut [f32], w: &Tensor<'_>, row: usize) {
    if w.dtype.is_quantized() {
        quantized::embed(out, w, row);
    } else {
        embed_float(out, w, row);
    }
}
