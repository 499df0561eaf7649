//! llama2.c's `.bin` in the legacy (v0) layout: seven i32, then f32 weights.
//!
//! The order of the weights, from `memory_map_weights` in
//! <https://github.com/karpathy/llama2.c/blob/master/run.c>: embedding; attention norms; Q; K; V;
//! attention output; feed-forward norms; w1 (gate); w2 (down); w3 (up), each for all layers; the
//! final norm; two tables of `seq_len × head_size / 2` rotary values, which nothing reads; and the
//! classifier unless it is the embedding, which a positive vocabulary size says.

use edgeprof_engine::image::Role;
use edgeprof_engine::{Config, DType};

use crate::ModelError;
use crate::config::RawConfig;
use crate::weights::{Tensor, collect};

/// Bytes of the seven numbers.
pub(crate) const HEADER_BYTES: u64 = 28;
const FORMAT: &str = "llama2.c";
/// Constants that run.c has in its code.
const NORM_EPS: f64 = 1e-5;
const ROPE_THETA: f64 = 10_000.0;

fn numbers(head: &[u8]) -> Option<[i32; 7]> {
    let head = head.get(..HEADER_BYTES as usize)?;
    let mut out = [0; 7];
    for (n, b) in out.iter_mut().zip(head.chunks_exact(4)) {
        *n = i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    }
    Some(out)
}

/// Whether these first bytes could be the header: the format has no magic number.
pub(crate) fn plausible(head: &[u8]) -> bool {
    let Some([dim, hidden, layers, heads, kv, vocab, seq]) = numbers(head) else { return false };
    let small = |n: i32, max: i32| (0..=max).contains(&n);
    // Zeros are let through to get an error of their own, but not a file of nothing but zeros.
    dim > 0
        && small(dim, 1 << 17)
        && small(hidden, 1 << 20)
        && small(layers, 1 << 12)
        && small(heads, 1 << 12)
        && small(kv, 1 << 12)
        && vocab.unsigned_abs() <= 1 << 24
        && small(seq, 1 << 24)
}

/// Reads the header; `len` is the file's length, which must be exactly what the header calls for.
///
/// # Errors
/// The dimensions make no sense, or the file is shorter or longer than they say.
pub(crate) fn read(head: &[u8], len: u64) -> Result<(Config, Vec<Tensor>), ModelError> {
    let Some(numbers) = numbers(head) else {
        return Err(ModelError::Truncated {
            format: FORMAT,
            what: "the header".into(),
            needed: HEADER_BYTES,
            have: len,
        });
    };
    // A negative number becomes zero, which is out of every range.
    let [dim, hidden, layers, heads, kv_heads, vocab, seq_len] =
        numbers.map(|n| u64::try_from(n).unwrap_or(0));
    let tied = numbers[5] > 0;
    let config = RawConfig {
        dim,
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim: None,
        vocab: if tied { vocab } else { numbers[5].unsigned_abs().into() },
        train_ctx: seq_len,
        rope_theta: ROPE_THETA,
        norm_eps: NORM_EPS,
        tied,
    }
    .check(FORMAT)?;
    let (starts, end) = starts(&config);
    if len < end {
        return Err(ModelError::Truncated {
            format: FORMAT,
            what: "its weights".into(),
            needed: end,
            have: len,
        });
    }
    if len > end {
        let more = len - end;
        return Err(ModelError::invalid(FORMAT, format!("{more} bytes more than its header calls for")));
    }
    let weights = collect(&config, |slot| {
        let each = u64::from(slot.rows) * u64::from(slot.cols) * 4;
        let layer = if slot.layer < config.layers { u64::from(slot.layer) } else { 0 };
        Ok((DType::F32, starts[slot.role as usize] + layer * each))
    })?;
    Ok((config, weights))
}

/// Where each role's weights start, by the role's number, and the length of the whole file. The
/// engine's limits on dimensions keep every product far below 2^64.
fn starts(c: &Config) -> ([u64; 12], u64) {
    let [dim, hidden, layers, vocab] = [c.dim, c.hidden, c.layers, c.vocab].map(u64::from);
    let (q, kv) = (u64::from(c.q_dim()), u64::from(c.kv_dim()));
    let parts = [
        (Role::TokenEmbd, vocab * dim),
        (Role::AttnNorm, layers * dim),
        (Role::AttnQ, layers * dim * q),
        (Role::AttnK, layers * dim * kv),
        (Role::AttnV, layers * dim * kv),
        (Role::AttnOutput, layers * q * dim),
        (Role::FfnNorm, layers * dim),
        (Role::FfnGate, layers * hidden * dim),
        (Role::FfnDown, layers * dim * hidden),
        (Role::FfnUp, layers * hidden * dim),
        (Role::OutputNorm, dim),
    ];
    let mut starts = [0; 12];
    let mut at = HEADER_BYTES;
    for (role, count) in parts {
        starts[role as usize] = at;
        at += count * 4;
    }
    at += 2 * u64::from(c.train_ctx) * u64::from(c.head_dim / 2) * 4;
    starts[Role::Output as usize] = at;
    if !c.tied {
        at += vocab * dim * 4;
    }
    (starts, at)
}
