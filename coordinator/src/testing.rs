//! A model small enough for every test. Test code only.

/// A llama2.c model of one layer over a byte vocabulary, and its tokenizer.
pub(crate) fn tiny_model() -> (Vec<u8>, Vec<u8>) {
    const DIM: u32 = 32;
    const VOCAB: u32 = 262;
    const CTX: u32 = 64;
    // dim, hidden, layers, heads, key/value heads, vocabulary, context
    let header = [DIM, 32, 1, 2, 2, VOCAB, CTX];
    let mut model: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
    let square = DIM * DIM;
    // Embedding, norms, four attention and three feed-forward matrices, last norm, two skipped tables.
    let weights = VOCAB * DIM + DIM + 4 * square + DIM + 3 * square + DIM + CTX * (DIM / 2);
    let mut x = 1u32;
    for _ in 0..weights {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let weight = ((x >> 16) as f32 / 65_536.0 - 0.5) * 0.5;
        model.extend(weight.to_le_bytes());
    }
    let mut tokenizer = 8u32.to_le_bytes().to_vec();
    for id in 0..VOCAB {
        let piece = match id {
            0 => "<unk>".to_owned(),
            1 => "\n<s>\n".to_owned(),
            2 => "\n</s>\n".to_owned(),
            3..259 => format!("<0x{:02X}>", id - 3),
            _ => [" ", "a", " b"][(id - 259) as usize].to_owned(),
        };
        tokenizer.extend(0f32.to_le_bytes());
        tokenizer.extend(u32::try_from(piece.len()).expect("short").to_le_bytes());
        tokenizer.extend(piece.as_bytes());
    }
    (model, tokenizer)
}
