//! Vocabularies from GGUF metadata and from llama2.c's `tokenizer.bin`.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Scheme, SentencePiece, Token, TokenKind, Tokenizer};
use crate::ModelError;
use crate::gguf::Gguf;
use crate::gguf::source::HEADER_LIMIT;
use crate::gguf::value::{STRING_COST, STRING_GROWTH, Strings, Value};

/// Names of tokens that end a turn; llama.cpp looks for the same ones among others.
const END_OF_TURN: &[&[u8]] =
    &[b"<|eot_id|>", b"<|im_end|>", b"<|end|>", b"<end_of_turn>", b"<|endoftext|>", b"<EOT>"];

/// No vocabulary comes near this; llama's 32,000 tokens take 424 KiB.
pub(crate) const TOKENIZER_LIMIT: usize = 64 << 20;

pub(super) fn bad(what: impl Into<String>) -> ModelError {
    ModelError::invalid("gguf", what)
}

/// The arrays of a GGUF file's vocabulary, as long as each other.
pub(super) struct Vocabulary<'g> {
    pub(super) pieces: &'g Strings,
    /// Numbers of `enum llama_token_type`.
    pub(super) types: Cow<'g, [i64]>,
}

impl<'g> Vocabulary<'g> {
    pub(super) fn of(g: &'g Gguf, vocab: u32) -> Result<Self, ModelError> {
        let Some(Value::Strings(pieces)) = g.meta.get("tokenizer.ggml.tokens") else {
            return Err(bad("tokenizer.ggml.tokens is no array of strings"));
        };
        let types: Cow<'g, [i64]> = match g.meta.get("tokenizer.ggml.token_type") {
            None => vec![1; pieces.len()].into(),
            Some(Value::I32s(types)) => types.into(),
            Some(_) => return Err(bad("tokenizer.ggml.token_type is no array of i32")),
        };
        if pieces.len() as u64 != u64::from(vocab) {
            return Err(ModelError::VocabMismatch { tokens: pieces.len() as u64, vocab: vocab.into() });
        }
        if types.len() != pieces.len() {
            return Err(bad(format!("{} tokens have {} types", pieces.len(), types.len())));
        }
        Ok(Self { pieces, types })
    }
}

/// Special tokens, and which of them a text gets.
#[derive(Clone, Debug)]
pub(super) struct Specials {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unk: Option<u32>,
    pub(super) stop: Vec<u32>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
}

/// What holds where a file says nothing.
pub(super) struct Defaults {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unk: Option<u32>,
    pub(super) add_bos: bool,
}

impl Specials {
    /// Those of a GGUF file.
    pub(super) fn of(g: &Gguf, tokens: &[Token], defaults: Defaults) -> Result<Self, ModelError> {
        let vocab = tokens.len() as u32;
        let special = |key: &str, default: Option<u32>| -> Result<Option<u32>, ModelError> {
            match g.uint(&format!("tokenizer.ggml.{key}"))? {
                // llama.cpp's converters write 2^32 - 1 for none.
                Some(n) if n == u64::from(u32::MAX) => Ok(None),
                Some(n) if n < u64::from(vocab) => Ok(Some(n as u32)),
                Some(n) => Err(bad(format!("tokenizer.ggml.{key} is {n}, vocabulary {vocab}"))),
                None => Ok(default.filter(|&n| n < vocab)),
            }
        };
        let eos = special("eos_token_id", defaults.eos)?;
        let mut stop: Vec<u32> = eos.into_iter().collect();
        stop.extend(special("eot_token_id", None)?);
        stop.extend((0..vocab).filter(|&id| {
            let t = &tokens[id as usize];
            t.kind == TokenKind::Control && END_OF_TURN.contains(&t.piece.as_slice())
        }));
        stop.sort_unstable();
        stop.dedup();
        Ok(Self {
            bos: special("bos_token_id", defaults.bos)?,
            eos,
            unk: special("unknown_token_id", defaults.unk)?,
            stop,
            add_bos: flag(g, "add_bos_token", defaults.add_bos)?,
            add_eos: flag(g, "add_eos_token", false)?,
        })
    }
}

fn flag(g: &Gguf, key: &str, default: bool) -> Result<bool, ModelError> {
    Ok(g.bool(&format!("tokenizer.ggml.{key}"))?.unwrap_or(default))
}

impl Tokenizer {
    /// The vocabulary of a GGUF file.
    pub(crate) fn from_gguf(g: &Gguf, vocab: u32) -> Result<Self, ModelError> {
        match g.str("tokenizer.ggml.model") {
            Some("llama") => Self::from_sentencepiece(g, vocab),
            Some("gpt2") => Self::from_gpt2(g, vocab),
            Some(other) => Err(ModelError::unsupported(
                "tokenizer",
                other,
                "llama (SentencePiece), gpt2 (byte-level BPE)",
            )),
            None => Err(bad("metadata key tokenizer.ggml.model is missing")),
        }
    }

    fn from_sentencepiece(g: &Gguf, vocab: u32) -> Result<Self, ModelError> {
        let Vocabulary { pieces, types } = Vocabulary::of(g, vocab)?;
        let Some(Value::F32s(scores)) = g.meta.get("tokenizer.ggml.scores") else {
            return Err(bad("tokenizer.ggml.scores is no array of f32"));
        };
        if scores.len() != pieces.len() {
            return Err(bad(format!("{} tokens have {} scores", pieces.len(), scores.len())));
        }
        let mut tokens = Vec::with_capacity(pieces.len());
        for ((piece, &score), &ty) in pieces.iter().zip(scores).zip(&*types) {
            let kind =
                match ty {
                    // Normal, user defined, and unused, which SentencePiece finds in text as well.
                    1 | 4 | 5 => TokenKind::Normal,
                    // Unknown and control.
                    2 | 3 => TokenKind::Control,
                    6 => TokenKind::Byte(byte_of(piece).ok_or_else(|| {
                        bad(format!("byte token {} is none", String::from_utf8_lossy(piece)))
                    })?),
                    other => return Err(bad(format!("token type {other} is unknown"))),
                };
            tokens.push(Token { piece: unescape(piece), score, kind });
        }
        let defaults = Defaults { bos: Some(1), eos: Some(2), unk: Some(0), add_bos: true };
        let specials = Specials::of(g, &tokens, defaults)?;
        let add_space_prefix = flag(g, "add_space_prefix", true)?;
        Self::index("gguf", tokens, specials, add_space_prefix, false)
    }

    /// llama2.c's `tokenizer.bin`: the longest token's length as i32; then for each token its
    /// score as f32, its length as i32 and its bytes. The vocabulary's size is the model's.
    pub(crate) fn from_llama2c(bytes: &[u8], vocab: u32) -> Result<Self, ModelError> {
        const FORMAT: &str = "tokenizer.bin";
        let bad = |what: String| ModelError::invalid(FORMAT, what);
        if bytes.len() > TOKENIZER_LIMIT {
            let what = "the tokenizer file".to_owned();
            return Err(ModelError::TooLarge { what, limit: TOKENIZER_LIMIT as u64 });
        }
        let cut = |what: &str, needed: usize| ModelError::Truncated {
            format: FORMAT,
            what: what.to_owned(),
            needed: needed as u64,
            have: bytes.len() as u64,
        };
        let Some((head, mut rest)) = bytes.split_first_chunk() else {
            return Err(cut("the longest token's length", 4));
        };
        let longest = i32::from_le_bytes(*head);
        if !(1..=1 << 16).contains(&longest) {
            return Err(bad(format!("its longest token has {longest} bytes")));
        }
        let mut tokens = Vec::new();
        let mut count = 0u64;
        let mut cost = bytes.len() as u64;
        while !rest.is_empty() {
            let what = || format!("token {count}");
            let at = bytes.len() - rest.len();
            let Some((head, tail)) = rest.split_first_chunk::<8>() else {
                return Err(cut(&what(), at + 8));
            };
            let score = f32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            let len = i32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let n = usize::try_from(len)
                .ok()
                .filter(|_| len <= longest)
                .ok_or_else(|| bad(format!("token {count} has {len} bytes")))?;
            let Some((piece, tail)) = tail.split_at_checked(n) else {
                return Err(cut(&what(), at + 8 + n));
            };
            cost += STRING_COST + STRING_GROWTH * n as u64;
            if cost > HEADER_LIMIT {
                let what = "the tokenizer, decoded,".to_owned();
                return Err(ModelError::TooLarge { what, limit: HEADER_LIMIT });
            }
            // 0 to 2 are <unk>, BOS and EOS in every llama2.c vocabulary.
            let kind = match byte_of(piece) {
                _ if count < 3 => TokenKind::Control,
                Some(b) => TokenKind::Byte(b),
                None => TokenKind::Normal,
            };
            if count < u64::from(vocab) {
                tokens.push(Token { piece: piece.to_vec(), score, kind });
            }
            count += 1;
            rest = tail;
        }
        if count != u64::from(vocab) {
            return Err(ModelError::VocabMismatch { tokens: count, vocab: vocab.into() });
        }
        let specials = Specials {
            bos: (vocab > 1).then_some(1),
            eos: (vocab > 2).then_some(2),
            unk: Some(0),
            stop: [1, 2].into_iter().filter(|&id| id < vocab).collect(),
            add_bos: true,
            add_eos: false,
        };
        Self::index(FORMAT, tokens, specials, true, true)
    }

    /// Makes the lookup tables. Of tokens with the same piece the lowest id counts.
    fn index(
        format: &'static str,
        mut tokens: Vec<Token>,
        specials: Specials,
        add_space_prefix: bool,
        llama2c: bool,
    ) -> Result<Self, ModelError> {
        // At once: a table that grows is there twice for a moment.
        let mut by_piece = HashMap::with_capacity(tokens.len());
        let mut bytes = [None; 256];
        for (id, t) in tokens.iter_mut().enumerate() {
            // Makes -0 and 0 the same to a total order.
            t.score += 0.0;
            if !t.score.is_finite() {
                return Err(ModelError::invalid(format, format!("token {id} has no finite score")));
            }
            match t.kind {
                TokenKind::Control => {}
                TokenKind::Byte(b) => {
                    bytes[usize::from(b)].get_or_insert(id as u32);
                }
                TokenKind::Normal => {
                    by_piece.entry(t.piece.clone()).or_insert(id as u32);
                }
            }
        }
        let scheme = SentencePiece { by_piece, bytes, add_space_prefix, llama2c };
        Ok(Self { tokens, scheme: Scheme::SentencePiece(Box::new(scheme)), specials })
    }
}

/// The byte that `<0xAB>` names.
fn byte_of(piece: &[u8]) -> Option<u8> {
    let hex = piece.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let hex = std::str::from_utf8(hex).ok().filter(|h| h.len() == 2 && !h.starts_with('+'))?;
    u8::from_str_radix(hex, 16).ok()
}

/// A piece with U+2581, which stands for a space, made one.
fn unescape(piece: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(piece) {
        Ok(s) => s.replace('\u{2581}', " ").into_bytes(),
        Err(_) => piece.to_vec(),
    }
}
