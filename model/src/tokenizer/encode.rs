//! Text to tokens: characters, then the best-scoring adjacent pair is merged until none is left.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{Scheme, SentencePiece, Token, Tokenizer};

const NONE: usize = usize::MAX;

/// A stretch of the text, in a list that shrinks as neighbours merge.
struct Symbol {
    start: usize,
    /// Empty once it was merged into its left neighbour.
    len: usize,
    prev: usize,
    next: usize,
}

/// Two neighbours that make a token.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Pair {
    /// The highest score first, the leftmost among equals.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}
impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Pair {}

impl Tokenizer {
    /// The tokens of `text`, with BOS and EOS where the model wants them.
    ///
    /// The pieces of a `llama` vocabulary write a space as U+2581 and cannot tell the two apart: a
    /// U+2581 in the text comes back as a space.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut out = Vec::new();
        if self.specials.add_bos {
            out.extend(self.bos());
        }
        self.encode_text(text, &mut out);
        if self.specials.add_eos {
            out.extend(self.eos());
        }
        out
    }

    /// The tokens of `text` as a prompt that is to be continued: no EOS, and BOS alone for an
    /// empty text, also where the model asks for none.
    #[must_use]
    pub fn encode_prompt(&self, text: &str) -> Vec<u32> {
        let begin = self.specials.add_bos || text.is_empty();
        let mut out: Vec<u32> = self.bos().into_iter().filter(|_| begin).collect();
        self.encode_text(text, &mut out);
        out
    }

    fn encode_text(&self, text: &str, out: &mut Vec<u32>) {
        match &self.scheme {
            Scheme::SentencePiece(s) => s.encode(&self.tokens, self.specials.unk, text, out),
            Scheme::Bpe(bpe) => bpe.encode(text, out),
        }
    }
}

impl SentencePiece {
    fn encode(&self, tokens: &[Token], unk: Option<u32>, text: &str, out: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut owned = String::with_capacity(text.len() + 1);
        if self.add_space_prefix {
            owned.push(' ');
        }
        owned.push_str(text);
        if !self.llama2c {
            owned = owned.replace('\u{2581}', " ");
        }
        let text = owned.as_bytes();
        let mut symbols: Vec<Symbol> = owned
            .char_indices()
            .enumerate()
            .map(|(i, (start, c))| Symbol {
                start,
                len: c.len_utf8(),
                prev: i.checked_sub(1).unwrap_or(NONE),
                next: i + 1,
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let mut heap = BinaryHeap::new();
        for i in 1..symbols.len() {
            self.consider(tokens, text, &symbols, i - 1, i, &mut heap);
        }
        while let Some(Pair { left, right, len, .. }) = heap.pop() {
            let (l, r) = (&symbols[left], &symbols[right]);
            // One of the two has merged with another neighbour since.
            if l.len == 0 || r.len == 0 || l.len + r.len != len || l.next != right {
                continue;
            }
            let (prev, next) = (l.prev, r.next);
            symbols[left].len = len;
            symbols[left].next = next;
            symbols[right].len = 0;
            if next != NONE {
                symbols[next].prev = left;
                self.consider(tokens, text, &symbols, left, next, &mut heap);
            }
            if prev != NONE {
                self.consider(tokens, text, &symbols, prev, left, &mut heap);
            }
        }
        for s in symbols.iter().filter(|s| s.len > 0) {
            let piece = &text[s.start..s.start + s.len];
            match self.by_piece.get(piece) {
                Some(&id) => out.push(id),
                None => self.fall_back(piece, unk, out),
            }
        }
    }

    fn consider(
        &self,
        tokens: &[Token],
        text: &[u8],
        symbols: &[Symbol],
        left: usize,
        right: usize,
        heap: &mut BinaryHeap<Pair>,
    ) {
        let (l, r) = (&symbols[left], &symbols[right]);
        let len = l.len + r.len;
        if let Some(&id) = self.by_piece.get(&text[l.start..l.start + len]) {
            heap.push(Pair { score: tokens[id as usize].score, left, right, len });
        }
    }

    /// A character that is no token: its bytes, or the unknown token where bytes have none.
    fn fall_back(&self, piece: &[u8], unk: Option<u32>, out: &mut Vec<u32>) {
        let bytes: Option<Vec<u32>> = piece.iter().map(|&b| self.bytes[usize::from(b)]).collect();
        match bytes {
            Some(ids) => out.extend(ids),
            None => out.extend(unk),
        }
    }
}
