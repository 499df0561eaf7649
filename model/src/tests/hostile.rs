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
    let gguf = toy.gguf(DType::Q8_0);
    let (c, t) = (toy.llama2c(), toy.tokenizer_bin());
    assert!(digest(&gguf, None) && digest(&c, Some(&t)));
    // Alignment leaves nothing to cut off at the end but zeros that belong to no tensor.
    let used = crate::Header::parse(&gguf).unwrap();
    let end = used.tensors().iter().map(|t| t.start + t.bytes()).max().unwrap() as usize;
    for n in 0..end {
        assert!(Model::load(&gguf[..n], None).is_err(), "{n} bytes of GGUF");
    }
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
