//! The key-value cache and attention over it.
//!
//! Grouped-query attention (Ainslie et al. 2023). Cached vectors of one layer and head lie one after
//! the other by position. The weighted sum of values uses the unnormalized exponentials and divides
//! once at the end.

use crate::arena::{Dealer, Regions};
use crate::config::Config;
use crate::dtype::KvType;
use crate::f16;
use crate::kernels::{dot_f16, dot_f32, sum8};
use crate::math;
use crate::quant::quantize;

/// Positions whose integer sums fit an i32: 32,767 · 127 · 256 < 2^31.
const BLOCK: usize = 256;
/// Largest integer weight of a position.
const WEIGHT: f32 = 32_767.0;

#[derive(Debug)]
enum Store<'m> {
    F32 { k: &'m mut [f32], v: &'m mut [f32] },
    F16 { k: &'m mut [u16], v: &'m mut [u16] },
    I8 { k: &'m mut [i8], v: &'m mut [i8], ks: &'m mut [f32], vs: &'m mut [f32] },
}

/// Keys and values of all positions so far.
#[derive(Debug)]
pub(super) struct Cache<'m> {
    store: Store<'m>,
    ctx: usize,
    head_dim: usize,
    kv_heads: usize,
    /// 1 / sqrt(head_dim)
    scale: f32,
}

impl<'m> Cache<'m> {
    pub(super) fn new(d: &mut Dealer<'m>, config: &Config, ctx: u32, r: &Regions) -> Cache<'m> {
        let store = match r.kv {
            KvType::F32 => Store::F32 { k: d.take(r.cache), v: d.take(r.cache) },
            KvType::F16 => Store::F16 { k: d.take(r.cache), v: d.take(r.cache) },
            KvType::I8 => Store::I8 {
                k: d.take(r.cache),
                v: d.take(r.cache),
                ks: d.take(r.cache_scales),
                vs: d.take(r.cache_scales),
            },
        };
        Cache {
            store,
            ctx: ctx as usize,
            head_dim: config.head_dim as usize,
            kv_heads: config.kv_heads as usize,
            scale: 1.0 / libm::sqrtf(config.head_dim as f32),
        }
    }

    /// Keeps key and value of a position; each holds all kv heads.
    pub(super) fn store(&mut self, layer: u32, position: u32, k: &[f32], v: &[f32]) {
        let n = self.head_dim;
        let heads = k.chunks_exact(n).zip(v.chunks_exact(n));
        for (h, (k, v)) in heads.enumerate() {
            let slot = (layer as usize * self.kv_heads + h) * self.ctx + position as usize;
            let at = slot * n..(slot + 1) * n;
            match &mut self.store {
                Store::F32 { k: kc, v: vc } => {
                    kc[at.clone()].copy_from_slice(k);
                    vc[at].copy_from_slice(v);
                }
                Store::F16 { k: kc, v: vc } => {
                    let to = kc[at.clone()].iter_mut().zip(&mut vc[at]);
                    for ((kc, vc), (k, v)) in to.zip(k.iter().zip(v)) {
                        *kc = f16::from_f32(*k);
                        *vc = f16::from_f32(*v);
                    }
                }
                Store::I8 { k: kc, v: vc, ks, vs } => {
                    ks[slot] = quantize(k, &mut kc[at.clone()]);
                    vs[slot] = quantize(v, &mut vc[at]);
                }
            }
        }
    }

    /// Attention of all query heads over positions 0 to `position`. `scores` has room for a value a
    /// position, `q8` for a head.
    pub(super) fn attend(
        &self,
        layer: u32,
        position: u32,
        q: &[f32],
        out: &mut [f32],
        scores: &mut [f32],
        q8: &mut [i8],
    ) {
        let (n, len) = (self.head_dim, position as usize + 1);
        let group = q.len() / n / self.kv_heads;
        let s = &mut scores[..len];
        for (h, (q, out)) in q.chunks_exact(n).zip(out.chunks_exact_mut(n)).enumerate() {
            let first = (layer as usize * self.kv_heads + h / group) * self.ctx;
            let at = first * n..(first + len) * n;
            match &self.store {
                Store::F32 { k, v } => {
                    for (s, k) in s.iter_mut().zip(k[at.clone()].chunks_exact(n)) {
                        *s = dot_f32(k, q) * self.scale;
                    }
                    let inverse = softmax(s);
                    weighted(out, s, v[at].chunks_exact(n), |v| v);
                    out.iter_mut().for_each(|o| *o *= inverse);
                }
                Store::F16 { k, v } => {
                    for (s, k) in s.iter_mut().zip(k[at.clone()].chunks_exact(n)) {
                        *s = dot_f16(k, q) * self.scale;
                    }
                    let inverse = softmax(s);
                    weighted(out, s, v[at].chunks_exact(n), f16::to_f32);
                    out.iter_mut().for_each(|o| *o *= inverse);
                }
                Store::I8 { k, v, ks, vs } => {
                    let q8 = &mut q8[..n];
                    let qs = quantize(q, q8) * self.scale;
                    let (ks, vs) = (&ks[first..first + len], &vs[first..first + len]);
                    let keys = k[at.clone()].chunks_exact(n).zip(ks);
                    for (s, (k, ks)) in s.iter_mut().zip(keys) {
                        *s = dot_i8(q8, k) as f32 * (qs * ks);
                    }
                    let inverse = softmax(s);
                    let unit = integer_weights(s, vs);
                    weighted_i8(out, s, &v[at]);
                    let scale = unit * inverse;
                    out.iter_mut().for_each(|o| *o *= scale);
                }
            }
        }
    }
}

/// Exact integer dot product of one head, which `MAX_HEAD_DIM` keeps in range. By fours, since a head's
/// width is even and mostly a multiple of 8.
#[inline(always)]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    let mut sum = 0i32;
    let (ca, cb) = (a.chunks_exact(4), b.chunks_exact(4));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (a, b) in ca.zip(cb) {
        for i in 0..4 {
            sum += i32::from(a[i]) * i32::from(b[i]);
        }
    }
    for (a, b) in ra.iter().zip(rb) {
        sum += i32::from(*a) * i32::from(*b);
    }
    sum
}

/// Replaces scores by e^(score - largest); returns 1 / their sum.
fn softmax(s: &mut [f32]) -> f32 {
    let mut max = f32::NEG_INFINITY;
    for &x in &*s {
        if x > max {
            max = x;
        }
    }
    for x in s.iter_mut() {
        *x = math::exp(*x - max);
    }
    1.0 / sum8(s)
}

/// `out = Σ s[t] · v[t]`, positions ascending.
#[inline(always)]
fn weighted<'v, T: Copy + 'v>(
    out: &mut [f32],
    s: &[f32],
    values: impl Iterator<Item = &'v [T]>,
    value: impl Fn(T) -> f32,
) {
    out.fill(0.0);
    for (s, v) in s.iter().zip(values) {
        for (o, v) in out.iter_mut().zip(v) {
            *o += s * value(*v);
        }
    }
}

/// Replaces each weight w = s[t]·vs[t] by the bits of the integer round(w · 32767 / largest w);
/// returns what an integer weight of 1 stands for.
fn integer_weights(s: &mut [f32], vs: &[f32]) -> f32 {
    let mut max = 0.0f32;
    let mut sum = 0.0f32;
    for (s, vs) in s.iter_mut().zip(vs) {
        *s *= vs;
        sum += *s;
        if *s > max {
            max = *s;
        }
    }
    if !sum.is_finite() {
        s.fill(0.0);
        return f32::NAN;
    }
    if max < 1e-30 {
        s.fill(0.0);
        return 0.0;
    }
    let up = WEIGHT / max;
    for s in s.iter_mut() {
        *s = f32::from_bits(math::round(*s * up) as u32);
    }
    max * (1.0 / WEIGHT)
}

/// `out = Σ weight[t] · v[t]` in integers, exact within blocks of 256 positions.
fn weighted_i8(out: &mut [f32], weights: &[f32], v: &[i8]) {
    let n = out.len();
    for (b, (weights, v)) in weights.chunks(BLOCK).zip(v.chunks(BLOCK * n)).enumerate() {
        let mut columns = out.chunks_exact_mut(LANES);
        let mut i = 0;
        for out in columns.by_ref() {
            let sums = integer_sums::<LANES>(weights, v, n, i);
            add_block(out, &sums, b);
            i += LANES;
        }
        for out in columns.into_remainder().chunks_exact_mut(1) {
            let sums = integer_sums::<1>(weights, v, n, i);
            add_block(out, &sums, b);
            i += 1;
        }
    }
}

/// Columns summed at once.
const LANES: usize = 4;

/// Sums of L neighbouring columns from column `i` on.
#[inline(always)]
fn integer_sums<const L: usize>(weights: &[f32], v: &[i8], n: usize, i: usize) -> [i32; L] {
    let mut sums = [0i32; L];
    for (w, v) in weights.iter().zip(v.chunks_exact(n)) {
        let w = w.to_bits() as i32;
        let v = &v[i..i + L];
        for l in 0..L {
            sums[l] += w * i32::from(v[l]);
        }
    }
    sums
}

#[inline(always)]
fn add_block(out: &mut [f32], sums: &[i32], block: usize) {
    for (o, &s) in out.iter_mut().zip(sums) {
        *o = if block == 0 { s as f32 } else { *o + s as f32 };
    }
}
