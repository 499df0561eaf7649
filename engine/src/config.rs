//! The shape of a model.

use crate::error::ImageError;

/// Shape and constants of a llama-architecture model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub dim: u32,
    /// Width of the feed-forward layer.
    pub hidden: u32,
    /// Transformer layers.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of one head; even. `heads * head_dim` need not equal `dim`.
    pub head_dim: u32,
    /// Vocabulary size in tokens.
    pub vocab: u32,
    /// Context length the model was trained for, in tokens. Informative: sessions choose their own.
    pub train_ctx: u32,
    /// Base of the rotary frequencies, 10,000 in the first llama.
    pub rope_theta: f32,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f32,
    /// Whether the classifier is the embedding table.
    pub tied: bool,
}

/// Largest `dim`, `hidden`, `heads * head_dim`.
pub const MAX_WIDTH: u32 = 1 << 20;
/// Largest `head_dim`: int8 products summed over a head stay within an i32, 127 · 127 · 2^17 < 2^31.
pub const MAX_HEAD_DIM: u32 = 1 << 17;
/// Most layers.
pub const MAX_LAYERS: u32 = 1 << 12;
/// Largest vocabulary and training context.
pub const MAX_VOCAB: u32 = 1 << 24;

impl Config {
    /// Width of all query heads together.
    #[must_use]
    pub const fn q_dim(&self) -> u32 {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    #[must_use]
    pub const fn kv_dim(&self) -> u32 {
        self.kv_heads * self.head_dim
    }

    /// Checks every limit that the rest of the engine relies on, so that no later arithmetic on
    /// sizes overflows 64 bits.
    ///
    /// # Errors
    /// [`ImageError::Config`] with the name of the offending field.
    pub fn validate(&self) -> Result<(), ImageError> {
        let bad = |what| Err(ImageError::Config(what));
        let within = |v: u32, max: u32| v >= 1 && v <= max;
        if !within(self.dim, MAX_WIDTH) {
            return bad("dim");
        }
        if !within(self.hidden, MAX_WIDTH) {
            return bad("hidden");
        }
        if !within(self.layers, MAX_LAYERS) {
            return bad("layers");
        }
        if !within(self.heads, MAX_WIDTH) {
            return bad("heads");
        }
        if !within(self.kv_heads, self.heads) || !self.heads.is_multiple_of(self.kv_heads) {
            return bad("kv_heads");
        }
        if !within(self.head_dim, MAX_HEAD_DIM) || !self.head_dim.is_multiple_of(2) {
            return bad("head_dim");
        }
        if u64::from(self.heads) * u64::from(self.head_dim) > u64::from(MAX_WIDTH) {
            return bad("heads * head_dim");
        }
        if !within(self.vocab, MAX_VOCAB) {
            return bad("vocab");
        }
        if !within(self.train_ctx, MAX_VOCAB) {
            return bad("train_ctx");
        }
        if !self.rope_theta.is_finite() || self.rope_theta <= 0.0 {
            return bad("rope_theta");
        }
        if !self.norm_eps.is_finite() || self.norm_eps < 0.0 {
            return bad("norm_eps");
        }
        Ok(())
    }

    /// Multiplications of a weight by an activation that one token costs, classifier included.
    #[must_use]
    pub fn macs_per_token(&self) -> u64 {
        let (d, h) = (u64::from(self.dim), u64::from(self.hidden));
        let (q, kv) = (u64::from(self.q_dim()), u64::from(self.kv_dim()));
        u64::from(self.layers) * (2 * d * q + 2 * d * kv + 3 * d * h) + d * u64::from(self.vocab)
    }
}
