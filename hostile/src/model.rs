//! Model files, and what is made of them.

use edgeprof_engine::image::{HEADER_LEN, seal, seal_header};
use edgeprof_model::{Header, KvType, Model, Quant, build_image, inspect_bytes, reference};

/// A GGUF file: everything that is done with one.
pub(crate) fn gguf(bytes: &[u8]) {
    let _ = inspect_bytes(bytes);
    let _ = Header::parse(bytes);
    if let Ok(model) = Model::load(bytes, None) {
        run(&model, "the end, 🦀");
    }
}

/// The length of a `tokenizer.bin` as u32, that file, and a llama2.c model.
pub(crate) fn llama2c(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk() else { return };
    let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX).min(rest.len());
    let (tokenizer, model) = rest.split_at(len);
    let _ = inspect_bytes(model);
    if let Ok(model) = Model::load(model, Some(tokenizer)) {
        run(&model, "the end, 🦀");
    }
}

/// A vocabulary size as u16, the length of a text as u16, the text, and a `tokenizer.bin`: the model
/// around it is sound.
pub(crate) fn tokenizer(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return };
    let vocab = u16::from_le_bytes([head[0], head[1]]) % 2048;
    let len = usize::from(u16::from_le_bytes([head[2], head[3]])).min(rest.len());
    let (text, file) = rest.split_at(len);
    let text = String::from_utf8_lossy(text);
    let Ok(model) = Model::load(&small_llama2c(u32::from(vocab)), Some(file)) else { return };
    let tokenizer = model.tokenizer();
    assert_eq!(tokenizer.vocab(), u32::from(vocab));
    let ids = [tokenizer.encode(&text), tokenizer.encode_prompt(&text), tokenizer.synthetic(16)];
    for ids in &ids {
        assert!(ids.iter().all(|id| *id < u32::from(vocab).max(1)), "{ids:?} of {vocab}");
        let _ = tokenizer.decode(tokenizer.bos(), ids);
    }
    let _ = tokenizer.decode(Some(u32::MAX), &[0, u32::MAX, u32::from(vocab)]);
    let vocabulary = edgeprof_coordinator::preparing::Vocabulary::of(tokenizer);
    assert_eq!(vocabulary.text(tokenizer.bos(), &ids[0]), tokenizer.decode(tokenizer.bos(), &ids[0]));
}

/// Zeros for weights: 8 dimensions, one layer, one head.
pub(crate) fn small_llama2c(vocab: u32) -> Vec<u8> {
    const DIM: u32 = 8;
    let head = [DIM, DIM, 1, 1, 1, vocab, 16];
    let weights = vocab * DIM + DIM + 4 * DIM * DIM + DIM + 3 * DIM * DIM + DIM + 16 * DIM;
    let mut file: Vec<u8> = head.iter().flat_map(|n| n.to_le_bytes()).collect();
    file.resize(file.len() + weights as usize * 4, 0);
    file
}

/// A board image as it is, and once more with checksums that agree, so that what they hide is reached.
pub(crate) fn image(bytes: &[u8]) {
    let _ = try_image(bytes);
    let mut sealed = bytes.to_vec();
    if sealed.len() < HEADER_LEN {
        return;
    }
    let total = (sealed.len() as u64).to_le_bytes();
    sealed[8..16].copy_from_slice(&total);
    // Sealed if the header says enough to; else as far as it can be.
    if seal(&mut sealed).is_err() {
        let payload = edgeprof_engine::image::crc32(&sealed[HEADER_LEN..]);
        let _ = seal_header(&mut sealed, payload);
    }
    let _ = try_image(&sealed);
}

fn try_image(image: &[u8]) -> Result<reference::Outcome, edgeprof_model::ModelError> {
    reference::run(image, &request(&[0, 1]))
}

fn request(prompt: &[u32]) -> reference::Request<'_> {
    reference::Request {
        prompt,
        n_gen: 2,
        temperature: 0.5,
        seed: 1,
        stop_tokens: &[],
        ctx: 4,
        kv: KvType::I8,
    }
}

/// A model that was let in must be usable to the end: an error is fine, a panic is not.
fn run(model: &Model, text: &str) {
    let tokenizer = model.tokenizer();
    let ids = tokenizer.encode(text);
    let _ = (tokenizer.decode(tokenizer.bos(), &ids), tokenizer.synthetic(8));
    for quant in Quant::ALL {
        if let Ok(image) = build_image(model, quant) {
            assert_eq!(image.len() as u64, edgeprof_model::image_bytes(model.header(), quant));
            let prompt: Vec<u32> = ids.iter().copied().take(2).collect();
            let _ = reference::run(&image, &request(&prompt));
        }
    }
}
