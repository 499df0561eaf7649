//! A model without its weights: enough for arithmetic on its size.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use edgeprof_engine::Config;

use crate::detect::{self, HEAD_BYTES, Kind};
use crate::gguf::{Gguf, llama};
use crate::weights::Tensor;
use crate::{ModelError, llama2c};

/// A file format that models are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// GGUF of this version.
    Gguf(u32),
    /// llama2.c's legacy layout.
    Llama2c,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gguf(version) => write!(f, "gguf-v{version}"),
            Self::Llama2c => f.write_str("llama2.c"),
        }
    }
}

/// What a model file says about itself, checked: dimensions, and where which weights lie.
#[derive(Clone, Debug)]
pub struct Header {
    format: Format,
    config: Config,
    name: Option<String>,
    tensors: Vec<Tensor>,
    file_bytes: u64,
    data_end: u64,
}

impl Header {
    /// Reads the header of a model in memory.
    ///
    /// # Errors
    /// Any [`ModelError`] about the file, but none about its tokenizer.
    pub fn parse(bytes: &[u8]) -> Result<Self, ModelError> {
        Self::from_parsed(&Parsed::bytes(bytes)?)
    }

    /// Reads the header of a model file; weights are not read.
    ///
    /// # Errors
    /// As [`Header::parse`], and [`ModelError::Io`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_parsed(&Parsed::open(path)?)
    }

    pub(crate) fn from_parsed(parsed: &Parsed) -> Result<Self, ModelError> {
        match parsed {
            Parsed::Gguf(g) => {
                let config = llama::config(g)?;
                Ok(Self {
                    format: Format::Gguf(g.version),
                    config,
                    name: g.str("general.name").map(str::to_owned),
                    tensors: llama::weights(g, &config)?,
                    file_bytes: g.file_bytes,
                    data_end: g.data_end,
                })
            }
            Parsed::Llama2c { head, len } => {
                let (config, tensors) = llama2c::read(head, *len)?;
                let (name, format) = (None, Format::Llama2c);
                Ok(Self { format, config, name, tensors, file_bytes: *len, data_end: *len })
            }
        }
    }

    /// The file's format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The model's dimensions.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The name that the file gives the model, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The architecture; always `llama` at present.
    #[must_use]
    pub fn arch(&self) -> &'static str {
        "llama"
    }

    /// Parameters, norms included; a tied classifier counts once.
    #[must_use]
    pub fn params(&self) -> u64 {
        self.tensors.iter().map(Tensor::elements).sum()
    }

    /// Bytes of the weights in the file.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.iter().map(Tensor::bytes).sum()
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes of the file from its beginning that the model is in.
    pub(crate) fn data_end(&self) -> u64 {
        self.data_end
    }

    /// Tensors in the order of a board image.
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }
}

/// A file whose format is known and whose header was read, but not yet judged.
pub(crate) enum Parsed {
    Gguf(Gguf),
    Llama2c { head: Vec<u8>, len: u64 },
}

impl Parsed {
    pub(crate) fn bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let len = bytes.len() as u64;
        let head = &bytes[..bytes.len().min(HEAD_BYTES)];
        match detect::kind(head, len)? {
            Kind::Gguf => Ok(Self::Gguf(Gguf::read(bytes, len)?)),
            Kind::Llama2c => Ok(Self::Llama2c { head: head.to_vec(), len }),
        }
    }

    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        // Before it is opened: that blocks for a pipe. Nor has a pipe or a device a length which
        // the header could be held against.
        let meta = std::fs::metadata(path).map_err(io)?;
        if !meta.is_file() {
            let what = if meta.is_dir() { "a directory" } else { "something that is no file" };
            return Err(ModelError::NotAModel { found: what.into() });
        }
        let mut file = File::open(path).map_err(io)?;
        let len = meta.len();
        let mut head = Vec::new();
        file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(io)?;
        match detect::kind(&head, len)? {
            Kind::Llama2c => Ok(Self::Llama2c { head, len }),
            Kind::Gguf => {
                file.rewind().map_err(io)?;
                Ok(Self::Gguf(Gguf::read(BufReader::new(file), len)?))
            }
        }
    }
}
