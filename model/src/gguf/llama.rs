//! The `llama` architecture in GGUF keys and tensor names.

use std::collections::HashMap;

use edgeprof_engine::image::Role;
use edgeprof_engine::{Config, DType};

use super::types::GgmlType;
use super::value::Value;
use super::{Gguf, TensorInfo, invalid};
use crate::ModelError;
use crate::config::RawConfig;
use crate::weights::{SUPPORTED_TYPES, Slot, Tensor, collect};

/// Keys which change what is computed when they are not zero, so they cannot be passed over.
const REFUSED: &[(&str, &str)] = &[
    ("llama.expert_count", "mixture of experts"),
    ("llama.expert_used_count", "mixture of experts"),
    ("llama.attention.sliding_window", "sliding-window attention"),
    ("llama.logit_scale", "a logit scale"),
    ("llama.embedding_scale", "an embedding scale"),
    ("llama.residual_scale", "a residual scale"),
    ("llama.attention.scale", "an attention scale"),
    ("llama.attention.clamp_kqv", "clamped queries, keys and values"),
];

/// Whether a value says "off".
fn is_zero(v: &Value) -> bool {
    match v {
        Value::U(n) => *n == 0,
        Value::I(n) => *n == 0,
        Value::F(x) => *x == 0.0,
        Value::Bool(b) => !b,
        _ => false,
    }
}

fn required(g: &Gguf, key: &str) -> Result<u64, ModelError> {
    g.uint(key)?.ok_or_else(|| invalid(format!("metadata key {key} is missing")))
}

/// Reads and checks the dimensions.
///
/// # Errors
/// The file is of another architecture, needs what is not implemented, or contradicts itself.
pub(crate) fn config(g: &Gguf) -> Result<Config, ModelError> {
    match g.str("general.architecture") {
        Some("llama") => {}
        Some(other) => return Err(ModelError::unsupported("architecture", other, "llama")),
        None => return Err(invalid("metadata key general.architecture is missing")),
    }
    for (key, what) in REFUSED {
        if g.meta.get(*key).is_some_and(|v| !is_zero(v)) {
            return Err(ModelError::unsupported("model feature", *what, "plain dense llama"));
        }
    }
    let heads = required(g, "llama.attention.head_count")?;
    let embedding =
        find(g, "token_embd.weight").ok_or_else(|| invalid("tensor token_embd.weight is missing"))?;
    let eps = "llama.attention.layer_norm_rms_epsilon";
    let config = RawConfig {
        dim: required(g, "llama.embedding_length")?,
        hidden: required(g, "llama.feed_forward_length")?,
        layers: required(g, "llama.block_count")?,
        heads,
        kv_heads: g.uint("llama.attention.head_count_kv")?.unwrap_or(heads),
        head_dim: g.uint("llama.attention.key_length")?,
        vocab: embedding.dims.get(1).copied().unwrap_or(1),
        train_ctx: required(g, "llama.context_length")?,
        rope_theta: g.float("llama.rope.freq_base")?.unwrap_or(10_000.0),
        norm_eps: g.float(eps)?.ok_or_else(|| invalid(format!("metadata key {eps} is missing")))?,
        tied: find(g, "output.weight").is_none(),
    }
    .check("gguf")?;
    check_rope(g, &config)?;
    if let Some(n) = g.uint("llama.vocab_size")?.filter(|&n| n != u64::from(config.vocab)) {
        return Err(invalid(format!(
            "llama.vocab_size is {n}, but token_embd.weight has {} rows",
            config.vocab
        )));
    }
    Ok(config)
}

fn check_rope(g: &Gguf, c: &Config) -> Result<(), ModelError> {
    for key in ["llama.rope.dimension_count", "llama.attention.value_length"] {
        if let Some(n) = g.uint(key)?.filter(|&n| n != u64::from(c.head_dim)) {
            return Err(ModelError::unsupported(
                "head dimension",
                format!("{key} = {n} in heads of {}", c.head_dim),
                "one width for keys, values and rotation",
            ));
        }
    }
    let scaling = g.str("llama.rope.scaling.type").unwrap_or("none");
    let factor = match g.float("llama.rope.scaling.factor")? {
        None => g.float("llama.rope.scale_linear")?,
        some => some,
    };
    // llama.cpp takes a factor of zero for none.
    let neutral = factor.is_none_or(|f| f == 1.0 || f == 0.0);
    if !neutral || !matches!(scaling, "none" | "linear") {
        let factor = factor.map_or_else(String::new, |f| format!(" by {f}"));
        return Err(ModelError::unsupported("rotary scaling", format!("{scaling}{factor}"), "none"));
    }
    Ok(())
}

fn find<'a>(g: &'a Gguf, name: &str) -> Option<&'a TensorInfo> {
    g.tensors.iter().find(|t| t.name == name)
}

fn name(slot: Slot) -> String {
    let part = match slot.role {
        Role::TokenEmbd => return "token_embd.weight".into(),
        Role::OutputNorm => return "output_norm.weight".into(),
        Role::Output => return "output.weight".into(),
        Role::AttnNorm => "attn_norm",
        Role::AttnQ => "attn_q",
        Role::AttnK => "attn_k",
        Role::AttnV => "attn_v",
        Role::AttnOutput => "attn_output",
        Role::FfnNorm => "ffn_norm",
        Role::FfnGate => "ffn_gate",
        Role::FfnUp => "ffn_up",
        Role::FfnDown => "ffn_down",
    };
    format!("blk.{}.{part}.weight", slot.layer)
}

fn dtype(t: &TensorInfo) -> Result<DType, ModelError> {
    match t.ty {
        GgmlType(0) => Ok(DType::F32),
        GgmlType(1) => Ok(DType::F16),
        GgmlType(2) => Ok(DType::Q4_0),
        GgmlType(3) => Ok(DType::Q4_1),
        GgmlType(8) => Ok(DType::Q8_0),
        GgmlType(30) => Ok(DType::BF16),
        other => Err(ModelError::unsupported(
            "tensor type",
            format!("{} in {}", other.name(), t.name),
            SUPPORTED_TYPES,
        )),
    }
}

/// Finds every tensor and checks its type and shape; a tensor that llama has no use for is an
/// error, since leaving it out would compute something else.
///
/// # Errors
/// A tensor is missing, superfluous, of another shape or of an unsupported type.
pub(crate) fn weights(g: &Gguf, config: &Config) -> Result<Vec<Tensor>, ModelError> {
    let mut by_name: HashMap<&str, &TensorInfo> = g.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let weights = collect(config, |slot| {
        let name = name(slot);
        let t = by_name.remove(name.as_str()).ok_or_else(|| invalid(format!("tensor {name} is missing")))?;
        let want = [u64::from(slot.cols), u64::from(slot.rows)];
        let want = if slot.role.is_norm() { &want[..1] } else { &want };
        // Trailing dimensions of one say nothing.
        let fits = t.dims.starts_with(want) && t.dims[want.len()..].iter().all(|&d| d == 1);
        if !fits {
            return Err(invalid(format!("tensor {name} has the shape {:?}, not {want:?}", t.dims)));
        }
        let dtype = dtype(t)?;
        if t.bytes.is_none() {
            let cols = slot.cols;
            return Err(invalid(format!("tensor {name} has rows of {cols}, no multiple of 32")));
        }
        Ok((dtype, t.start))
    })?;
    // Older converters left the rotary frequencies in; they are computed.
    by_name.retain(|name, _| !name.ends_with(".attn_rot_embd.weight"));
    if let Some(name) = by_name.keys().min() {
        return Err(ModelError::unsupported("tensor", *name, "the tensors of a plain dense llama"));
    }
    Ok(weights)
}
