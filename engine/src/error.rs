//! What can go wrong, as plain values: the firmware sends them as they are.

use core::fmt;

/// Why bytes are not a usable board image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// Fewer bytes than the header, or than the header says; both numbers in bytes.
    Truncated {
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        have: u64,
    },
    /// Does not begin with the magic of a board image.
    Magic,
    /// A format version this engine does not read.
    Version(u16),
    /// The header's own checksum is wrong.
    HeaderChecksum,
    /// The payload's checksum is wrong: the image was damaged on its way.
    PayloadChecksum,
    /// The image must start at an address that is a multiple of 4, on 64-bit cores of 8 (16 is advised).
    Misaligned,
    /// A model dimension is zero, too large or does not fit the others; names the field.
    Config(&'static str),
    /// The table's entry of this index is not what the configuration calls for.
    Tensor(u32),
    /// A buffer handed to a writer is too small; needed bytes.
    Buffer(u64),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Truncated { needed, have } => {
                write!(f, "board image is cut short: {have} of {needed} bytes")
            }
            ImageError::Magic => f.write_str("not a board image: wrong magic"),
            ImageError::Version(v) => write!(f, "board image version {v} is not supported"),
            ImageError::HeaderChecksum => f.write_str("board image header checksum mismatch"),
            ImageError::PayloadChecksum => f.write_str("board image payload checksum mismatch"),
            ImageError::Misaligned => f.write_str("board image is not aligned"),
            ImageError::Config(what) => write!(f, "invalid model configuration: {what}"),
            ImageError::Tensor(i) => write!(f, "tensor table entry {i} is invalid"),
            ImageError::Buffer(n) => write!(f, "buffer too small: {n} bytes needed"),
        }
    }
}

impl core::error::Error for ImageError {}

/// Why a session could not be made or a token not be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// The image is unusable.
    Image(ImageError),
    /// The arena is smaller than the session needs; both numbers in bytes.
    ArenaTooSmall {
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        have: u64,
    },
    /// The context length is zero, or its arena does not fit the address space.
    BadContext(u32),
    /// A token id that is not below the vocabulary's size.
    BadToken(u32),
    /// All positions of the context are taken.
    ContextFull(u32),
    /// The logit of this index is infinite or not a number: the run is invalid.
    NonFinite(u32),
    /// The request contradicts itself, with the reason.
    BadRequest(&'static str),
}

impl From<ImageError> for EngineError {
    fn from(e: ImageError) -> Self {
        EngineError::Image(e)
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Image(e) => e.fmt(f),
            EngineError::ArenaTooSmall { needed, have } => {
                write!(f, "arena too small: {have} of {needed} bytes")
            }
            EngineError::BadContext(n) => write!(f, "context of {n} tokens cannot be served"),
            EngineError::BadToken(t) => write!(f, "token {t} is outside the vocabulary"),
            EngineError::ContextFull(n) => write!(f, "context of {n} tokens is full"),
            EngineError::NonFinite(i) => write!(f, "logit {i} is not finite"),
            EngineError::BadRequest(why) => write!(f, "bad request: {why}"),
        }
    }
}

impl core::error::Error for EngineError {}
