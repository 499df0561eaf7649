//! Quantized rows times int8 activations on cores with registers and products of 64 bits.
//!
//! One multiplication gives several products of a dot product already summed. Take weights in lanes
//! of a word, W = Σ w_i·2^(L·i), and activations in the opposite order, A = Σ a_i·2^(L·(n-1-i)): the
//! top lane of W·A is Σ w_i·a_i, plus a borrow if what lies below it is negative. Weights are
//! unsigned in their lanes, activations signed, so A is an arithmetic sum; adding half a lane to each
//! lower lane keeps the rest from being negative as long as no lane's sum reaches half of its range:
//!
//! - 4 bits: 4 lanes of 16 bits; 4 products of 4 weights make a lane's magnitude at most
//!   16 · 15 · 127 = 30,480 < 2^15.
//! - 8 bits: 2 lanes of 32 bits; the 16 products of a group stay below 32 · 255 · 127 < 2^31.
//!
//! Lanes come from eight bytes of a row with a shift and a mask. What is subtracted for the offset of
//! the weights is known beforehand, as in [the other kernels](super).

use crate::dtype::{DType, GROUP};
use crate::f16;
use crate::image::Tensor;
use crate::quant::{Act, minimum_factor};

/// Groups whose activations are prepared at a time, on the stack; then all rows take them.
const BLOCK: usize = 16;
/// Rows that share the loads of the activations.
const ROWS: usize = 2;

/// How eight bytes of weights are multiplied.
trait Format {
    /// Words of activations a group.
    const WORDS: usize;
    /// Words of weights a group.
    const LOADS: usize;
    /// Columns from a lane to the next one.
    const APART: usize;
    /// Bits from a lane to the next one.
    const LANE: u32;
    /// Bits of a weight.
    const BITS: u32;
    /// Selects the lowest weight of every lane.
    const MASK: u64;
    /// Flips what is signed to unsigned.
    const FLIP: u64;
    /// What every weight is too large by.
    const OFFSET: i32;
    /// Whether each scale is followed by a minimum.
    const MIN: bool;
    /// Half the range of each lane but the top one.
    const HALVES: u64;
    /// Whether lanes hold the sums of a whole group, else of eight bytes.
    const WHOLE: bool;
}

struct Q8_0;
struct Q4_0;
struct Q4_1;

impl Format for Q8_0 {
    const WORDS: usize = 16;
    const LOADS: usize = 4;
    const APART: usize = 4;
    const LANE: u32 = 32;
    const BITS: u32 = 8;
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    const FLIP: u64 = 0x8000_8000_8000_8000;
    const OFFSET: i32 = 128;
    const MIN: bool = false;
    const HALVES: u64 = 1 << 31;
    const WHOLE: bool = true;
}

impl Format for Q4_0 {
    const WORDS: usize = 8;
    const LOADS: usize = 2;
    const APART: usize = 4;
    const LANE: u32 = 16;
    const BITS: u32 = 4;
    const MASK: u64 = 0x000f_000f_000f_000f;
    const FLIP: u64 = 0;
    const OFFSET: i32 = 8;
    const MIN: bool = false;
    const HALVES: u64 = 0x0000_8000_8000_8000;
    const WHOLE: bool = false;
}

impl Format for Q4_1 {
    const WORDS: usize = 8;
    const LOADS: usize = 2;
    const APART: usize = 4;
    const LANE: u32 = 16;
    const BITS: u32 = 4;
    const MASK: u64 = 0x000f_000f_000f_000f;
    const FLIP: u64 = 0;
    const OFFSET: i32 = 0;
    const MIN: bool = true;
    const HALVES: u64 = 0x0000_8000_8000_8000;
    const WHOLE: bool = false;
}

/// A group of activations in lanes.
#[derive(Clone, Copy)]
struct Group {
    words: [u64; 16],
    start: i32,
    scale: f32,
    minimum_factor: f32,
}

impl Group {
    const NONE: Group = Group { words: [0; 16], start: 0, scale: 0.0, minimum_factor: 0.0 };

    fn new<F: Format>(q: &[i8], scale: f32) -> Group {
        let mut group = Group::NONE;
        let lanes = 64 / F::LANE as usize;
        let per_load = lanes * F::APART;
        for (i, word) in group.words.iter_mut().enumerate().take(F::WORDS) {
            let first = i / F::APART * per_load + i % F::APART;
            for lane in 0..lanes {
                let a = q[first + lane * F::APART] as i64 as u64;
                *word = word.wrapping_add(a << (F::LANE as usize * (lanes - 1 - lane)));
            }
        }
        let sum: i32 = q.iter().map(|&q| i32::from(q)).sum();
        group.start = -F::OFFSET * sum;
        group.scale = scale;
        group.minimum_factor = minimum_factor(sum, scale);
        group
    }
}

/// The product with a quantized matrix.
pub(super) fn matvec(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    match w.dtype {
        DType::Q4_0 => all::<Q4_0>(out, w, act),
        DType::Q4_1 => all::<Q4_1>(out, w, act),
        _ => all::<Q8_0>(out, w, act),
    }
}

#[inline(never)]
fn all<F: Format>(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) {
    let rows = out.len().min(w.rows);
    let out = &mut out[..rows];
    // Adding to -0 yields the other summand unchanged, also if that is -0.
    out.fill(-0.0);
    let mut block = [Group::NONE; BLOCK];
    let groups = act.q.chunks_exact(GROUP).zip(&*act.groups).take(w.groups());
    let mut groups = groups.map(|(q, group)| Group::new::<F>(q, group.scale));
    for first in (0..w.groups()).step_by(BLOCK) {
        let mut count = 0;
        for (to, group) in block.iter_mut().zip(groups.by_ref()) {
            *to = group;
            count += 1;
        }
        let block = &block[..count];
        let mut r = 0;
        let mut several = out.chunks_exact_mut(ROWS);
        for out in several.by_ref() {
            // SAFETY: rows below `w.rows`, of a tensor of F's format; `block` is its groups from `first` on.
            unsafe { rows_of::<F, ROWS>(out, w, block, r, first) };
            r += ROWS;
        }
        for out in several.into_remainder().chunks_exact_mut(1) {
            // SAFETY: as above.
            unsafe { rows_of::<F, 1>(out, w, block, r, first) };
            r += 1;
        }
    }
}

/// Adds to `out` what R rows from `r` on give with a block of groups, whose first is their group `first`.
///
/// # Safety
/// `w` is of format F, all R rows exist and have all these groups.
#[inline(always)]
unsafe fn rows_of<F: Format, const R: usize>(
    out: &mut [f32],
    w: &Tensor<'_>,
    block: &[Group],
    r: usize,
    first: usize,
) {
    let scales_step = if F::MIN { 2 } else { 1 };
    let mut total: [f32; R] = core::array::from_fn(|i| out[i]);
    // SAFETY: the caller vouches for the rows and that they have group `first`.
    let (mut data, mut scales): ([*const u64; R], [*const u16; R]) = unsafe {
        (
            core::array::from_fn(|i| {
                w.data.as_ptr().add((r + i) * w.stride).cast::<u64>().add(first * F::LOADS)
            }),
            core::array::from_fn(|i| {
                let row = w.scales.as_ptr().add((r + i) * w.scale_stride);
                row.cast::<u16>().add(first * scales_step)
            }),
        )
    };
    let mut left = w.stride / 8 - first * F::LOADS;
    for group in block {
        // A loop whose length the compiler knows is unrolled to more values than there are registers.
        let loads = if left < F::LOADS { left } else { F::LOADS };
        let mut sums = [group.start; R];
        let mut lanes = [F::HALVES; R];
        for words in group.words.chunks_exact(F::APART).take(loads) {
            for i in 0..R {
                // SAFETY: rows are whole words, `left` of which are left. Those of an image start at
                // multiples of 8.
                let weights = u64::from_le(unsafe { *data[i] });
                data[i] = data[i].wrapping_add(1);
                if F::WHOLE {
                    lanes[i] = eight::<F>(lanes[i], weights, words);
                } else {
                    sums[i] += top::<F>(eight::<F>(F::HALVES, weights, words));
                }
            }
        }
        if F::WHOLE {
            for i in 0..R {
                sums[i] += top::<F>(lanes[i]);
            }
        }
        for i in 0..R {
            // SAFETY: each group has its scale, and its minimum if the format has them.
            let d = f16::to_f32(u16::from_le(unsafe { *scales[i] }));
            let mut part = sums[i] as f32 * (d * group.scale);
            if F::MIN {
                // SAFETY: as above.
                part += f16::to_f32(u16::from_le(unsafe { *scales[i].add(1) })) * group.minimum_factor;
            }
            total[i] += part;
            scales[i] = scales[i].wrapping_add(scales_step);
        }
        left -= loads;
    }
    out.copy_from_slice(&total);
}

/// Adds weights of eight bytes times their activations.
#[inline(always)]
fn eight<F: Format>(mut lanes: u64, weights: u64, words: &[u64]) -> u64 {
    let weights = weights ^ F::FLIP;
    for (k, a) in words.iter().enumerate() {
        lanes = lanes.wrapping_add((weights >> (F::BITS as usize * k) & F::MASK).wrapping_mul(*a));
    }
    lanes
}

/// The sum in the top lane.
#[inline(always)]
fn top<F: Format>(lanes: u64) -> i32 {
    (lanes as i64 >> (64 - F::LANE)) as i32
}
