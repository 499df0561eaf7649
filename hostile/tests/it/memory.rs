//! The bound on memory, measured: at most 256 MiB for metadata and twice the bytes of the tensors.

use std::{fs::File, io::Write, path::Path};

use edgeprof_hostile::{allocation, memory_bound};
use edgeprof_model::{Header, Model, ModelError, Quant, Tokenizer, build_image, inspect};

use super::models::{Gguf, Type, entry, list, llama2c, string, tokenizer_bin};

/// Writes a file whose bytes after `head` are zeros up to `len`, which take no room on the disk.
fn sparse(path: &Path, head: &[u8], len: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(head).unwrap();
    file.set_len(len).unwrap();
}

/// Everything that opening a file may do, and how much memory that took.
fn opened(path: &Path) -> (Result<(), ModelError>, u64) {
    let mut outcome = Ok(());
    let took = allocation::peak(|| {
        let _ = inspect(path);
        let _ = Header::open(path);
        let _ = Tokenizer::open(path, None);
        outcome = Model::open(path, None).map(drop);
    });
    (outcome, took)
}

/// Metadata that is as large as it says: a list of tokens, each with nothing or a byte in it.
#[test]
fn metadata_takes_at_most_256_mib_however_large_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let cases: [(&str, u32, u64); 5] = [
        // Zeros are empty strings: eight bytes in the file, a four-byte end in memory.
        ("tokenizer.ggml.tokens", 8, 60_000_000),
        ("tokenizer.ggml.tokens", 8, 500_000_000),
        ("tokenizer.ggml.scores", 6, 66_000_000),
        ("tokenizer.ggml.token_type", 5, 33_000_000),
        // Walked over, not kept.
        ("some.key", 10, 500_000_000),
    ];
    for (key, ty, count) in cases {
        let mut sound = Gguf::sound(3, Type::F32, 8);
        sound.meta.retain(|meta| !meta.starts_with(&string(key)));
        sound.meta.push(entry(key, 9, &list(ty, count, &[])));
        let head = sound.head();
        // The key is the last one; what follows is its zeros.
        let at = head.windows(key.len()).rposition(|w| w == key.as_bytes()).unwrap() + key.len() + 16;
        sparse(&path, &head[..at], at as u64 + count * 8);
        let (outcome, took) = opened(&path);
        println!("{key}: {count} items of type {ty}: {took} bytes, {:?}", outcome.as_ref().err());
        assert!(outcome.is_err(), "{key}");
        assert!(took <= memory_bound(0), "{key}: {count} items took {took} bytes");
    }
}

/// Numbers that promise much and are followed by nothing.
#[test]
fn a_lie_about_a_length_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (at, n) in [(8, u64::MAX), (8, 1 << 40), (16, u64::MAX), (16, 65_000), (24, u64::MAX)] {
        let mut file = Gguf::sound(3, Type::F32, 8).file();
        file[at..at + 8].copy_from_slice(&n.to_le_bytes());
        std::fs::write(&path, &file).unwrap();
        let (outcome, took) = opened(&path);
        assert!(outcome.is_err() && took < 1 << 20, "{n} at {at}: {took} bytes, {outcome:?}");
    }
}

/// 100 MB of weights: in both formats, to be kept as they are or requantized, image included.
#[test]
fn weights_take_at_most_twice_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let file = large_gguf(30_000, 1_600);
    sparse(&path, &file.head, file.len);
    for quant in [Quant::Native, Quant::Q8_0, Quant::Q4_0] {
        let mut image = 0;
        let took = allocation::peak(|| {
            let model = Model::open(&path, None).unwrap();
            image = build_image(&model, quant).unwrap().len();
        });
        println!("gguf, {} bytes, as {quant}: image {image} bytes, {took} bytes taken", file.len);
        assert!(took <= memory_bound(file.len), "{quant}: {took} bytes for a file of {}", file.len);
    }
    let (model, tokenizer) = (folder.path().join("model.bin"), folder.path().join("tokenizer.bin"));
    let mut head = llama2c(8, 8, 1, 8, 16)[..28].to_vec();
    let (dim, vocab) = (1_024_u32, 16_384_u32);
    for (at, n) in [(0, dim), (4, dim), (20, vocab), (24, 16)] {
        head[at..at + 4].copy_from_slice(&n.to_le_bytes());
    }
    // One head of 1,024 dimensions is more than there may be.
    head[12..20].copy_from_slice(&[16, 0, 0, 0, 16, 0, 0, 0]);
    let layer = u64::from(dim + 4 * dim * dim + dim + 3 * dim * dim);
    let len = 28 + 4 * (u64::from(vocab * dim) + layer + u64::from(dim) + u64::from(16 * (dim / 16)));
    sparse(&model, &head, len);
    std::fs::write(&tokenizer, tokenizer_bin(vocab)).unwrap();
    for quant in [Quant::Native, Quant::Q8_0] {
        let took = allocation::peak(|| {
            let model = Model::open(&model, Some(&tokenizer)).unwrap();
            build_image(&model, quant).unwrap();
        });
        println!("llama2.c, {len} bytes, as {quant}: {took} bytes taken");
        assert!(took <= memory_bound(len), "{quant}: {took} bytes for a file of {len}");
    }
}

/// A sound model that is mostly vocabulary, up to what is refused, and a tokenizer file that is.
#[test]
fn a_vocabulary_counts_as_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (vocab, sound) in [(300_000, true), (900_000, true), (3_000_000, false)] {
        let file = large_gguf(vocab, 64);
        sparse(&path, &file.head, file.len);
        let (outcome, took) = opened(&path);
        println!("{vocab} tokens: {took} bytes, {:?}", outcome.as_ref().err());
        assert_eq!(outcome.is_ok(), sound, "{outcome:?}");
        assert!(took <= memory_bound(file.len - file.head.len() as u64), "{vocab} tokens took {took} bytes");
    }
    let (model, tokenizer) = (folder.path().join("model.bin"), folder.path().join("tokenizer.bin"));
    for (vocab, sound) in [(900_000, true), (3_000_000, false)] {
        let file = llama2c(8, 8, 1, vocab, 16);
        std::fs::write(&model, &file).unwrap();
        std::fs::write(&tokenizer, tokenizer_bin(vocab)).unwrap();
        let mut outcome = Ok(());
        let took = allocation::peak(|| outcome = Model::open(&model, Some(&tokenizer)).map(drop));
        println!("tokenizer.bin of {vocab} tokens: {took} bytes, {:?}", outcome.as_ref().err());
        assert_eq!(outcome.is_ok(), sound, "{outcome:?}");
        assert!(took <= memory_bound(file.len() as u64), "{vocab} tokens took {took} bytes");
    }
    // A few long tokens that are found in text as they stand.
    let mut pieces = vec![("<|endoftext|>".to_owned(), 3)];
    let letter = |n: u32| char::from_u32(n % 0x700 + 1).unwrap();
    pieces.extend((0..99).map(|n| ((0..5_000).map(|i| letter(i * 7 + n * 131)).collect(), 4)));
    std::fs::write(&path, Gguf::sound(3, Type::F32, 4).byte_level(&pieces, &[]).file()).unwrap();
    let (outcome, took) = opened(&path);
    println!("99 long tokens: {took} bytes, {:?}", outcome.as_ref().err());
    assert!(took <= memory_bound(0), "{took} bytes");
    // A file of any length in the place of a tokenizer.
    sparse(&tokenizer, &tokenizer_bin(12), 8 << 30);
    std::fs::write(&model, llama2c(8, 8, 1, 12, 16)).unwrap();
    let took = allocation::peak(|| assert!(Model::open(&model, Some(&tokenizer)).is_err()));
    assert!(took <= memory_bound(0), "{took} bytes");
}

/// Room that belongs to no tensor: before, between and behind them. It is not read, or refused.
#[test]
fn what_belongs_to_no_tensor_is_not_paid_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let sound = Gguf::sound(3, Type::F32, 8);
    let file = sound.file();
    sparse(&path, &file, 4 << 30);
    let (outcome, took) = opened(&path);
    assert!(outcome.is_ok() && took < 1 << 20, "behind: {took} bytes, {outcome:?}");
    // The last tensor's offset is the last number of the table.
    let before = &sound.tensors[..sound.tensors.len() - 1];
    let offset: usize = before.iter().map(|(.., bytes)| bytes.len().next_multiple_of(32)).sum();
    let offset = (offset as u64).to_le_bytes();
    let at = sound.head().windows(8).rposition(|word| word == offset).unwrap();
    let mut far = file.clone();
    far[at..at + 8].copy_from_slice(&(1_u64 << 30).to_le_bytes());
    sparse(&path, &far, 4 << 30);
    let (outcome, took) = opened(&path);
    assert!(matches!(outcome, Err(ModelError::TooLarge { .. })) && took < 1 << 20, "{took}, {outcome:?}");
}

struct Large {
    head: Vec<u8>,
    len: u64,
}

/// A sound GGUF model of these dimensions in F16, up to its weights.
fn large_gguf(vocab: u64, dim: u32) -> Large {
    let mut file = Gguf::sound(3, Type::F16, 64);
    let wide = u64::from(dim);
    let set = |meta: &mut Vec<Vec<u8>>, key: &str, value: Vec<u8>| {
        meta.retain(|entry| !entry.starts_with(&string(key)));
        meta.push(value);
    };
    let int = |key: &str, n: u32| entry(key, 4, &n.to_le_bytes());
    for (key, n) in [
        ("llama.embedding_length", dim),
        ("llama.feed_forward_length", dim),
        ("llama.attention.head_count", dim / 64),
    ] {
        set(&mut file.meta, key, int(key, n));
    }
    let tokens: Vec<u8> = (0..vocab).flat_map(|id| string(&format!("t{id}"))).collect();
    let zeros = vec![0; 4 * vocab as usize];
    let types: Vec<u8> = (0..vocab).flat_map(|_| 1_u32.to_le_bytes()).collect();
    for (key, ty, items) in [
        ("tokenizer.ggml.tokens", 8, tokens),
        ("tokenizer.ggml.scores", 6, zeros),
        ("tokenizer.ggml.token_type", 5, types),
    ] {
        set(&mut file.meta, key, entry(key, 9, &list(ty, vocab, &items)));
    }
    let mut len = 0;
    for (_, dims, ty, bytes) in &mut file.tensors {
        for d in dims.iter_mut() {
            *d = if *d == 64 { wide } else { vocab };
        }
        // Only its length counts: zeros follow on the disk.
        let size = dims.iter().product::<u64>() * if *ty == 0 { 4 } else { 2 };
        *bytes = vec![0; size as usize];
        len += size.next_multiple_of(32);
    }
    let head = file.head();
    let len = head.len() as u64 + len;
    Large { head, len }
}
