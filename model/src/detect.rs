//! What a file is, from its first bytes.

use crate::{ModelError, llama2c};

/// Bytes that are looked at.
pub(crate) const HEAD_BYTES: usize = 512;

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gguf,
    Llama2c,
}

/// first bytes, what they are
const MAGICS: &[(&[u8], &str)] = &[
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (b"\xfd7zXZ", "xz-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"\x04\x22\x4d\x18", "lz4-compressed data"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint is one)"),
    (b"\x7fELF", "an ELF executable"),
    (b"MZ", "a Windows executable"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x80\x02\x8a\x0a", "an old PyTorch checkpoint"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"lmgg", "the old unversioned ggml format"),
    (b"fmgg", "the old ggmf format, which GGUF replaced"),
    (b"tjgg", "the old ggjt format, which GGUF replaced"),
    (b"algg", "a ggml LoRA adapter"),
    (b"EPBI", "a board image, which is what models are converted to"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
];

/// Names the format, or says what was found instead. `head` holds the file's first bytes, at
/// least [`HEAD_BYTES`] of them or the whole file of `len` bytes.
pub(crate) fn kind(head: &[u8], len: u64) -> Result<Kind, ModelError> {
    if head.starts_with(b"GGUF") {
        return Ok(Kind::Gguf);
    }
    if head.starts_with(b"24ka") {
        let version = head.get(4..8).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        return Err(ModelError::unsupported(
            "llama2.c version",
            format!("v{version} (magic ak42)"),
            "the legacy v0 header, written by `export.py --version 0`",
        ));
    }
    // llama2.c files have no magic number. A short one of another format may be their first
    // dimension; a longer one is none of a plausible size.
    if llama2c::plausible(head) && !safetensors(head, len) {
        return Ok(Kind::Llama2c);
    }
    let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic));
    let found = known.map_or_else(|| describe(head, len), |(_, what)| (*what).to_owned());
    Err(ModelError::NotAModel { found })
}

fn describe(head: &[u8], len: u64) -> String {
    if head.is_empty() {
        return "an empty file".into();
    }
    if safetensors(head, len) {
        return "a safetensors file".into();
    }
    if head.get(4..8) == Some(b"TFL3") {
        return "a TensorFlow Lite model".into();
    }
    if head.iter().all(|&b| b == 0) {
        return "zeros".into();
    }
    // The last character may be cut off.
    let utf8 = std::str::from_utf8(head).map_or_else(|e| e.error_len().is_none(), |_| true);
    let shown = |b: &u8| *b >= 0x20 && *b != 0x7f || matches!(b, b'\t' | b'\n' | b'\r');
    let text = utf8 && head.iter().all(shown);
    if text {
        let what = match head.trim_ascii_start().first() {
            Some(b'<') => "an HTML or XML page (a failed download?)",
            Some(b'{' | b'[') => "JSON text",
            _ => "text",
        };
        return what.into();
    }
    let first: Vec<_> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("{len} bytes which begin with {}", first.join(" "))
}

/// safetensors: the JSON header's length as u64, then `{`.
fn safetensors(head: &[u8], len: u64) -> bool {
    let Some((n, rest)) = head.split_first_chunk::<8>() else { return false };
    let n = u64::from_le_bytes(*n);
    (2..=100_000_000).contains(&n) && n <= len && rest.starts_with(b"{")
}
