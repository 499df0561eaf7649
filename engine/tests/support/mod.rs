//! A random model, its image, and a forward pass written independently in f64.
#![allow(dead_code, unreachable_pub)]

use edgeprof_engine::arena::Layout;
use edgeprof_engine::image::{self, Image, NO_LAYER, Role};
use edgeprof_engine::session::Session;
use edgeprof_engine::{Config, DType, KvType, f16};
use std::collections::BTreeMap;

/// Shapes with short last groups, odd scale counts, wide heads, and one of each classifier.
pub fn small() -> Vec<Config> {
    let base = Config {
        dim: 64,
        hidden: 172,
        layers: 3,
        heads: 8,
        kv_heads: 4,
        head_dim: 8,
        vocab: 61,
        train_ctx: 32,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tied: true,
    };
    vec![
        base,
        Config { dim: 48, hidden: 100, heads: 3, kv_heads: 1, head_dim: 20, tied: false, ..base },
        Config { dim: 42, hidden: 9, heads: 2, kv_heads: 2, head_dim: 6, layers: 1, ..base },
    ]
}

/// xorshift64*.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

pub struct Model {
    pub config: Config,
    pub tensors: BTreeMap<(u8, u32), Vec<f32>>,
}

impl Model {
    pub fn random(config: &Config, seed: u64) -> Model {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut tensors = BTreeMap::new();
        for t in image::layout(config, |_, _| DType::F32) {
            let n = t.rows as usize * t.cols as usize;
            let scale = 1.7 / libm::sqrtf(t.cols as f32);
            let values = (0..n).map(|_| match t.role {
                r if r.is_norm() => 1.0 + 0.3 * rng.unit(),
                Role::TokenEmbd => rng.unit(),
                _ => rng.unit() * scale,
            });
            tensors.insert((t.role as u8, t.layer), values.collect());
        }
        Model { config: *config, tensors }
    }

    pub fn get(&self, role: Role, layer: u32) -> &[f32] {
        &self.tensors[&(role as u8, layer)]
    }

    pub fn image(&self, dtype_of: impl Fn(Role, u32) -> DType + Copy) -> Aligned {
        let len = image::total_len(&self.config, dtype_of) as usize;
        let mut out = Aligned::new(len);
        let buf = out.bytes_mut();
        image::write_header(buf, &self.config, dtype_of).unwrap();
        for t in image::layout(&self.config, dtype_of) {
            let (cols, values) = (t.cols as usize, self.get(t.role, t.layer));
            for (r, row) in values.chunks_exact(cols).enumerate() {
                let at = t.offset as usize + r * t.row_stride() as usize;
                let scale_at = t.scale_offset as usize + r * t.scale_stride() as usize;
                match t.dtype {
                    DType::F32 => row.iter().enumerate().for_each(|(i, v)| {
                        buf[at + 4 * i..at + 4 * i + 4].copy_from_slice(&v.to_le_bytes());
                    }),
                    DType::F16 => row.iter().enumerate().for_each(|(i, v)| {
                        let h = f16::from_f32(*v).to_le_bytes();
                        buf[at + 2 * i..at + 2 * i + 2].copy_from_slice(&h);
                    }),
                    DType::BF16 => row.iter().enumerate().for_each(|(i, v)| {
                        buf[at + 2 * i..at + 2 * i + 2].copy_from_slice(&v.to_le_bytes()[2..]);
                    }),
                    DType::Q4_1 => {
                        for (g, values) in row.chunks(32).enumerate() {
                            let low = values.iter().fold(f32::MAX, |a, v| if *v < a { *v } else { a });
                            let high = values.iter().fold(f32::MIN, |a, v| if *v > a { *v } else { a });
                            let halves = [f16::from_f32((high - low) / 15.0), f16::from_f32(low)];
                            for (i, h) in halves.iter().enumerate() {
                                let at = scale_at + 4 * g + 2 * i;
                                buf[at..at + 2].copy_from_slice(&h.to_le_bytes());
                            }
                            let [d, m] = halves.map(f16::to_f32);
                            for (i, v) in values.iter().enumerate() {
                                let q = if d > 0.0 { libm::roundf((v - m) / d) as i32 } else { 0 };
                                let c = 32 * g + i;
                                buf[at + c / 2] |= (q.clamp(0, 15) as u8) << (4 * (c % 2));
                            }
                        }
                    }
                    DType::Q8_0 | DType::Q4_0 => {
                        for (g, values) in row.chunks(32).enumerate() {
                            let top = if t.dtype == DType::Q8_0 { 127.0 } else { 7.0 };
                            let amax =
                                values.iter().fold(0.0, |a: f32, v| if v.abs() > a { v.abs() } else { a });
                            let h = f16::from_f32(amax / top);
                            buf[scale_at + 2 * g..scale_at + 2 * g + 2].copy_from_slice(&h.to_le_bytes());
                            let d = f16::to_f32(h);
                            for (i, v) in values.iter().enumerate() {
                                let q = if d > 0.0 { libm::roundf(v / d) as i32 } else { 0 };
                                let c = 32 * g + i;
                                if t.dtype == DType::Q8_0 {
                                    let bias = if c % 2 == 0 { 128 } else { 0 };
                                    buf[at + c] = (q.clamp(-128, 127) + bias) as u8;
                                } else {
                                    buf[at + c / 2] |= ((q.clamp(-8, 7) + 8) as u8) << (4 * (c % 2));
                                }
                            }
                        }
                    }
                }
            }
        }
        image::seal(buf).unwrap();
        out
    }
}

/// Bytes at a 16-byte aligned address.
#[derive(Clone)]
pub struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize) -> Aligned {
        Aligned { words: vec![0; len.div_ceil(16)], len }
    }

    pub fn bytes(&self) -> &[u8] {
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }
}

/// An arena of exactly the bytes the layout says.
pub fn arena(config: &Config, ctx: u32, kv: KvType) -> Vec<u64> {
    vec![0; (Layout::new(config, ctx, kv).unwrap().total_bytes / 8) as usize]
}

/// Logits after each token.
pub fn run(image: &Aligned, tokens: &[u32], ctx: u32, kv: KvType) -> Vec<Vec<f32>> {
    let image = Image::parse(image.bytes()).unwrap();
    image.verify_checksum().unwrap();
    let mut arena = arena(image.config(), ctx, kv);
    let mut session = Session::new(&image, &mut arena, ctx, kv).unwrap();
    let step = |&t: &u32| {
        session.forward(t, true).unwrap();
        session.logits().to_vec()
    };
    tokens.iter().map(step).collect()
}

fn product(w: &[f32], x: &[f64]) -> Vec<f64> {
    w.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()).collect()
}

fn norm(x: &[f64], w: &[f32], eps: f32) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let s = 1.0 / (mean + f64::from(eps)).sqrt();
    x.iter().zip(w).map(|(x, w)| x * s * f64::from(*w)).collect()
}

fn rope(v: &mut [f64], head_dim: usize, theta: f32, pos: usize) {
    for head in v.chunks_exact_mut(head_dim) {
        for i in 0..head_dim / 2 {
            let f = f64::from(theta).powf(-((2 * i) as f64) / head_dim as f64);
            let (s, c) = (pos as f64 * f).sin_cos();
            let (a, b) = (head[2 * i], head[2 * i + 1]);
            head[2 * i] = a * c - b * s;
            head[2 * i + 1] = a * s + b * c;
        }
    }
}

/// Logits after each token, in f64, with no code of the engine's.
pub fn reference(m: &Model, tokens: &[u32]) -> Vec<Vec<f64>> {
    let c = &m.config;
    let (dim, hd) = (c.dim as usize, c.head_dim as usize);
    let layers = c.layers as usize;
    let (mut keys, mut values) = (vec![vec![]; layers], vec![vec![]; layers]);
    let mut all = vec![];
    for (pos, &token) in tokens.iter().enumerate() {
        let at = token as usize * dim;
        let mut x: Vec<f64> =
            m.get(Role::TokenEmbd, NO_LAYER)[at..at + dim].iter().map(|v| f64::from(*v)).collect();
        for l in 0..c.layers {
            let n = norm(&x, m.get(Role::AttnNorm, l), c.norm_eps);
            let mut q = product(m.get(Role::AttnQ, l), &n);
            let mut k = product(m.get(Role::AttnK, l), &n);
            rope(&mut q, hd, c.rope_theta, pos);
            rope(&mut k, hd, c.rope_theta, pos);
            keys[l as usize].push(k);
            values[l as usize].push(product(m.get(Role::AttnV, l), &n));
            let mut mixed = vec![0.0; q.len()];
            for h in 0..c.heads as usize {
                let kv = h / (c.heads / c.kv_heads) as usize * hd;
                let q = &q[h * hd..(h + 1) * hd];
                let e: Vec<f64> = keys[l as usize]
                    .iter()
                    .map(|k: &Vec<f64>| {
                        let d: f64 = q.iter().zip(&k[kv..kv + hd]).map(|(a, b)| a * b).sum();
                        (d / (hd as f64).sqrt()).exp()
                    })
                    .collect();
                let sum: f64 = e.iter().sum();
                for (e, v) in e.iter().zip(&values[l as usize]) {
                    for i in 0..hd {
                        mixed[h * hd + i] += e / sum * v[kv + i];
                    }
                }
            }
            for (x, d) in x.iter_mut().zip(product(m.get(Role::AttnOutput, l), &mixed)) {
                *x += d;
            }
            let n = norm(&x, m.get(Role::FfnNorm, l), c.norm_eps);
            let gate = product(m.get(Role::FfnGate, l), &n);
            let up = product(m.get(Role::FfnUp, l), &n);
            let h: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            for (x, d) in x.iter_mut().zip(product(m.get(Role::FfnDown, l), &h)) {
                *x += d;
            }
        }
        let n = norm(&x, m.get(Role::OutputNorm, NO_LAYER), c.norm_eps);
        let role = if c.tied { Role::TokenEmbd } else { Role::Output };
        all.push(product(m.get(role, NO_LAYER), &n));
    }
    all
}
