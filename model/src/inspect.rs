//! What a model file is, for people and as JSON; also for models that cannot be run.

use std::collections::BTreeMap;
use std::path::Path;

use edgeprof_engine::Config;
use serde::Serialize;

use crate::gguf::value::Value;
use crate::gguf::{Gguf, llama};
use crate::header::{Format, Header, Parsed};
use crate::{ModelError, Tokenizer, image_quant_name};

/// What a model file says about itself. Sizes are in bytes; what the file does not say is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// `gguf-v2`, `gguf-v3` or `llama2.c`.
    pub format: String,
    /// Architecture, as `general.architecture` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Parameters: all elements of all tensors.
    pub params: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Bytes of the weights in it, where all their types are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// Tensors in the file.
    pub tensors: u64,
    /// Types of the weights: name, tensors, parameters and bytes, the largest share first.
    pub quantization: Vec<QuantShare>,
    /// The types of the matrices in short, as in a run record, where the model can be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quant: Option<String>,
    /// Dimensions, where the model can be run.
    #[serde(flatten)]
    pub dims: Option<Dims>,
    /// The tokenizer, where the file has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerInfo>,
    /// Whether it can be run here.
    pub supported: bool,
    /// Why not, if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The dimensions of a model, named for display.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dims {
    /// Transformer blocks.
    pub layers: u32,
    /// Width of the residual stream.
    pub dim: u32,
    /// Width of the feed-forward layer.
    pub hidden_dim: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// The context that the model was trained for, in tokens.
    pub context: u32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Whether the classifier is the embedding.
    pub tied_classifier: bool,
    /// Multiply-accumulates with weights for one token, the classifier among them; attention over the
    /// cache left out, since it grows with the position.
    pub macs_per_token: u64,
}

/// The part of the weights that has one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuantShare {
    /// ggml's name of the type.
    pub r#type: String,
    /// Tensors of it.
    pub tensors: u64,
    /// Parameters in them.
    pub params: u64,
    /// Bytes they take, where the type is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What a file says about its tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenizerInfo {
    /// As `tokenizer.ggml.model` has it: `llama`, `gpt2`, …
    pub kind: String,
    /// Tokens in it, where the file lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Begin of sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<u64>,
    /// End of sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos: Option<u64>,
}

/// Looks at a model file; its weights are not read. A sound GGUF file that cannot be run gives an
/// [`Inspection`] that says why.
///
/// # Errors
/// The file cannot be read, is no model, or is damaged.
pub fn inspect(path: &Path) -> Result<Inspection, ModelError> {
    Inspection::new(&Parsed::open(path)?)
}

/// [`inspect`] for a file in memory.
///
/// # Errors
/// The bytes are no model, or a damaged one.
pub fn inspect_bytes(bytes: &[u8]) -> Result<Inspection, ModelError> {
    Inspection::new(&Parsed::bytes(bytes)?)
}

impl Inspection {
    fn new(parsed: &Parsed) -> Result<Self, ModelError> {
        match parsed {
            Parsed::Gguf(g) => Ok(Self::gguf(parsed, g)),
            Parsed::Llama2c { .. } => {
                let header = Header::from_parsed(parsed)?;
                let shares = shares(
                    header
                        .tensors()
                        .iter()
                        .map(|t| (t.dtype.name().to_uppercase(), t.elements(), Some(t.bytes()))),
                );
                Ok(Self::with(&header, Format::Llama2c, shares))
            }
        }
    }

    fn with(header: &Header, format: Format, quantization: Vec<QuantShare>) -> Self {
        Self {
            format: format.to_string(),
            arch: Some(header.arch().into()),
            name: header.name().map(str::to_owned),
            license: None,
            params: header.params(),
            file_bytes: header.file_bytes(),
            weight_bytes: Some(header.weight_bytes()),
            tensors: header.tensors().len() as u64,
            quantization,
            quant: Some(image_quant_name(header, crate::Quant::Native)),
            dims: Some(Dims::new(header.config())),
            tokenizer: None,
            supported: true,
            reason: None,
            hint: None,
        }
    }

    fn gguf(parsed: &Parsed, g: &Gguf) -> Self {
        let shares = shares(g.tensors.iter().map(|t| (t.ty.name(), t.elements(), t.bytes)));
        let header = Header::from_parsed(parsed);
        let tokens = header.as_ref().ok().and_then(|h| Tokenizer::from_gguf(g, h.config().vocab).err());
        let problem = header.as_ref().err().or(tokens.as_ref());
        let dims = llama::config(g).ok().map(|c| Dims::new(&c));
        Self {
            format: Format::Gguf(g.version).to_string(),
            arch: g.str("general.architecture").map(str::to_owned),
            name: g.str("general.name").map(str::to_owned),
            license: g.str("general.license").map(str::to_owned),
            params: g.tensors.iter().fold(0, |n, t| t.elements().saturating_add(n)),
            file_bytes: g.file_bytes,
            weight_bytes: shares.iter().map(|s| s.bytes).sum(),
            tensors: g.tensors.len() as u64,
            quant: header.as_ref().ok().map(|h| image_quant_name(h, crate::Quant::Native)),
            quantization: shares,
            dims,
            tokenizer: TokenizerInfo::new(g),
            supported: problem.is_none(),
            reason: problem.map(ToString::to_string),
            hint: problem.map(ModelError::hint),
        }
    }
}

impl Dims {
    fn new(c: &Config) -> Self {
        Self {
            layers: c.layers,
            dim: c.dim,
            hidden_dim: c.hidden,
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            vocab: c.vocab,
            context: c.train_ctx,
            rope_theta: c.rope_theta,
            norm_eps: c.norm_eps,
            tied_classifier: c.tied,
            macs_per_token: c.macs_per_token(),
        }
    }
}

impl TokenizerInfo {
    fn new(g: &Gguf) -> Option<Self> {
        let tokens = match g.meta.get("tokenizer.ggml.tokens") {
            Some(Value::Strings(s)) => Some(s.len() as u64),
            _ => None,
        };
        Some(Self {
            kind: g.str("tokenizer.ggml.model")?.to_owned(),
            tokens,
            bos: g.uint("tokenizer.ggml.bos_token_id").ok().flatten(),
            eos: g.uint("tokenizer.ggml.eos_token_id").ok().flatten(),
        })
    }
}

/// Sums up (type, elements, bytes if known) by type.
fn shares(tensors: impl Iterator<Item = (String, u64, Option<u64>)>) -> Vec<QuantShare> {
    let mut by_type: BTreeMap<String, QuantShare> = BTreeMap::new();
    for (name, params, bytes) in tensors {
        let share = by_type.entry(name.clone()).or_insert_with(|| QuantShare {
            r#type: name,
            tensors: 0,
            params: 0,
            bytes: Some(0),
        });
        share.tensors += 1;
        share.params = share.params.saturating_add(params);
        share.bytes = share.bytes.zip(bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
    }
    let mut out: Vec<_> = by_type.into_values().collect();
    out.sort_by(|a, b| b.params.cmp(&a.params).then(a.r#type.cmp(&b.r#type)));
    out
}
