//! GPT-2's way to write any byte as a printable character: in a vocabulary all text is made of these 256.
//!
//! A byte that is printable in Latin-1 stands for itself; the others take the code points from 256 on,
//! in their order (`bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>).

/// Whether a byte stands for itself.
const fn printable(b: u8) -> bool {
    matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The byte that each code point below [`TABLE_LEN`] stands for.
static TABLE: [Option<u8>; TABLE_LEN] = table();

/// 256, and one for each of the 68 bytes that are not printable.
const TABLE_LEN: usize = 256 + 68;

const fn table() -> [Option<u8>; TABLE_LEN] {
    let mut table = [None; TABLE_LEN];
    let (mut b, mut next) = (0, 256);
    while b < 256 {
        if printable(b as u8) {
            table[b] = Some(b as u8);
        } else {
            table[next] = Some(b as u8);
            next += 1;
        }
        b += 1;
    }
    table
}

/// The bytes that a piece of a vocabulary stands for; `None` if a character stands for no byte.
pub(super) fn decode(piece: &str) -> Option<Vec<u8>> {
    piece.chars().map(|c| TABLE.get(c as usize).copied().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut seen: Vec<u8> = TABLE.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert!(TABLE[256..].iter().all(Option::is_some));
        // As in any GPT-2 vocabulary.
        assert_eq!(decode("ĠtheĊ").unwrap(), b" the\n");
        assert_eq!(decode("Ã©").unwrap(), "é".as_bytes());
        assert_eq!(decode("a b"), None);
        assert_eq!(decode("▁"), None);
    }
}
