//! The fingerprint of a run.

/// FNV-1a, 64 bits, over the little-endian bits of every computed logit vector in order
/// (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogitsHash(u64);

impl Default for LogitsHash {
    fn default() -> Self {
        Self::new()
    }
}

impl LogitsHash {
    /// The hash of nothing: FNV's offset basis.
    #[must_use]
    pub const fn new() -> Self {
        LogitsHash(0xcbf2_9ce4_8422_2325)
    }

    /// Takes in one logit vector.
    pub fn update(&mut self, logits: &[f32]) {
        for l in logits {
            for b in l.to_bits().to_le_bytes() {
                self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }

    /// The hash so far.
    #[must_use]
    pub const fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(LogitsHash::new().finish(), 0xcbf2_9ce4_8422_2325);
        // The bytes of "foob" as one float; FNV-1a-64 of "foob" is published with the algorithm.
        let mut h = LogitsHash::new();
        h.update(&[f32::from_le_bytes(*b"foob")]);
        assert_eq!(h.finish(), 0xdd12_0e79_0c25_12af);
        let mut split = LogitsHash::new();
        split.update(&[1.0]);
        split.update(&[2.0]);
        let mut whole = LogitsHash::new();
        whole.update(&[1.0, 2.0]);
        assert_eq!(split, whole);
    }
}
