//! A set of places in the order of submission that counts fast what lies before one.

use std::collections::BTreeMap;

/// Places in one chunk.
const CHUNK: u64 = 1024;

#[derive(Clone, Debug)]
struct Chunk {
    count: usize,
    bits: Box<[u64; (CHUNK / 64) as usize]>,
}

/// Bitmaps of places, with a count each, so that a place among a hundred thousand is found in a hundred looks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    chunks: BTreeMap<u64, Chunk>,
    len: usize,
}

const fn split(place: u64) -> (u64, usize, u64) {
    (place / CHUNK, (place % CHUNK / 64) as usize, 1 << (place % 64))
}

impl Places {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, place: u64) {
        let (chunk, word, bit) = split(place);
        let chunk = self.chunks.entry(chunk).or_insert_with(|| Chunk { count: 0, bits: Box::default() });
        if chunk.bits[word] & bit == 0 {
            chunk.bits[word] |= bit;
            chunk.count += 1;
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, place: u64) {
        let (number, word, bit) = split(place);
        let Some(chunk) = self.chunks.get_mut(&number) else { return };
        if chunk.bits[word] & bit != 0 {
            chunk.bits[word] &= !bit;
            chunk.count -= 1;
            self.len -= 1;
            if chunk.count == 0 {
                self.chunks.remove(&number);
            }
        }
    }

    /// How many are lower than this one.
    pub(crate) fn before(&self, place: u64) -> usize {
        let (number, word, bit) = split(place);
        let whole: usize = self.chunks.range(..number).map(|(_, chunk)| chunk.count).sum();
        let part = self.chunks.get(&number).map_or(0, |chunk| {
            let words: u32 = chunk.bits[..word].iter().map(|word| word.count_ones()).sum();
            (words + (chunk.bits[word] & (bit - 1)).count_ones()) as usize
        });
        whole + part
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_as_a_set_does(steps in proptest::collection::vec((any::<bool>(), 0..5000_u64), 0..300)) {
            let (mut places, mut set) = (Places::default(), BTreeSet::new());
            for (add, place) in steps {
                if add {
                    places.insert(place);
                    set.insert(place);
                } else {
                    places.remove(place);
                    set.remove(&place);
                }
                prop_assert_eq!(places.len(), set.len());
                prop_assert_eq!(places.before(place), set.range(..place).count());
            }
        }
    }
}
