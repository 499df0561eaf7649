//! A model's dimensions, checked before anything is computed from them.

use edgeprof_engine::Config;
use edgeprof_engine::config::{MAX_HEAD_DIM, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH};

use crate::ModelError;

/// The numbers as a file has them, not yet believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawConfig {
    pub(crate) dim: u64,
    pub(crate) hidden: u64,
    pub(crate) layers: u64,
    pub(crate) heads: u64,
    pub(crate) kv_heads: u64,
    /// `None`: the embedding's width over the heads.
    pub(crate) head_dim: Option<u64>,
    pub(crate) vocab: u64,
    pub(crate) train_ctx: u64,
    pub(crate) rope_theta: f64,
    pub(crate) norm_eps: f64,
    pub(crate) tied: bool,
}

impl RawConfig {
    /// Checks every number; `format` names the file's format in errors.
    pub(crate) fn check(&self, format: &'static str) -> Result<Config, ModelError> {
        let err = |what: String| ModelError::invalid(format, what);
        let within = |what: &str, n: u64, max: u32| -> Result<u32, ModelError> {
            u32::try_from(n)
                .ok()
                .filter(|n| (1..=max).contains(n))
                .ok_or_else(|| err(format!("the {what} is {n}, outside 1 to {max}")))
        };
        let dim = within("embedding length", self.dim, MAX_WIDTH)?;
        let heads = within("head count", self.heads, MAX_WIDTH)?;
        let kv_heads = within("key/value head count", self.kv_heads, MAX_WIDTH)?;
        if heads % kv_heads != 0 {
            return Err(err(format!("{heads} heads do not divide by {kv_heads} key/value heads")));
        }
        let head_dim = match self.head_dim {
            Some(n) => within("head dimension", n, MAX_HEAD_DIM)?,
            None if dim % heads == 0 => within("head dimension", u64::from(dim / heads), MAX_HEAD_DIM)?,
            None => return Err(err(format!("{dim} dimensions do not divide by {heads} heads"))),
        };
        if head_dim % 2 != 0 {
            return Err(err(format!("the head dimension {head_dim} is odd")));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return Err(err(format!("the rotary base is {}", self.rope_theta)));
        }
        if !(self.norm_eps.is_finite() && (0.0..1.0).contains(&self.norm_eps)) {
            return Err(err(format!("the norm's epsilon is {}", self.norm_eps)));
        }
        let config = Config {
            dim,
            hidden: within("feed-forward length", self.hidden, MAX_WIDTH)?,
            layers: within("layer count", self.layers, MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            vocab: within("vocabulary size", self.vocab, MAX_VOCAB)?,
            train_ctx: within("context length", self.train_ctx, MAX_VOCAB)?,
            rope_theta: self.rope_theta as f32,
            norm_eps: self.norm_eps as f32,
            tied: self.tied,
        };
        // What is left for the engine to find are products, and floats that f32 cannot hold.
        config.validate().map_err(|e| err(e.to_string()))?;
        Ok(config)
    }
}
