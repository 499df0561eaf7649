//! Tokenization: SentencePiece-style as llama.cpp (`llama` vocabularies) and llama2.c do it, byte-level
//! BPE as GPT-2 does it (`gpt2` vocabularies).

mod bpe;
mod bytes;
mod encode;
mod gpt2;
mod load;
mod split;

pub(crate) use load::TOKENIZER_LIMIT;

use std::collections::HashMap;

use bpe::Bpe;
use load::Specials;

/// What a token is (`enum llama_token_type` in llama.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Found in text.
    Normal,
    /// Marks something; neither found in text nor shown.
    Control,
    /// A single byte.
    Byte(u8),
}

#[derive(Clone, Debug)]
struct Token {
    /// The text that it stands for; a space is a space here, not U+2581 nor U+0120.
    piece: Vec<u8>,
    score: f32,
    kind: TokenKind,
}

/// Text to tokens and back.
///
/// Special tokens are never parsed from text: the text `<s>` is three characters, not a BOS.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    tokens: Vec<Token>,
    scheme: Scheme,
    specials: Specials,
}

/// How a text without special tokens becomes tokens.
#[derive(Clone, Debug)]
enum Scheme {
    SentencePiece(Box<SentencePiece>),
    Bpe(Box<Bpe>),
}

/// What a SentencePiece vocabulary has beside its tokens.
#[derive(Clone, Debug)]
struct SentencePiece {
    /// Pieces that are found in text.
    by_piece: HashMap<Vec<u8>, u32>,
    /// The token of each byte.
    bytes: [Option<u32>; 256],
    add_space_prefix: bool,
    /// Whether it is llama2.c's, else GGUF's.
    llama2c: bool,
}

impl Tokenizer {
    /// Tokens in the vocabulary, which is the model's.
    #[must_use]
    pub fn vocab(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Where the vocabulary came from: `llama` or `gpt2` (both GGUF), or `llama2.c`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.scheme {
            Scheme::Bpe(_) => "gpt2",
            Scheme::SentencePiece(s) if s.llama2c => "llama2.c",
            Scheme::SentencePiece(_) => "llama",
        }
    }

    /// The token that begins a text.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.specials.bos
    }

    /// The token that ends a text.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.specials.eos
    }

    /// Tokens that end a generation: for GGUF end of sequence, and end of turn where there is one;
    /// for llama2.c 1 and 2, since run.c stops at BOS.
    #[must_use]
    pub fn stop_tokens(&self) -> &[u32] {
        &self.specials.stop
    }

    /// The text of `ids` as it follows the token `prev`: the space that [`Tokenizer::encode`] puts
    /// in front of a text is left out after BOS. Bytes are joined before they are read as UTF-8,
    /// and what is no UTF-8 becomes U+FFFD. Control tokens and ids outside the vocabulary give
    /// nothing.
    #[must_use]
    pub fn decode(&self, prev: Option<u32>, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(prev, ids)).into_owned()
    }

    /// [`Tokenizer::decode`] before it is read as UTF-8, for callers that decode piece by piece.
    #[must_use]
    pub fn decode_bytes(&self, mut prev: Option<u32>, ids: &[u32]) -> Vec<u8> {
        let spaced = matches!(&self.scheme, Scheme::SentencePiece(s) if s.add_space_prefix);
        let mut out = Vec::new();
        for &id in ids {
            if let Some(token) = self.tokens.get(id as usize) {
                match token.kind {
                    TokenKind::Control => {}
                    TokenKind::Byte(b) => out.push(b),
                    TokenKind::Normal => {
                        let after_bos = spaced && prev.is_some() && prev == self.bos();
                        let piece = token.piece.as_slice();
                        let piece = if after_bos { piece.strip_prefix(b" ").unwrap_or(piece) } else { piece };
                        out.extend_from_slice(piece);
                    }
                }
            }
            prev = Some(id);
        }
        out
    }

    /// The text of one token on its own, lossily; empty for control tokens.
    #[must_use]
    pub fn piece(&self, id: u32) -> String {
        self.decode(None, &[id])
    }

    /// A deterministic prompt of `n` tokens for measuring: BOS (if there is one), then ordinary
    /// tokens in a fixed sequence.
    #[must_use]
    pub fn synthetic(&self, n: usize) -> Vec<u32> {
        let mut out: Vec<u32> = self.bos().into_iter().take(n).collect();
        let ordinary: Vec<u32> =
            (0..self.vocab()).filter(|&id| self.tokens[id as usize].kind == TokenKind::Normal).collect();
        // 2^32 over the golden ratio: steps through the vocabulary without a short cycle.
        let mut x = 0u32;
        while out.len() < n {
            x = x.wrapping_add(0x9e37_79b9);
            let at = (u64::from(x) * ordinary.len() as u64) >> 32;
            out.push(ordinary.get(at as usize).copied().unwrap_or(0));
        }
        out
    }

    /// Pieces as llama2.c writes them, and scores.
    #[cfg(test)]
    pub(crate) fn export(&self) -> impl Iterator<Item = (Vec<u8>, f32)> + '_ {
        self.tokens.iter().map(|t| {
            let piece = match t.kind {
                TokenKind::Byte(b) => format!("<0x{b:02X}>").into_bytes(),
                _ => t.piece.clone(),
            };
            (piece, t.score)
        })
    }
}
