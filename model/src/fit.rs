//! What a model takes on a board: arithmetic on the header, equal to the byte to what is built.

use edgeprof_engine::KvType;
use edgeprof_engine::arena::Layout;
use serde::Serialize;

use crate::header::Header;
use crate::image::image_bytes;
use crate::{ModelError, Quant};

/// Memory that a run needs on a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Requirements {
    /// Bytes of the board image, in the model region.
    pub image_bytes: u64,
    /// Bytes of the arena, key/value cache included.
    pub arena_bytes: u64,
    /// Bytes of the key/value cache alone.
    pub kv_bytes: u64,
}

/// What a run with `ctx` positions and this key/value cache needs.
///
/// # Errors
/// [`ModelError::Engine`] for a context of 0 or one whose memory overflows 64 bits.
pub fn requirements(header: &Header, quant: Quant, ctx: u32, kv: KvType) -> Result<Requirements, ModelError> {
    let layout = Layout::new(header.config(), ctx, kv)
        .ok_or_else(|| ModelError::Engine { what: format!("a context of {ctx} tokens cannot be served") })?;
    Ok(Requirements {
        image_bytes: image_bytes(header, quant),
        arena_bytes: layout.total_bytes,
        kv_bytes: layout.kv_bytes,
    })
}

/// Something that fits a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// The quantization.
    pub quant: Quant,
    /// Length of its image in bytes.
    pub image_bytes: u64,
    /// The cache's type: `f32`, `f16` or `i8`.
    #[serde(serialize_with = "kv_name")]
    pub kv: KvType,
    /// The longest context that fits, in tokens; at most what the model was trained for.
    pub max_ctx: u32,
}

fn kv_name<S: serde::Serializer>(kv: &KvType, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(kv.name())
}

impl std::fmt::Display for Suggestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { quant, kv, max_ctx, .. } = self;
        write!(f, "--quant {quant} --kv {} --ctx {max_ctx}", kv.name())
    }
}

/// Every quantization and cache type that fits a model region and an arena of these sizes, each
/// with its longest context; the most exact first. Empty if nothing fits. A quantization that
/// leaves the image as large as a more exact one is left out.
#[must_use]
pub fn what_would_fit(header: &Header, model_bytes: u64, arena_bytes: u64) -> Vec<Suggestion> {
    let mut out: Vec<Suggestion> = Vec::new();
    let mut sizes = Vec::new();
    for quant in Quant::ALL {
        let size = image_bytes(header, quant);
        if size > model_bytes || sizes.contains(&size) {
            continue;
        }
        sizes.push(size);
        for kv in [KvType::F32, KvType::F16, KvType::I8] {
            if let Some(max_ctx) = longest_ctx(header, kv, arena_bytes) {
                out.push(Suggestion { quant, image_bytes: size, kv, max_ctx });
            }
        }
    }
    out
}

/// The longest context whose arena fits, up to the model's own; `None` if not even one token does.
#[must_use]
pub fn longest_ctx(header: &Header, kv: KvType, arena_bytes: u64) -> Option<u32> {
    let config = header.config();
    let fits = |ctx| Layout::new(config, ctx, kv).is_some_and(|l| l.total_bytes <= arena_bytes);
    if !fits(1) {
        return None;
    }
    // The arena grows with the context: bisect between what fits and what does not.
    let (mut yes, mut no) = (1, config.train_ctx.saturating_add(1));
    while no - yes > 1 {
        let mid = yes + (no - yes) / 2;
        if fits(mid) {
            yes = mid;
        } else {
            no = mid;
        }
    }
    Some(yes)
}
