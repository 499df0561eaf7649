//! What can be wrong with a model file, said so that its owner can act on it.

use std::path::PathBuf;

/// Everything that reading, converting or measuring a model may fail with.
///
/// Messages are lowercase, without a full stop; [`ModelError::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file could not be read at all.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The first bytes belong to something that is no model we read.
    #[error("not a supported model file: found {found}")]
    NotAModel {
        /// What the bytes look like.
        found: String,
    },
    /// The file ends before what its header promises.
    #[error("{format} file is truncated: {what} needs {needed} bytes, {have} are there")]
    Truncated {
        /// `gguf`, `llama2.c` or `tokenizer.bin`.
        format: &'static str,
        /// The part that is cut off.
        what: String,
        /// Bytes needed, counted from the start of the file.
        needed: u64,
        /// Length of the file in bytes.
        have: u64,
    },
    /// The file contradicts itself or its format.
    #[error("invalid {format} file: {what}")]
    Invalid {
        /// `gguf`, `llama2.c` or `tokenizer.bin`.
        format: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// A sound file that needs something which is not implemented.
    #[error("unsupported {what}: found {found}, supported: {supported}")]
    Unsupported {
        /// What kind of thing it is: `architecture`, `tensor type`, …
        what: &'static str,
        /// What the file has.
        found: String,
        /// What would have been accepted.
        supported: &'static str,
    },
    /// The header would take more memory than a sound model's does.
    #[error("{what} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A llama2.c model without its `tokenizer.bin`.
    #[error("a llama2.c model carries no tokenizer")]
    NoTokenizer,
    /// The tokenizer's vocabulary is not the model's.
    #[error("the tokenizer has {tokens} tokens, the model's vocabulary {vocab}")]
    VocabMismatch {
        /// Tokens in the tokenizer.
        tokens: u64,
        /// Rows of the model's embedding.
        vocab: u64,
    },
    /// A word that names no quantization.
    #[error("unknown quantization {found:?}, supported: native, q8_0, q4_0")]
    UnknownQuant {
        /// The word.
        found: String,
    },
    /// The engine refused the image or the request.
    #[error("the engine refused: {what}")]
    Engine {
        /// The engine's own words.
        what: String,
    },
}

/// What this version reads, for hints.
pub(crate) const SUPPORTED_FILES: &str =
    "GGUF v2 or v3 (architecture llama) and llama2.c .bin (the legacy v0 header)";

impl ModelError {
    /// The error class of a run record; every error here belongs to the model.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        "model"
    }

    /// A stable word for the kind of error, for the `code` field of a run record.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "model_io",
            Self::NotAModel { .. } => "not_a_model",
            Self::Truncated { .. } => "model_truncated",
            Self::Invalid { .. } => "model_invalid",
            Self::Unsupported { .. } => "model_unsupported",
            Self::TooLarge { .. } => "model_too_large",
            Self::NoTokenizer => "no_tokenizer",
            Self::VocabMismatch { .. } => "vocab_mismatch",
            Self::UnknownQuant { .. } => "unknown_quant",
            Self::Engine { .. } => "engine_refused",
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Io { .. } => "check the path and its permissions".into(),
            Self::NotAModel { .. } => format!("supported: {SUPPORTED_FILES}"),
            Self::Truncated { .. } => {
                "the download or copy was cut short: fetch the file again and compare its digest".into()
            }
            Self::Invalid { .. } => {
                "the file is damaged or its writer has a bug: fetch or convert it again".into()
            }
            Self::Unsupported { what, supported, .. } => match *what {
                "tensor type" => {
                    format!(
                        "requantize the model before, for example with llama-quantize to Q8_0 (supported: {supported})"
                    )
                }
                "tokenizer.ggml.pre" => {
                    "convert the model again with a converter that knows its rule for words, or use one of \
                     the rules named"
                        .into()
                }
                _ => format!("supported: {supported}"),
            },
            Self::TooLarge { .. } => {
                "a sound model's header is far smaller: fetch or convert the file again".into()
            }
            Self::NoTokenizer => "give its tokenizer.bin with --tokenizer".into(),
            Self::VocabMismatch { .. } => "give the tokenizer which the model was trained with".into(),
            Self::UnknownQuant { .. } => "use --quant native, q8_0 or q4_0".into(),
            Self::Engine { .. } => "ask `edgeprof model fit` for a quantization and context which fit".into(),
        }
    }

    pub(crate) fn invalid(format: &'static str, what: impl Into<String>) -> Self {
        Self::Invalid { format, what: what.into() }
    }

    pub(crate) fn unsupported(what: &'static str, found: impl Into<String>, supported: &'static str) -> Self {
        Self::Unsupported { what, found: found.into(), supported }
    }
}
