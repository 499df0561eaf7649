//! No bytes whatever may panic, hang or take more memory than they justify.

use std::io::Read;

use proptest::prelude::*;

use super::toy::{self, GgufWriter, Rng, Toy};
use crate::gguf::Gguf;
use crate::{DType, KvType, Model, ModelError, Quant, build_image, inspect_bytes, reference};

fn toy() -> Toy {
    let mut toy = Toy::new(crate::Config { layers: 1, ..toy::config(0) }, 3);
    toy.vocab.truncate(300);
    toy
}

/// Everything that can be done with bytes; whether they made a model.
fn digest(bytes: &[u8], tokenizer: Option<&[u8]>) -> bool {
    let _ = inspect_bytes(bytes);
    let Ok(model) = Model::load(bytes, tokenizer) else { return false };
    let t = model.tokenizer();
    let ids = t.encode("the end, 🦀");
    let _ = (t.decode(t.bos(), &ids), t.synthetic(8));
    for quant in Quant::ALL {
        if let Ok(image) = build_image(&model, quant) {
            let prompt: Vec<u32> = ids.iter().copied().take(2).collect();
            let _ = reference::run(
                &image,
                &reference::Request {
                    prompt: &prompt,
                    n_gen: 1,
                    temperature: 0.0,
                    seed: 0,
                    stop_tokens: &[],
                    ctx: 4,
                    kv: KvType::F16,
                },
            );
        }
    }
    true
}

#[test]
fn every_truncation_is_an_error() {
    let toy = toy();
    for dtype in [DType::F32, DType::F16, DType::Q8_0] {
        let gguf = toy.gguf(dtype);
        let used = crate::Header::parse(&gguf).unwrap();
        let end = used.tensors().iter().map(|t| t.start + t.bytes()).max().unwrap() as usize;
        for n in 0..end {
            // All of it once; the rest of the types where it hurts.
            if dtype == DType::Q8_0 || n % 97 == 0 || n < 4096 {
                assert!(Model::load(&gguf[..n], None).is_err(), "{n} bytes of GGUF");
            }
        }
    }
    let gguf = toy.gguf(DType::Q8_0);
    let (c, t) = (toy.llama2c(), toy.tokenizer_bin());
    assert!(digest(&gguf, None) && digest(&c, Some(&t)));
    for n in 0..c.len() {
        assert!(Model::load(&c[..n], Some(&t)).is_err(), "{n} bytes of llama2.c");
    }
    for n in 0..t.len() {
        assert!(Model::load(&c, Some(&t[..n])).is_err(), "{n} bytes of tokenizer.bin");
    }
}

#[test]
fn flipped_bytes_do_no_harm() {
    let toy = toy();
    let gguf = toy.gguf(DType::F16);
    let (c, t) = (toy.llama2c(), toy.tokenizer_bin());
    let header = gguf.len() - c.len() / 2;
    let mut rng = Rng(5);
    for round in 0..1500 {
        let mut bytes = gguf.clone();
        for _ in 0..=rng.next() % 3 {
            // The header is where it hurts.
            let at = rng.next() as usize % if round % 8 == 0 { gguf.len() } else { header };
            bytes[at] = rng.next() as u8;
        }
        digest(&bytes, None);
    }
    for _ in 0..1500 {
        let (mut c, mut t) = (c.clone(), t.clone());
        let at = rng.next() as usize;
        match at % 3 {
            0 => c[at / 3 % 28] ^= 1 << (at % 8),
            1 => t[at / 3 % 64] ^= 1 << (at % 8),
            _ => {
                let len = t.len();
                t[at / 3 % len] = at as u8;
            }
        }
        digest(&c, Some(&t));
    }
}

#[test]
fn lying_numbers_are_not_believed() {
    let toy = toy();
    let base = GgufWriter::llama(&toy);
    // Tensor and key counts.
    for at in [8, 16] {
        for n in [1u64, 60_000, 1 << 20, 1 << 32, u64::MAX] {
            let mut bytes = toy.gguf(DType::F32);
            bytes[at..at + 8].copy_from_slice(&n.to_le_bytes());
            assert!(!digest(&bytes, None));
        }
    }
    // Lengths of strings and arrays of every type, in a place that is kept and one that is not.
    for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.scores", "some.key"] {
        for ty in 0..15 {
            for n in [1u64 << 28, 1 << 40, 1 << 61, u64::MAX] {
                let mut g = base.clone();
                g.array(key, ty, n, [1u8; 64].into_iter());
                assert!(!digest(&g.finish(), None));
            }
        }
        for ty in [8, 13, u32::MAX] {
            let mut g = base.clone();
            g.raw(key, ty, &[0xff; 8]);
            assert!(!digest(&g.finish(), None));
        }
    }
    // Arrays in arrays in arrays.
    let mut nested = Vec::new();
    for _ in 0..100_000 {
        nested.extend(9u32.to_le_bytes());
        nested.extend(1u64.to_le_bytes());
    }
    let mut g = base.clone();
    g.raw("some.key", 9, &nested);
    assert!(!digest(&g.finish(), None));
    // Offsets and dimensions.
    for dims in [&[u64::MAX][..], &[1 << 63, 2], &[u64::MAX; 4], &[1 << 62]] {
        for ty in [0, 1, 8, 77, u32::MAX] {
            let mut g = base.clone();
            g.tensor("token_embd.weight", dims, ty, &[0; 64]);
            assert!(!digest(&g.finish(), None));
        }
    }
}

/// The error of a file that must be refused, and refused by everything that looks at it.
fn refused(what: &str, bytes: &[u8]) -> ModelError {
    assert!(!digest(bytes, None), "{what}");
    Model::load(bytes, None).err().unwrap_or_else(|| panic!("{what} is accepted"))
}

#[test]
fn numbers_that_size_something_are_refused_by_name_where_they_make_no_sense() {
    let toy = toy();
    let with = |key: &str, n: u32| {
        let mut g = toy.writer(DType::F32);
        g.u32(key, n);
        g.finish()
    };
    for key in [
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
    ] {
        for n in [0, 3, 1 << 21, u32::MAX] {
            let error = refused(&format!("{key} = {n}"), &with(key, n));
            assert!(matches!(error, ModelError::Invalid { .. } | ModelError::Unsupported { .. }), "{error}");
        }
    }
    for (key, n) in
        [("llama.attention.key_length", 0), ("llama.rope.dimension_count", 0), ("llama.vocab_size", 7)]
    {
        refused(key, &with(key, n));
    }
    for (key, x) in [
        ("llama.rope.freq_base", f32::NAN),
        ("llama.rope.freq_base", f32::INFINITY),
        ("llama.rope.freq_base", -1.0),
        ("llama.rope.freq_base", 0.0),
        ("llama.attention.layer_norm_rms_epsilon", f32::NAN),
        ("llama.attention.layer_norm_rms_epsilon", f32::INFINITY),
        ("llama.attention.layer_norm_rms_epsilon", 2.0),
    ] {
        let mut g = toy.writer(DType::F32);
        g.f32(key, x);
        refused(&format!("{key} = {x}"), &g.finish());
    }
    // And numbers of another type than theirs.
    for ty in [1_u32, 5, 6, 7, 8, 9, 12] {
        let mut g = toy.writer(DType::F32);
        g.raw("llama.embedding_length", ty, &[0xff; 16]);
        refused(&format!("a width of type {ty}"), &g.finish());
    }
}

#[test]
fn llama2c_numbers_are_held_against_the_files_length() {
    let toy = toy();
    let (sound, t) = (toy.llama2c(), toy.tokenizer_bin());
    for at in 0..7 {
        for n in [0, 1, -1, i32::MAX, i32::MIN, 1 << 17, 1 << 24] {
            let mut bytes = sound.clone();
            bytes[at * 4..at * 4 + 4].copy_from_slice(&n.to_le_bytes());
            if bytes != sound {
                assert!(!digest(&bytes, Some(&t)), "number {at} as {n}");
            }
        }
    }
    // A product that wraps to what the file has would pass where it is computed in 32 bits.
    for head in [[65_536, 65_536, 1, 1, 1, 65_536, 1], [1 << 17, 1 << 20, 4096, 4096, 4096, 1 << 24, 1 << 24]]
    {
        let mut bytes: Vec<u8> = head.iter().flat_map(|n: &i32| n.to_le_bytes()).collect();
        bytes.resize(4096, 1);
        assert!(!digest(&bytes, Some(&t)));
    }
}

#[test]
fn other_versions_and_byte_orders_are_named() {
    let mut sound = toy().gguf(DType::F32);
    for version in [0_u32, 1, 4, u32::MAX] {
        sound[4..8].copy_from_slice(&version.to_le_bytes());
        let text = refused("another version", &sound).to_string();
        assert!(text.contains(&format!("v{version}")), "{text}");
    }
    for version in [2_u32, 3] {
        sound[4..8].copy_from_slice(&version.to_be_bytes());
        let text = refused("big-endian", &sound).to_string();
        assert!(text.contains("big-endian"), "{text}");
    }
}

#[test]
fn keys_and_tensors_that_come_twice_are_refused_by_name() {
    let toy = toy();
    let mut g = toy.writer(DType::F32);
    let (key, value) = g.meta[3].clone();
    g.meta.push((key.clone(), value));
    let text = refused("a key that comes twice", &g.finish()).to_string();
    assert!(text.contains(&key) && text.contains("twice"), "{text}");
    let mut g = toy.writer(DType::F32);
    g.tensor("output_norm.weight", &[32], 0, &[0; 128]);
    let text = refused("a tensor that comes twice", &g.finish()).to_string();
    assert!(text.contains("output_norm.weight"), "{text}");
}

#[test]
fn tensors_lie_in_the_file_apart_and_aligned() {
    let toy = toy();
    let sound = toy.gguf(DType::F32);
    let (table, count) = toy.writer(DType::F32).offsets();
    assert!(count > 3);
    let place = |n: usize, offset: u64| {
        let mut bytes = sound.clone();
        bytes[table[n]..table[n] + 8].copy_from_slice(&offset.to_le_bytes());
        bytes
    };
    let offset = |n: usize| u64::from_le_bytes(sound[table[n]..table[n] + 8].try_into().unwrap());
    for n in 1..count {
        for (what, at) in [
            ("over another", offset(n - 1)),
            ("halfway over another", offset(n) - 32),
            ("not aligned", offset(n) + 4),
            ("past the end", sound.len() as u64 / 32 * 32),
            ("far past the end", 1 << 62),
            ("at the end of numbers", u64::MAX - 31),
        ] {
            refused(&format!("tensor {n} {what}"), &place(n, at));
        }
    }
    for align in [0_u32, 3, 31, 1 << 21, u32::MAX] {
        let mut g = toy.writer(DType::F32);
        g.u32("general.alignment", align);
        refused(&format!("an alignment of {align}"), &g.finish());
    }
}

#[test]
fn nesting_ends_where_it_is_said_to() {
    let toy = toy();
    for (depth, sound) in [(1, true), (4, true), (5, false), (1_000, false), (200_000, false)] {
        let mut value = Vec::new();
        for _ in 1..depth {
            value.extend(9_u32.to_le_bytes());
            value.extend(1_u64.to_le_bytes());
        }
        value.extend(0_u32.to_le_bytes());
        value.extend(1_u64.to_le_bytes());
        value.push(7);
        let mut g = toy.writer(DType::F32);
        g.raw("some.key", 9, &value);
        assert_eq!(digest(&g.finish(), None), sound, "{depth} deep");
    }
    // Wide instead of deep: a list of empty lists costs what it says.
    let mut wide = [9_u32.to_le_bytes().to_vec(), 50_000_u64.to_le_bytes().to_vec()].concat();
    wide.extend([0_u32.to_le_bytes().to_vec(), 0_u64.to_le_bytes().to_vec()].concat().repeat(50_000));
    let mut g = toy.writer(DType::F32);
    g.raw("some.key", 9, &wide);
    assert!(digest(&g.finish(), None));
}

#[test]
fn metadata_has_a_limit() {
    // Files of a tebibyte, as far as their headers go, in which every length is true.
    let len = 1u64 << 40;
    let read = |array: &[u8]| {
        let mut g = GgufWriter::llama(&toy());
        g.remove("tokenizer.ggml.tokens");
        g.raw("tokenizer.ggml.tokens", 9, array);
        let bytes = g.finish();
        // The key is the last one, so that what follows is up to the reader.
        let used = bytes.len() - bytes.iter().rev().take_while(|&&b| b == 0).count();
        let error = Gguf::read(bytes[..used].chain(std::io::repeat(b'x')), len).unwrap_err();
        assert!(matches!(error, ModelError::TooLarge { .. }), "{error}");
    };
    let head = |count: u64, first: u64| {
        [&8u32.to_le_bytes()[..], &count.to_le_bytes(), &first.to_le_bytes(), b"x"].concat()
    };
    // One token of 300 MiB; and 100 million tokens.
    read(&head(1, 300 << 20));
    read(&head(100_000_000, 1));
}

#[test]
fn weights_that_are_not_finite_are_reported() {
    for bits in [f32::NAN, f32::INFINITY, f32::MAX] {
        let mut toy = toy();
        toy.tensors[2].2[5] = bits;
        let model = Model::load(&toy.gguf(DType::F32), None).unwrap();
        for quant in [Quant::Q8_0, Quant::Q4_0] {
            let error = build_image(&model, quant).unwrap_err().to_string();
            assert!(error.contains("AttnQ of layer 0"), "{error}");
        }
        assert!(build_image(&model, Quant::Native).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_no_harm(
        tail in prop::collection::vec(any::<u8>(), 0..400),
        ints in prop::collection::vec(0u32..70, 7),
    ) {
        digest(&tail, None);
        digest(&[b"GGUF\x03\0\0\0", &tail[..]].concat(), None);
        let head: Vec<u8> = ints.iter().flat_map(|n| n.to_le_bytes()).collect();
        digest(&[&head[..], &tail].concat(), Some(&tail));
        let toy = toy();
        digest(&toy.llama2c(), Some(&tail));
    }
}
