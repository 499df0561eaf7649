//! A whole model: header, tokenizer and the file's bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use edgeprof_engine::Config;

use crate::header::{Header, Parsed};
use crate::tokenizer::TOKENIZER_LIMIT;
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
        let end = Header::open(path)?.data_end();
        let tokenizer = tokenizer.map(read_tokenizer).transpose()?;
        Self::from_vec(read(path, end)?, tokenizer.as_deref())
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
        Self::of(&parsed, vocab, tokenizer.map(read_tokenizer).transpose()?.as_deref())
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

/// The first `len` bytes of a file, or fewer if it has fewer.
fn read(path: &Path, len: u64) -> Result<Vec<u8>, ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len().min(len);
    let mut bytes = Vec::new();
    let fits = usize::try_from(size).ok().filter(|&n| bytes.try_reserve_exact(n).is_ok());
    if fits.is_none() {
        return Err(ModelError::TooLarge { what: "the model file".into(), limit: size });
    }
    file.take(size).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// One byte more than is allowed tells that it is too long.
fn read_tokenizer(path: &Path) -> Result<Vec<u8>, ModelError> {
    read(path, TOKENIZER_LIMIT as u64 + 1)
}
