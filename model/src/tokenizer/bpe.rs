//! Byte pair encoding within a word: of all neighbours that may be merged, the pair of the lowest rank is,
//! the leftmost among equals, until there is none (Sennrich et al. 2016, over bytes as in GPT-2).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use aho_corasick::AhoCorasick;

use super::split::Rule;

/// What a `gpt2` vocabulary has beside its tokens.
#[derive(Clone, Debug)]
pub(super) struct Bpe {
    /// How text is cut into words.
    pub(super) rule: Rule,
    /// The token of each byte. Real vocabularies lack some that only rare scripts need; such a byte is
    /// left out of the text, as `tokenizers` and llama.cpp do.
    pub(super) bytes: [Option<u32>; 256],
    /// What two tokens make, and the rank of that.
    pub(super) merges: HashMap<(u32, u32), Merge>,
    /// Tokens that are found in a text before it is cut into words.
    pub(super) added: Option<Added>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    pub(super) rank: u32,
    pub(super) token: u32,
}

/// Tokens that stand for themselves in a text; the leftmost, longest one counts.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub(super) finder: AhoCorasick,
    /// Ids in the order of the finder's patterns.
    pub(super) ids: Vec<u32>,
}

/// A token of a word, in a list that shrinks as neighbours merge.
#[derive(Clone, Copy)]
struct Symbol {
    /// `NONE` once it was merged into its left neighbour.
    token: u32,
    prev: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// A merge that may be done: by rank, then from the left.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    /// The two tokens when it was found, which tell whether it still holds.
    pair: (u32, u32),
}

impl Bpe {
    /// Appends the tokens of a text.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut start = 0;
        if let Some(added) = &self.added {
            for found in added.finder.find_iter(text) {
                self.encode_words(&text[start..found.start()], out);
                out.push(added.ids[found.pattern().as_usize()]);
                start = found.end();
            }
        }
        self.encode_words(&text[start..], out);
    }

    fn encode_words(&self, text: &str, out: &mut Vec<u32>) {
        for word in self.rule.words(text) {
            self.encode_word(word.as_bytes(), out);
        }
    }

    fn encode_word(&self, word: &[u8], out: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        for token in word.iter().filter_map(|&b| self.bytes[usize::from(b)]) {
            let i = symbols.len() as u32;
            symbols.push(Symbol { token, prev: i.wrapping_sub(1), next: i + 1 });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let mut heap = BinaryHeap::new();
        for left in 1..symbols.len() {
            self.consider(&symbols, left as u32 - 1, &mut heap);
        }
        while let Some(Reverse(Candidate { left, pair, .. })) = heap.pop() {
            let l = symbols[left as usize];
            // One of the two has merged with another neighbour since.
            if l.token != pair.0 || l.next == NONE || symbols[l.next as usize].token != pair.1 {
                continue;
            }
            let Some(merge) = self.merges.get(&pair) else { continue };
            let right = l.next as usize;
            let next = symbols[right].next;
            symbols[right].token = NONE;
            symbols[left as usize] = Symbol { token: merge.token, next, ..l };
            if next != NONE {
                symbols[next as usize].prev = left;
                self.consider(&symbols, left, &mut heap);
            }
            if l.prev != NONE {
                self.consider(&symbols, l.prev, &mut heap);
            }
        }
        out.extend(symbols.iter().map(|s| s.token).filter(|&t| t != NONE));
    }

    /// Whether a symbol may merge with the one after it.
    fn consider(&self, symbols: &[Symbol], left: u32, heap: &mut BinaryHeap<Reverse<Candidate>>) {
        let l = symbols[left as usize];
        let pair = (l.token, symbols[l.next as usize].token);
        if let Some(merge) = self.merges.get(&pair) {
            heap.push(Reverse(Candidate { rank: merge.rank, left, pair }));
        }
    }
}
