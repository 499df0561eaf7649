//! A whole model: header, tokenizer and the file's bytes.

use std::path::Path;

use edgeprof_engine::Config;

use crate::header::{Header, Parsed};
use crate::{ModelError, Tokenizer};

/// A model that can be tokenized for, quantized and laid out for boards.
#[derive(Clone, Debug)]
pub struct Model {
    header: Header,
    tokenizer: Tokenizer,
    bytes: Vec<u8>,
}

impl Model {
    /// Reads a model in memory, copying it. `tokenizer` is llama2.c's `tokenizer.bin`: needed by
    /// models that carry none, and refused with models that do.
    ///
    /// # Errors
    /// Any [`ModelError`] but `Io`.
    pub fn load(bytes: &[u8], tokenizer: Option<&[u8]>) -> Result<Self, ModelError> {
        Self::from_vec(bytes.to_vec(), tokenizer)
    }

    /// [`Model::load`] without the copy.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_vec(bytes: Vec<u8>, tokenizer: Option<&[u8]>) -> Result<Self, ModelError> {
        let parsed = Parsed::bytes(&bytes)?;
        let header = Header::from_parsed(&parsed)?;
        let tokenizer = Tokenizer::of(&parsed, header.config().vocab, tokenizer)?;
        Ok(Self { header, tokenizer, bytes })
    }

    /// Reads a model file, and its `tokenizer.bin` if one is given.
    ///
    /// # Errors
    /// As [`Model::load`], and [`ModelError::Io`].
    pub fn open(path: &Path, tokenizer: Option<&Path>) -> Result<Self, ModelError> {
        // The header first: no need to read gigabytes of something else.
        Header::open(path)?;
        let tokenizer = tokenizer.map(read).transpose()?;
        Self::from_vec(read(path)?, tokenizer.as_deref())
    }

    /// The model without its weights.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The model's dimensions.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.header.config()
    }

    /// Text to tokens and back.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Tokenizer {
    /// The tokenizer of a model file, without reading its weights; the arguments are those of
    /// [`Model::open`]. For counting a prompt's tokens before anything is prepared.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open(model: &Path, tokenizer: Option<&Path>) -> Result<Self, ModelError> {
        let parsed = Parsed::open(model)?;
        let vocab = Header::from_parsed(&parsed)?.config().vocab;
        Self::of(&parsed, vocab, tokenizer.map(read).transpose()?.as_deref())
    }

    fn of(parsed: &Parsed, vocab: u32, file: Option<&[u8]>) -> Result<Self, ModelError> {
        match (parsed, file) {
            (Parsed::Gguf(g), None) => Self::from_gguf(g, vocab),
            (Parsed::Gguf(_), Some(_)) => Err(ModelError::unsupported(
                "tokenizer",
                "a tokenizer file beside a model that carries its own",
                "the one in the GGUF file",
            )),
            (Parsed::Llama2c { .. }, Some(t)) => Self::from_llama2c(t, vocab),
            (Parsed::Llama2c { .. }, None) => Err(ModelError::NoTokenizer),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })
}
