//! Vocabularies from GGUF metadata whose `tokenizer.ggml.model` is `gpt2`.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::bpe::{Added, Bpe, Merge};
use super::load::{Defaults, Specials, Vocabulary, bad};
use super::split::{NAMES, Rule};
use super::{Scheme, Token, TokenKind, Tokenizer, bytes};
use crate::ModelError;
use crate::gguf::Gguf;
use crate::gguf::value::Value;

/// Tokens that are found in text as they stand; sound vocabularies have some hundred short ones. The
/// automaton that finds them takes memory for each of their bytes.
const MAX_ADDED: usize = 8192;
const MAX_ADDED_BYTES: usize = 1 << 20;

impl Tokenizer {
    pub(super) fn from_gpt2(g: &Gguf, vocab: u32) -> Result<Self, ModelError> {
        let Some(name) = g.str("tokenizer.ggml.pre") else {
            return Err(bad("metadata key tokenizer.ggml.pre is missing"));
        };
        let Some(rule) = Rule::named(name) else {
            return Err(ModelError::unsupported("tokenizer.ggml.pre", name, NAMES));
        };
        let v = Vocabulary::of(g, vocab)?;
        let mut tokens = Vec::with_capacity(v.pieces.len());
        let mut by_bytes: HashMap<Vec<u8>, u32> = HashMap::with_capacity(v.pieces.len());
        let mut added = Vec::new();
        for (id, (piece, &ty)) in (0..).zip(v.pieces.iter().zip(&*v.types)) {
            let kind = match ty {
                1 | 4..=6 => TokenKind::Normal,
                2 | 3 => TokenKind::Control,
                other => return Err(bad(format!("token type {other} is unknown"))),
            };
            let text = std::str::from_utf8(piece).unwrap_or_default();
            let piece = match (ty, bytes::decode(text)) {
                // User defined: found in text as it stands. What is no UTF-8 is in no text.
                (4, _) if !text.is_empty() => {
                    added.push((piece.to_vec(), id));
                    piece.to_vec()
                }
                // Of tokens with the same piece the lowest id counts.
                (1 | 5 | 6, Some(decoded)) if !text.is_empty() => {
                    by_bytes.entry(decoded.clone()).or_insert(id);
                    decoded
                }
                _ => piece.to_vec(),
            };
            tokens.push(Token { piece, score: 0.0, kind });
        }
        let bytes = std::array::from_fn(|b| by_bytes.get(&[b as u8][..]).copied());
        let merges = merges(g, &by_bytes)?;
        drop(by_bytes);
        let bpe = Bpe { rule, bytes, merges, added: finder(added)? };
        let specials =
            Specials::of(g, &tokens, Defaults { bos: None, eos: None, unk: None, add_bos: false })?;
        Ok(Self { tokens, scheme: Scheme::Bpe(Box::new(bpe)), specials })
    }
}

/// The merges, in the order of their ranks; each is two pieces with a space between.
fn merges(g: &Gguf, by_bytes: &HashMap<Vec<u8>, u32>) -> Result<HashMap<(u32, u32), Merge>, ModelError> {
    let Some(Value::Strings(list)) = g.meta.get("tokenizer.ggml.merges") else {
        return Err(bad("tokenizer.ggml.merges is no array of strings"));
    };
    let mut out = HashMap::with_capacity(list.len());
    for (rank, merge) in (0..).zip(list.iter()) {
        let wrong = |what: &str| {
            let merge = String::from_utf8_lossy(merge);
            bad(format!(
                "merge {rank} of the tokenizer, {:?}, {what}",
                merge.chars().take(80).collect::<String>()
            ))
        };
        let text = std::str::from_utf8(merge).map_err(|_| wrong("is not UTF-8"))?;
        let (left, right) = text.split_once(' ').ok_or_else(|| wrong("is no pair"))?;
        let decode =
            |piece| bytes::decode(piece).ok_or_else(|| wrong("has characters that stand for no byte"));
        let (mut left, right) = (decode(left)?, decode(right)?);
        let id = |piece: &[u8]| by_bytes.get(piece).copied().ok_or_else(|| wrong("names no token"));
        let pair = (id(&left)?, id(&right)?);
        left.extend_from_slice(&right);
        let token = id(&left)?;
        out.entry(pair).or_insert(Merge { rank, token });
    }
    Ok(out)
}

fn finder(added: Vec<(Vec<u8>, u32)>) -> Result<Option<Added>, ModelError> {
    if added.is_empty() {
        return Ok(None);
    }
    let size: usize = added.iter().map(|(piece, _)| piece.len()).sum();
    if added.len() > MAX_ADDED || size > MAX_ADDED_BYTES {
        return Err(bad(format!("{} tokens of {size} bytes are user defined", added.len())));
    }
    let finder = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        // Left to itself it takes a table of a KiB for each byte of a few long patterns.
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(added.iter().map(|(piece, _)| piece))
        .map_err(|e| bad(format!("its user-defined tokens: {e}")))?;
    Ok(Some(Added { finder, ids: added.into_iter().map(|(_, id)| id).collect() }))
}
