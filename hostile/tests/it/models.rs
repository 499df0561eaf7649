//! The smallest model files that are sound, written as their formats say.

/// Dimensions of all of them: embedding and feed-forward alike, one layer, one head.
const LAYERS: u32 = 1;

/// Pieces, each with its type in GGUF.
fn vocabulary() -> Vec<(String, i32)> {
    let mut all = vec![("<unk>".to_owned(), 2), ("<s>".to_owned(), 3), ("</s>".to_owned(), 3)];
    all.extend(["▁", "t", "h", "e", "▁t", "he", "▁the", "é"].map(|piece| (piece.to_owned(), 1)));
    all.extend((b'a'..b'd').map(|byte| (format!("<0x{byte:02X}>"), 6)));
    all
}

fn weights(n: usize) -> impl Iterator<Item = f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5)
}

/// ggml's types, as far as models are read with them.
#[derive(Clone, Copy)]
pub(crate) enum Type {
    F32,
    F16,
    Q8,
}

fn stored(ty: Type, n: usize) -> Vec<u8> {
    match ty {
        Type::F32 => weights(n).flat_map(f32::to_le_bytes).collect(),
        // 0.5, and as a scale 2^-7.
        Type::F16 => [0x00, 0x38].repeat(n),
        Type::Q8 => (0..n / 32).flat_map(|i| [vec![0x00, 0x20], vec![i as u8; 32]].concat()).collect(),
    }
}

/// A GGUF file to be put together.
pub(crate) struct Gguf {
    pub(crate) version: u32,
    pub(crate) meta: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A key with a value of this type.
pub(crate) fn entry(key: &str, ty: u32, value: &[u8]) -> Vec<u8> {
    [&string(key)[..], &ty.to_le_bytes(), value].concat()
}

pub(crate) fn list(ty: u32, count: u64, items: &[u8]) -> Vec<u8> {
    [&ty.to_le_bytes()[..], &count.to_le_bytes(), items].concat()
}

impl Gguf {
    /// A sound model with embeddings of `dim`.
    pub(crate) fn sound(version: u32, ty: Type, dim: u32) -> Self {
        let vocabulary = vocabulary();
        let (n, wide) = (vocabulary.len() as u64, u64::from(dim));
        let text = |key, text| entry(key, 8, &string(text));
        let int = |key, value: u32| entry(key, 4, &value.to_le_bytes());
        let float = |key, value: f32| entry(key, 6, &value.to_le_bytes());
        let pieces: Vec<u8> = vocabulary.iter().flat_map(|(piece, _)| string(piece)).collect();
        let scores: Vec<u8> = (0..n as u32).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
        let types: Vec<u8> = vocabulary.iter().flat_map(|(_, ty)| ty.to_le_bytes()).collect();
        let meta = vec![
            text("general.architecture", "llama"),
            text("general.name", "seed"),
            int("llama.context_length", 16),
            int("llama.embedding_length", dim),
            int("llama.block_count", LAYERS),
            int("llama.feed_forward_length", dim),
            int("llama.attention.head_count", 1),
            float("llama.attention.layer_norm_rms_epsilon", 1e-5),
            text("tokenizer.ggml.model", "llama"),
            entry("tokenizer.ggml.tokens", 9, &list(8, n, &pieces)),
            entry("tokenizer.ggml.scores", 9, &list(6, n, &scores)),
            entry("tokenizer.ggml.token_type", 9, &list(5, n, &types)),
            int("tokenizer.ggml.eos_token_id", 2),
        ];
        let number = match ty {
            Type::F32 => 0,
            Type::F16 => 1,
            Type::Q8 => 8,
        };
        let square = || (vec![wide, wide], number, stored(ty, (dim * dim) as usize));
        let norm = || (vec![wide], 0, stored(Type::F32, dim as usize));
        let mut tensors =
            vec![("token_embd".to_owned(), vec![wide, n], number, stored(ty, (n * wide) as usize))];
        for part in ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"] {
            let (dims, ty, bytes) = if part == "attn_norm" { norm() } else { square() };
            tensors.push((format!("blk.0.{part}"), dims, ty, bytes));
        }
        for part in ["ffn_norm", "ffn_gate", "ffn_up", "ffn_down"] {
            let (dims, ty, bytes) = if part == "ffn_norm" { norm() } else { square() };
            tensors.push((format!("blk.0.{part}"), dims, ty, bytes));
        }
        let (dims, ty, bytes) = norm();
        tensors.push(("output_norm".into(), dims, ty, bytes));
        for (name, ..) in &mut tensors {
            name.push_str(".weight");
        }
        Self { version, meta, tensors }
    }

    /// The same model with these pieces, each with its type, as a byte-level BPE with merges.
    pub(crate) fn byte_level(mut self, pieces: &[(String, i32)], merges: &[&str]) -> Self {
        let key = |entry: &[u8], key: &str| entry.starts_with(&string(key));
        self.meta.retain(|entry| {
            !["model", "tokens", "scores", "token_type"]
                .iter()
                .any(|name| key(entry, &format!("tokenizer.ggml.{name}")))
        });
        let n = pieces.len() as u64;
        let tokens: Vec<u8> = pieces.iter().flat_map(|(piece, _)| string(piece)).collect();
        let types: Vec<u8> = pieces.iter().flat_map(|(_, ty)| ty.to_le_bytes()).collect();
        let pairs: Vec<u8> = merges.iter().flat_map(|merge| string(merge)).collect();
        self.meta.extend([
            entry("tokenizer.ggml.model", 8, &string("gpt2")),
            entry("tokenizer.ggml.pre", 8, &string("smollm")),
            entry("tokenizer.ggml.tokens", 9, &list(8, n, &tokens)),
            entry("tokenizer.ggml.token_type", 9, &list(5, n, &types)),
            entry("tokenizer.ggml.merges", 9, &list(8, merges.len() as u64, &pairs)),
        ]);
        let (_, dims, _, bytes) = &mut self.tensors[0];
        let row = bytes.len() / dims[1] as usize;
        dims[1] = n;
        *bytes = bytes[..row].repeat(pieces.len());
        self
    }

    /// Everything before the weights.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut out = [&b"GGUF"[..], &self.version.to_le_bytes()].concat();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.meta.len() as u64).to_le_bytes());
        self.meta.iter().for_each(|entry| out.extend(entry));
        let mut at = 0_u64;
        for (name, dims, ty, bytes) in &self.tensors {
            out.extend(string(name));
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(ty.to_le_bytes());
            out.extend(at.to_le_bytes());
            at += bytes.len().next_multiple_of(32) as u64;
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        let mut out = self.head();
        for (.., bytes) in &self.tensors {
            out.extend(bytes);
            out.resize(out.len().next_multiple_of(32), 0);
        }
        out
    }
}

/// llama2.c's model of these numbers; a tied classifier.
pub(crate) fn llama2c(dim: u32, hidden: u32, layers: u32, vocab: u32, context: u32) -> Vec<u8> {
    let head = [dim, hidden, layers, 1, 1, vocab, context];
    let layer = dim + 4 * dim * dim + dim + 3 * dim * hidden;
    let n = vocab * dim + layers * layer + dim + context * dim;
    let head = head.iter().flat_map(|n| n.to_le_bytes());
    head.chain(weights(n as usize).flat_map(f32::to_le_bytes)).collect()
}

/// llama2.c's tokenizer.
pub(crate) fn tokenizer_bin(vocab: u32) -> Vec<u8> {
    let mut out = 16_u32.to_le_bytes().to_vec();
    for id in 0..vocab {
        let piece = match id {
            0 => "<unk>".into(),
            1 => "\n<s>\n".into(),
            2 => "\n</s>\n".into(),
            3..8 => [" ", "t", "he", " the", "é"][id as usize - 3].to_owned(),
            _ => format!("<0x{:02X}>", id + 0x20),
        };
        out.extend((-(id as f32)).to_le_bytes());
        out.extend((piece.len() as u32).to_le_bytes());
        out.extend(piece.as_bytes());
    }
    out
}
