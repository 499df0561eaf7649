//! Every kernel against a naive reading of its definition, to the bit.

use super::*;
use crate::dtype::GROUP;
use crate::f16;
use crate::quant::Group;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// Bytes at an aligned address.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(8)
        .map(|c| {
            let mut b = [0u8; 8];
            b[..c.len()].copy_from_slice(c);
            u64::from_ne_bytes(b)
        })
        .collect()
}

fn bytes(words: &[u64]) -> &[u8] {
    // SAFETY: any bytes of initialized words are bytes.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 8) }
}

/// The definition: dequantize by hand, an integer sum a group, groups ascending.
fn naive(w: &Tensor<'_>, q: &[i8], scales: &[f32], r: usize) -> f32 {
    let (data, ws) = (w.row(r), w.row_scales(r));
    let weight = |c: usize| -> i64 {
        let nibble = || i64::from(if c.is_multiple_of(2) { data[c / 2] % 16 } else { data[c / 2] / 16 });
        match w.dtype {
            DType::Q8_0 if c.is_multiple_of(2) => i64::from(data[c]) - 128,
            DType::Q8_0 => i64::from(data[c] as i8),
            DType::Q4_1 => nibble(),
            _ => nibble() - 8,
        }
    };
    let half = |i: usize| f16::to_f32(u16::from_le_bytes([ws[2 * i], ws[2 * i + 1]]));
    let mut total = None;
    for (g, &s) in scales.iter().enumerate().take(w.groups()) {
        let columns = g * GROUP..((g + 1) * GROUP).min(w.cols);
        let sum: i64 = columns.clone().map(|c| weight(c) * i64::from(q[c])).sum();
        let part = if w.dtype == DType::Q4_1 {
            let all: i64 = columns.map(|c| i64::from(q[c])).sum();
            sum as f32 * (half(2 * g) * s) + half(2 * g + 1) * (all as f32 * s)
        } else {
            sum as f32 * (half(g) * s)
        };
        total = Some(total.map_or(part, |t: f32| t + part));
    }
    total.unwrap_or(0.0)
}

fn check(dtype: DType, rows: usize, cols: usize, seed: u64, extreme: bool) {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    };
    let stride = if dtype == DType::Q8_0 { cols } else { cols.div_ceil(2) }.next_multiple_of(8);
    let groups = cols.div_ceil(GROUP);
    let scale_stride = if dtype == DType::Q4_1 { groups * 4 } else { groups.next_multiple_of(2) * 2 };
    let lowest = match dtype {
        DType::Q8_0 => [0u8, 0x80],
        DType::Q4_1 => [0xff, 0xff],
        _ => [0, 0],
    };
    let data: Vec<u8> =
        (0..rows * stride).map(|i| if extreme { lowest[i % 2] } else { next() as u8 }).collect();
    // Normal scales of either sign, up to 2^-1.
    let scales: Vec<u8> = (0..rows * scale_stride / 2)
        .flat_map(|_| ((0x2000 + (next() % 0x1800) as u16) | (next() as u16 & 0x8000)).to_le_bytes())
        .collect();
    let (data, scales) = (aligned(&data), aligned(&scales));
    let w = Tensor {
        dtype,
        rows,
        cols,
        stride,
        scale_stride,
        data: &bytes(&data)[..rows * stride],
        scales: &bytes(&scales)[..rows * scale_stride],
    };
    let x: Vec<f32> =
        (0..cols).map(|_| if extreme { -1.0 } else { (next() as f32 / 4e9 - 0.5) * 3.0 }).collect();
    let mut q = vec![0i8; groups * GROUP];
    let mut g = vec![Group { start: [0; 2], scale: 0.0, e: [0; GROUP] }; groups];
    let mut act = Act { q: &mut q, groups: &mut g, ready: None };
    act.set(&x);
    let mut out = vec![f32::NAN; rows];
    matvec(&mut out, &w, &x, &mut act);
    let scales: Vec<f32> = act.groups.iter().map(|g| g.scale).collect();
    let mut of_64_bits = vec![f32::NAN; rows];
    wide::matvec(&mut of_64_bits, &w, &act);
    for (r, got) in out.iter().enumerate() {
        let want = naive(&w, act.q, &scales, r);
        assert_eq!(got.to_bits(), want.to_bits(), "row {r}: {got} {want}");
        let got = of_64_bits[r];
        assert_eq!(got.to_bits(), want.to_bits(), "row {r}, 64 bits: {got} {want}");
    }
}

const QUANTIZED: [DType; 3] = [DType::Q8_0, DType::Q4_0, DType::Q4_1];

proptest! {
    #[test]
    fn quantized_products_match_the_definition(
        rows in 1usize..9, cols in 1usize..230, seed: u64, format in 0usize..3, extreme: bool,
    ) {
        check(QUANTIZED[format], rows, cols, seed, extreme);
    }

    #[test]
    fn float_dot_products_keep_the_order(v in prop::collection::vec((-2.0f32..2.0, -2.0f32..2.0), 0..70)) {
        let (a, b): (Vec<f32>, Vec<f32>) = v.iter().copied().unzip();
        let mut s = [0.0f32; 8];
        for (i, (a, b)) in v.iter().enumerate() {
            s[i % 8] += a * b;
        }
        let want = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
        prop_assert_eq!(dot_f32(&a, &b).to_bits(), want.to_bits());
        let h: Vec<u16> = a.iter().map(|a| f16::from_f32(*a)).collect();
        let rounded: Vec<f32> = h.iter().map(|h| f16::to_f32(*h)).collect();
        prop_assert_eq!(dot_f16(&h, &b).to_bits(), dot_f32(&rounded, &b).to_bits());
        let upper: Vec<u16> = a.iter().map(|a| (a.to_bits() >> 16) as u16).collect();
        let cut: Vec<f32> = a.iter().map(|a| f32::from_bits(a.to_bits() & 0xffff_0000)).collect();
        prop_assert_eq!(float::dot_bf16(&upper, &b).to_bits(), dot_f32(&cut, &b).to_bits());
        let ones = vec![1.0f32; a.len()];
        prop_assert_eq!(sum8(&a).to_bits(), dot_f32(&a, &ones).to_bits());
    }
}

#[test]
fn the_last_bits_of_the_range_fit() {
    for cols in [32, 64, 172, 2048] {
        for dtype in QUANTIZED {
            check(dtype, 3, cols, 1, true);
        }
    }
}
