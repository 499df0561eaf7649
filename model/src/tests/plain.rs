//! A llama forward pass as the papers write it: loops over f32 weights in f64, nothing shared with
//! the engine. Slow and exact; what quantization costs is measured against it.

use std::collections::HashMap;

use edgeprof_engine::Config;
use edgeprof_engine::image::Role;

use crate::{Model, rows};

/// A model's weights as f32.
pub(super) struct Plain {
    config: Config,
    weights: HashMap<(Role, u32), Vec<f32>>,
    keys: Vec<Vec<Vec<f64>>>,
    values: Vec<Vec<Vec<f64>>>,
}

/// `rows` of `x.len()` weights, times `x`. Sixteen sums, which no optimizer has to reorder.
fn matvec(w: &[f32], x: &[f64]) -> Vec<f64> {
    let dot = |row: &[f32]| {
        let mut sums = [0.0f64; 16];
        for (w, x) in row.chunks(16).zip(x.chunks(16)) {
            for ((s, w), x) in sums.iter_mut().zip(w).zip(x) {
                *s += f64::from(*w) * x;
            }
        }
        sums.iter().sum()
    };
    w.chunks(x.len()).map(dot).collect()
}

fn rms_norm(x: &[f64], w: &[f32], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + eps).sqrt();
    x.iter().zip(w).map(|(x, w)| x * scale * f64::from(*w)).collect()
}

impl Plain {
    pub(super) fn new(model: &Model) -> Self {
        let mut weights = HashMap::new();
        for t in model.header().tensors() {
            let bytes = t.slice(model.bytes()).unwrap();
            let mut w = vec![0.0; t.elements() as usize];
            let stride = bytes.len() / t.rows as usize;
            for (row, out) in bytes.chunks(stride).zip(w.chunks_mut(t.cols as usize)) {
                rows::to_f32(t.dtype, row, out);
            }
            let layer = if t.layer == u32::MAX { 0 } else { t.layer };
            weights.insert((t.role, layer), w);
        }
        let config = *model.config();
        let empty = vec![Vec::new(); config.layers as usize];
        Self { config, weights, keys: empty.clone(), values: empty }
    }

    pub(super) fn reset(&mut self) {
        self.keys.iter_mut().chain(&mut self.values).for_each(Vec::clear);
    }

    fn w(&self, role: Role, layer: u32) -> &[f32] {
        &self.weights[&(role, layer)]
    }

    fn rotate(&self, v: &mut [f64], position: usize) {
        let head_dim = self.config.head_dim as usize;
        for head in v.chunks_mut(head_dim) {
            for i in (0..head_dim).step_by(2) {
                let exponent = -(i as f64) / head_dim as f64;
                let angle = position as f64 * f64::from(self.config.rope_theta).powf(exponent);
                let (sin, cos) = angle.sin_cos();
                let (a, b) = (head[i], head[i + 1]);
                head[i] = a * cos - b * sin;
                head[i + 1] = a * sin + b * cos;
            }
        }
    }

    /// The logits after one more token.
    pub(super) fn forward(&mut self, token: u32) -> Vec<f64> {
        let c = self.config;
        let dim = c.dim as usize;
        let eps = f64::from(c.norm_eps);
        let embedding = self.w(Role::TokenEmbd, 0);
        let mut x: Vec<f64> = embedding[token as usize * dim..][..dim].iter().map(|&w| w.into()).collect();
        for l in 0..c.layers {
            let h = rms_norm(&x, self.w(Role::AttnNorm, l), eps);
            let mut q = matvec(self.w(Role::AttnQ, l), &h);
            let mut k = matvec(self.w(Role::AttnK, l), &h);
            let v = matvec(self.w(Role::AttnV, l), &h);
            let position = self.keys[l as usize].len();
            self.rotate(&mut q, position);
            self.rotate(&mut k, position);
            self.keys[l as usize].push(k);
            self.values[l as usize].push(v);
            let out = self.attend(l as usize, &q);
            let out = matvec(self.w(Role::AttnOutput, l), &out);
            x.iter_mut().zip(out).for_each(|(x, o)| *x += o);

            let h = rms_norm(&x, self.w(Role::FfnNorm, l), eps);
            let gate = matvec(self.w(Role::FfnGate, l), &h);
            let up = matvec(self.w(Role::FfnUp, l), &h);
            let mid: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let out = matvec(self.w(Role::FfnDown, l), &mid);
            x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
        }
        let h = rms_norm(&x, self.w(Role::OutputNorm, 0), eps);
        let classifier = if c.tied { Role::TokenEmbd } else { Role::Output };
        matvec(self.w(classifier, 0), &h)
    }

    fn attend(&self, layer: usize, q: &[f64]) -> Vec<f64> {
        let head_dim = self.config.head_dim as usize;
        let shared = (self.config.heads / self.config.kv_heads) as usize;
        let mut out = vec![0.0; q.len()];
        for (head, (q, out)) in q.chunks(head_dim).zip(out.chunks_mut(head_dim)).enumerate() {
            let at = head / shared * head_dim;
            let scores: Vec<f64> = self.keys[layer]
                .iter()
                .map(|k| {
                    let dot: f64 = q.iter().zip(&k[at..]).map(|(q, k)| q * k).sum();
                    dot / (head_dim as f64).sqrt()
                })
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for (w, v) in weights.iter().zip(&self.values[layer]) {
                out.iter_mut().zip(&v[at..]).for_each(|(o, v)| *o += w / sum * v);
            }
        }
        out
    }
}

/// Negative log-likelihood of `next` in nats, and the index of the largest logit.
pub(super) fn score(logits: &[f64], next: u32) -> (f64, usize) {
    let best = logits.iter().enumerate().fold(0, |b, (i, l)| if *l > logits[b] { i } else { b });
    let max = logits[best];
    let sum: f64 = logits.iter().map(|l| (l - max).exp()).sum();
    (max + sum.ln() - logits[next as usize], best)
}
