//! A model that says nothing and fits every board, for trials: llama2.c's format, one layer, a byte vocabulary.

const DIM: usize = 32;
const HIDDEN: usize = 32;
const HEADS: usize = 2;
const VOCABULARY: usize = 259;
const CONTEXT: usize = 16;

/// A `model.bin` with weights that are always the same.
#[must_use]
pub fn model() -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in [DIM, HIDDEN, 1, HEADS, HEADS, VOCABULARY, CONTEXT] {
        bytes.extend((n as u32).to_le_bytes());
    }
    // Embedding; two norms, four attention and three feed-forward matrices; last norm; two skipped tables.
    let layer = 2 * DIM + 4 * DIM * DIM + 3 * DIM * HIDDEN;
    let floats = VOCABULARY * DIM + layer + DIM + CONTEXT * (DIM / HEADS);
    let mut x = 1_u32;
    for _ in 0..floats {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend(((x >> 16) as f32 / 65_536.0 - 0.5).to_le_bytes());
    }
    bytes
}

/// Its `tokenizer.bin`.
#[must_use]
pub fn tokenizer() -> Vec<u8> {
    let mut bytes = 8_u32.to_le_bytes().to_vec();
    for id in 0..VOCABULARY {
        let piece = match id {
            0 => "<unk>".to_owned(),
            1 => "\n<s>\n".to_owned(),
            2 => "\n</s>\n".to_owned(),
            _ => format!("<0x{:02X}>", id - 3),
        };
        bytes.extend(0_f32.to_le_bytes());
        bytes.extend((piece.len() as u32).to_le_bytes());
        bytes.extend(piece.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn it_is_a_model_with_its_tokenizer() {
        let model = Model::load(&model(), Some(&tokenizer())).unwrap();
        assert_eq!(model.tokenizer().encode_prompt("a").last(), Some(&(u32::from(b'a') + 3)));
    }
}
