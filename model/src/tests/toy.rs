//! Small random models, written as the file formats describe them.

use edgeprof_engine::image::{Role, layout};
use edgeprof_engine::{Config, DType, f16};

use crate::quant;

/// A model in f32, and a vocabulary of its own.
#[derive(Clone)]
pub(super) struct Toy {
    pub(super) config: Config,
    /// In the order of a board image.
    pub(super) tensors: Vec<(Role, u32, Vec<f32>)>,
    /// Piece, score, GGUF type.
    pub(super) vocab: Vec<(String, f32, i32)>,
}

/// splitmix64
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// In [-1, 1).
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// The dimensions of the smallest model that has everything: groups of queries, several layers.
pub(super) fn config(vocab: u32) -> Config {
    Config {
        dim: 32,
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        vocab,
        train_ctx: 64,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tied: true,
    }
}

pub(super) fn vocabulary() -> Vec<(String, f32, i32)> {
    let mut v = vec![("<unk>".to_owned(), 0.0, 2), ("<s>".to_owned(), 0.0, 3), ("</s>".to_owned(), 0.0, 3)];
    v.extend((0..=255).map(|b| (format!("<0x{b:02X}>"), 0.0, 6)));
    let merges = ["▁t", "he", "▁the", "in", "an", "and", "▁and", "▁a"];
    v.extend(merges.iter().enumerate().map(|(i, m)| ((*m).to_owned(), -(i as f32), 1)));
    let chars = ["▁", "e", "t", "a", "h", "n", "i", "d", "s", "é"];
    v.extend(chars.iter().enumerate().map(|(i, m)| ((*m).to_owned(), -100.0 - i as f32, 1)));
    v
}

impl Toy {
    pub(super) fn new(mut config: Config, seed: u64) -> Self {
        let vocab = vocabulary();
        config.vocab = vocab.len() as u32;
        let mut rng = Rng(seed);
        let tensors = layout(&config, |_, _| DType::F32)
            .map(|t| {
                let n = t.rows as usize * t.cols as usize;
                let norm = t.role.is_norm();
                let scale = 1.5 / (t.cols as f32).sqrt();
                let w =
                    (0..n).map(|_| if norm { 1.0 + 0.2 * rng.unit() } else { scale * rng.unit() }).collect();
                (t.role, t.layer, w)
            })
            .collect();
        Self { config, tensors, vocab }
    }

    /// GGUF v3 with matrices of this type.
    pub(super) fn gguf(&self, dtype: DType) -> Vec<u8> {
        self.mixed(|_, _| dtype)
    }

    /// GGUF v3 with each matrix of its own type.
    pub(super) fn mixed(&self, dtype_of: impl Fn(Role, u32) -> DType) -> Vec<u8> {
        self.mixed_writer(dtype_of).finish()
    }

    /// With matrices of this type, still to be changed.
    pub(super) fn writer(&self, dtype: DType) -> GgufWriter {
        self.mixed_writer(|_, _| dtype)
    }

    fn mixed_writer(&self, dtype_of: impl Fn(Role, u32) -> DType) -> GgufWriter {
        let mut g = GgufWriter::llama(self);
        for (role, layer, w) in &self.tensors {
            let (dims, name) = self.dims(*role, *layer);
            let dtype = if role.is_norm() { DType::F32 } else { dtype_of(*role, *layer) };
            g.tensor(&name, &dims, ggml_type(dtype), &store(dtype, w));
        }
        g
    }

    pub(super) fn dims(&self, role: Role, layer: u32) -> (Vec<u64>, String) {
        let c = &self.config;
        let (out, name) = match role {
            Role::TokenEmbd => (c.vocab, "token_embd.weight".into()),
            Role::Output => (c.vocab, "output.weight".into()),
            Role::OutputNorm => return (vec![c.dim.into()], "output_norm.weight".into()),
            Role::AttnNorm => {
                return (vec![c.dim.into()], format!("blk.{layer}.attn_norm.weight"));
            }
            Role::FfnNorm => return (vec![c.dim.into()], format!("blk.{layer}.ffn_norm.weight")),
            Role::AttnQ => (c.q_dim(), format!("blk.{layer}.attn_q.weight")),
            Role::AttnK => (c.kv_dim(), format!("blk.{layer}.attn_k.weight")),
            Role::AttnV => (c.kv_dim(), format!("blk.{layer}.attn_v.weight")),
            Role::AttnOutput => {
                let name = format!("blk.{layer}.attn_output.weight");
                return (vec![c.q_dim().into(), c.dim.into()], name);
            }
            Role::FfnGate => (c.hidden, format!("blk.{layer}.ffn_gate.weight")),
            Role::FfnUp => (c.hidden, format!("blk.{layer}.ffn_up.weight")),
            Role::FfnDown => {
                let name = format!("blk.{layer}.ffn_down.weight");
                return (vec![c.hidden.into(), c.dim.into()], name);
            }
        };
        (vec![c.dim.into(), out.into()], name)
    }

    /// llama2.c's legacy layout.
    pub(super) fn llama2c(&self) -> Vec<u8> {
        llama2c(&self.config, |role, layer| {
            let t = self.tensors.iter().find(|t| t.0 == role && (layer == t.1 || t.1 == u32::MAX));
            t.unwrap().2.clone()
        })
    }

    pub(super) fn tokenizer_bin(&self) -> Vec<u8> {
        tokenizer_bin(self.vocab.iter().map(|(p, s, _)| (p.replace('▁', " ").into_bytes(), *s)))
    }
}

/// llama2.c's legacy layout; `weights` gives each tensor as f32.
pub(super) fn llama2c(c: &Config, weights: impl Fn(Role, u32) -> Vec<f32>) -> Vec<u8> {
    let mut out = Vec::new();
    let vocab = if c.tied { c.vocab as i32 } else { -(c.vocab as i32) };
    for n in [c.dim, c.hidden, c.layers, c.heads, c.kv_heads] {
        out.extend((n as i32).to_le_bytes());
    }
    out.extend(vocab.to_le_bytes());
    out.extend((c.train_ctx as i32).to_le_bytes());
    let mut put = |w: Vec<f32>| w.iter().for_each(|x| out.extend(x.to_le_bytes()));
    put(weights(Role::TokenEmbd, 0));
    for role in [
        Role::AttnNorm,
        Role::AttnQ,
        Role::AttnK,
        Role::AttnV,
        Role::AttnOutput,
        Role::FfnNorm,
        Role::FfnGate,
        Role::FfnDown,
        Role::FfnUp,
    ] {
        (0..c.layers).for_each(|l| put(weights(role, l)));
    }
    put(weights(Role::OutputNorm, 0));
    // What a reader must skip, so not the values that belong there.
    put(vec![9.0; (c.train_ctx * c.head_dim) as usize]);
    if !c.tied {
        put(weights(Role::Output, 0));
    }
    out
}

pub(super) fn tokenizer_bin(tokens: impl Iterator<Item = (Vec<u8>, f32)>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut longest = 0;
    for (piece, score) in tokens {
        longest = longest.max(piece.len() as i32);
        out.extend(score.to_le_bytes());
        out.extend((piece.len() as i32).to_le_bytes());
        out.extend(piece);
    }
    [longest.to_le_bytes().to_vec(), out].concat()
}

/// ggml's number of a type.
pub(super) fn ggml_type(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q8_0 => 8,
        DType::BF16 => 30,
    }
}

/// Weights as a GGUF file has them.
pub(super) fn store(dtype: DType, w: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F32 => w.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => w.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        DType::Q8_0 => w
            .chunks(32)
            .flat_map(|g| {
                let g = quant::q8_0(g).unwrap();
                g.scale.to_le_bytes().into_iter().chain(g.q.map(|q| q as u8))
            })
            .collect(),
        DType::Q4_0 => w
            .chunks(32)
            .flat_map(|g| {
                let g = quant::q4_0(g).unwrap();
                g.scale.to_le_bytes().into_iter().chain(nibbles(g.q.map(|q| (q + 8) as u8)))
            })
            .collect(),
        DType::BF16 => w.iter().flat_map(|x| (x.to_bits() >> 16).to_le_bytes()[..2].to_vec()).collect(),
        DType::Q4_1 => w.chunks(32).flat_map(q4_1).collect(),
    }
}

/// Weight i in the low half of byte i, weight i + 16 in the high one.
fn nibbles(q: [u8; 32]) -> impl Iterator<Item = u8> {
    (0..16).map(move |i| q[i] | q[i + 16] << 4)
}

/// A block as ggml makes it (`quantize_row_q4_1_ref` in ggml-quants.c).
fn q4_1(w: &[f32]) -> Vec<u8> {
    let low = w.iter().copied().fold(f32::MAX, f32::min);
    let d = (w.iter().copied().fold(f32::MIN, f32::max) - low) / 15.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let q = std::array::from_fn(|i| w.get(i).map_or(0, |w| (((w - low) * inverse + 0.5) as u8).min(15)));
    let halves = [f16::from_f32(d), f16::from_f32(low)];
    halves.into_iter().flat_map(u16::to_le_bytes).chain(nibbles(q)).collect()
}

/// Writes GGUF files, sound or not.
#[derive(Clone)]
pub(super) struct GgufWriter {
    pub(super) version: u32,
    /// Key, type and encoded value.
    pub(super) meta: Vec<(String, Vec<u8>)>,
    /// Encoded table entries, without offset.
    table: Vec<(Vec<u8>, u64)>,
    data: Vec<u8>,
}

pub(super) fn string(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
}

impl GgufWriter {
    /// The metadata of a model.
    pub(super) fn llama(toy: &Toy) -> Self {
        let c = &toy.config;
        let mut g = Self { version: 3, meta: Vec::new(), table: Vec::new(), data: Vec::new() };
        g.str("general.architecture", "llama");
        g.str("general.name", "toy");
        g.str("general.license", "CC0-1.0");
        g.u32("llama.context_length", c.train_ctx);
        g.u32("llama.embedding_length", c.dim);
        g.u32("llama.block_count", c.layers);
        g.u32("llama.feed_forward_length", c.hidden);
        g.u32("llama.attention.head_count", c.heads);
        g.u32("llama.attention.head_count_kv", c.kv_heads);
        g.u32("llama.rope.dimension_count", c.head_dim);
        g.f32("llama.attention.layer_norm_rms_epsilon", c.norm_eps);
        g.f32("llama.rope.freq_base", c.rope_theta);
        g.str("tokenizer.ggml.model", "llama");
        let n = toy.vocab.len() as u64;
        g.array("tokenizer.ggml.tokens", 8, n, toy.vocab.iter().flat_map(|t| string(&t.0)));
        let scores = toy.vocab.iter().flat_map(|t| t.1.to_le_bytes());
        g.array("tokenizer.ggml.scores", 6, n, scores);
        let types = toy.vocab.iter().flat_map(|t| t.2.to_le_bytes());
        g.array("tokenizer.ggml.token_type", 5, n, types);
        g.u32("tokenizer.ggml.bos_token_id", 1);
        g.u32("tokenizer.ggml.eos_token_id", 2);
        g
    }

    pub(super) fn raw(&mut self, key: &str, ty: u32, value: &[u8]) {
        let value = [&ty.to_le_bytes()[..], value].concat();
        match self.meta.iter_mut().find(|(k, _)| k == key) {
            Some((_, v)) => *v = value,
            None => self.meta.push((key.to_owned(), value)),
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.meta.retain(|(k, _)| k != key);
    }

    pub(super) fn u32(&mut self, key: &str, n: u32) {
        self.raw(key, 4, &n.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, x: f32) {
        self.raw(key, 6, &x.to_le_bytes());
    }

    pub(super) fn str(&mut self, key: &str, s: &str) {
        self.raw(key, 8, &string(s));
    }

    pub(super) fn array(&mut self, key: &str, ty: u32, n: u64, elements: impl Iterator<Item = u8>) {
        let mut v = ty.to_le_bytes().to_vec();
        v.extend(n.to_le_bytes());
        v.extend(elements);
        self.raw(key, 9, &v);
    }

    pub(super) fn tensor(&mut self, name: &str, dims: &[u64], ty: u32, bytes: &[u8]) {
        let mut entry = string(name);
        entry.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| entry.extend(d.to_le_bytes()));
        entry.extend(ty.to_le_bytes());
        self.table.push((entry, self.data.len() as u64));
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
    }

    /// Where in the finished file each tensor's offset stands, and how many there are.
    pub(super) fn offsets(&self) -> (Vec<usize>, usize) {
        let meta: usize = self.meta.iter().map(|(key, value)| string(key).len() + value.len()).sum();
        let mut at = 24 + meta;
        let places = self.table.iter().map(|(entry, _)| {
            at += entry.len() + 8;
            at - 8
        });
        (places.collect(), self.table.len())
    }

    pub(super) fn finish(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.table.len() as u64).to_le_bytes());
        out.extend((self.meta.len() as u64).to_le_bytes());
        for (key, value) in &self.meta {
            out.extend(string(key));
            out.extend(value);
        }
        for (entry, start) in &self.table {
            out.extend(entry);
            out.extend(start.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        out
    }
}
