//! llama2.c's run.c as its format and code are described, in f32, from a file's bytes: parsing,
//! forward pass and greedy generation, all its own.

/// A `.bin` file's weights, as the pointers that run.c sets.
pub(super) struct RunC {
    dim: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    seq_len: usize,
    data: Vec<f32>,
    /// embedding, rms_att, wq, wk, wv, wo, rms_ffn, w1, w2, w3, rms_final, wcls
    at: [usize; 12],
    keys: Vec<f32>,
    values: Vec<f32>,
}

fn matmul(w: &[f32], x: &[f32], rows: usize) -> Vec<f32> {
    let row = |r: usize| {
        let mut sum = 0.0;
        for (i, x) in x.iter().enumerate() {
            sum += w[r * x_len(rows, w) + i] * x;
        }
        sum
    };
    (0..rows).map(row).collect()
}

fn x_len(rows: usize, w: &[f32]) -> usize {
    w.len() / rows
}

fn rmsnorm(x: &[f32], w: &[f32]) -> Vec<f32> {
    let mut ss = 0.0;
    for x in x {
        ss += x * x;
    }
    let ss = 1.0 / (ss / x.len() as f32 + 1e-5).sqrt();
    x.iter().zip(w).map(|(x, w)| w * (ss * x)).collect()
}

impl RunC {
    pub(super) fn new(file: &[u8]) -> Self {
        let int = |i: usize| i32::from_le_bytes(file[4 * i..4 * i + 4].try_into().unwrap());
        let [dim, hidden, layers, heads, kv_heads] = [0, 1, 2, 3, 4].map(|i| int(i) as usize);
        let (shared, vocab) = (int(5) > 0, int(5).unsigned_abs() as usize);
        let seq_len = int(6) as usize;
        let head_size = dim / heads;
        let data: Vec<f32> =
            file[28..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let kv_dim = kv_heads * head_size;
        let sizes = [
            vocab * dim,
            layers * dim,
            layers * dim * dim,
            layers * dim * kv_dim,
            layers * dim * kv_dim,
            layers * dim * dim,
            layers * dim,
            layers * dim * hidden,
            layers * hidden * dim,
            layers * dim * hidden,
            dim,
        ];
        let mut at = [0; 12];
        let mut next = 0;
        for (at, size) in at.iter_mut().zip(sizes) {
            *at = next;
            next += size;
        }
        at[11] = if shared { 0 } else { next + seq_len * head_size };
        let cache = vec![0.0; layers * seq_len * kv_dim];
        Self { dim, hidden, layers, heads, kv_heads, seq_len, data, at, keys: cache.clone(), values: cache }
    }

    fn part(&self, which: usize, layer: usize, size: usize) -> &[f32] {
        &self.data[self.at[which] + layer * size..][..size]
    }

    pub(super) fn forward(&mut self, token: u32, pos: usize, vocab: usize) -> Vec<f32> {
        let (dim, hidden) = (self.dim, self.hidden);
        let head_size = dim / self.heads;
        let kv_dim = self.kv_heads * head_size;
        let mut x = self.part(0, token as usize, dim).to_vec();
        for l in 0..self.layers {
            let xb = rmsnorm(&x, self.part(1, l, dim));
            let mut q = matmul(self.part(2, l, dim * dim), &xb, dim);
            let mut k = matmul(self.part(3, l, dim * kv_dim), &xb, kv_dim);
            let v = matmul(self.part(4, l, dim * kv_dim), &xb, kv_dim);
            for i in (0..dim).step_by(2) {
                let freq = 1.0 / 10_000f32.powf((i % head_size) as f32 / head_size as f32);
                let (sin, cos) = (pos as f32 * freq).sin_cos();
                for (vec, len) in [(&mut q, dim), (&mut k, kv_dim)] {
                    if i < len {
                        let (a, b) = (vec[i], vec[i + 1]);
                        vec[i] = a * cos - b * sin;
                        vec[i + 1] = a * sin + b * cos;
                    }
                }
            }
            let row = l * self.seq_len * kv_dim;
            self.keys[row + pos * kv_dim..][..kv_dim].copy_from_slice(&k);
            self.values[row + pos * kv_dim..][..kv_dim].copy_from_slice(&v);
            let mut xb = vec![0.0; dim];
            for h in 0..self.heads {
                let at = row + h / (self.heads / self.kv_heads) * head_size;
                let q = &q[h * head_size..][..head_size];
                let mut att: Vec<f32> = (0..=pos)
                    .map(|t| {
                        let k = &self.keys[at + t * kv_dim..][..head_size];
                        let dot: f32 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                        dot / (head_size as f32).sqrt()
                    })
                    .collect();
                let max = att.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                att.iter_mut().for_each(|a| *a = (*a - max).exp());
                let sum: f32 = att.iter().sum();
                for (t, a) in att.iter().enumerate() {
                    let v = &self.values[at + t * kv_dim..][..head_size];
                    let out = &mut xb[h * head_size..][..head_size];
                    out.iter_mut().zip(v).for_each(|(o, v)| *o += a / sum * v);
                }
            }
            let xb = matmul(self.part(5, l, dim * dim), &xb, dim);
            x.iter_mut().zip(xb).for_each(|(x, b)| *x += b);
            let xb = rmsnorm(&x, self.part(6, l, dim));
            let w1 = matmul(self.part(7, l, dim * hidden), &xb, hidden);
            let w3 = matmul(self.part(9, l, dim * hidden), &xb, hidden);
            let hb: Vec<f32> = w1.iter().zip(w3).map(|(g, u)| g * (1.0 / (1.0 + (-g).exp())) * u).collect();
            let xb = matmul(self.part(8, l, dim * hidden), &hb, dim);
            x.iter_mut().zip(xb).for_each(|(x, b)| *x += b);
        }
        let x = rmsnorm(&x, self.part(10, 0, dim));
        matmul(self.part(11, 0, vocab * dim), &x, vocab)
    }

    /// Greedy tokens from `prompt` on, until token 1 or `steps` positions.
    pub(super) fn generate(&mut self, prompt: &[u32], steps: usize, vocab: usize) -> Vec<u32> {
        let mut token = prompt[0];
        let mut out = Vec::new();
        for pos in 0..steps {
            let logits = self.forward(token, pos, vocab);
            token = match prompt.get(pos + 1) {
                Some(&t) => t,
                None => {
                    let best = (0..vocab).fold(0, |b, i| if logits[i] > logits[b] { i } else { b });
                    if best == 1 {
                        break;
                    }
                    out.push(best as u32);
                    best as u32
                }
            };
        }
        out
    }
}
