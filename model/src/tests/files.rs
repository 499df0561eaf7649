//! What is read, what is refused and in which words, and what `inspect` says.

use serde_json::json;

use super::toy::{self, GgufWriter, Toy, string};
use crate::reference::{Request, run};
use crate::{
    DType, Format, Header, KvType, Model, ModelError, Quant, Tokenizer, build_image, inspect, inspect_bytes,
};

fn toy() -> Toy {
    Toy::new(toy::config(0), 7)
}

/// A GGUF file after changes to its metadata.
fn changed(change: impl Fn(&mut GgufWriter)) -> Vec<u8> {
    let toy = toy();
    let mut g = GgufWriter::llama(&toy);
    change(&mut g);
    tensors(&toy, &mut g);
    g.finish()
}

fn tensors(toy: &Toy, g: &mut GgufWriter) {
    for (role, layer, w) in &toy.tensors {
        let (dims, name) = toy.dims(*role, *layer);
        g.tensor(&name, &dims, 0, &toy::store(DType::F32, w));
    }
}

fn refused(bytes: &[u8]) -> ModelError {
    let error = Model::load(bytes, None).unwrap_err();
    let text = error.to_string();
    assert!(!text.ends_with('.') && !text.starts_with(|c: char| c.is_uppercase()), "{text}");
    assert!(!error.hint().is_empty());
    assert_eq!(error.class(), "model");
    error
}

#[track_caller]
fn refuses(bytes: &[u8], words: &str) {
    let text = refused(bytes).to_string();
    assert!(text.contains(words), "{text:?} does not say {words:?}");
}

#[test]
fn both_formats_give_the_same_model() {
    let toy = toy();
    let gguf = Model::load(&toy.gguf(DType::F32), None).unwrap();
    let c = Model::load(&toy.llama2c(), Some(&toy.tokenizer_bin())).unwrap();
    assert_eq!(gguf.config(), &toy.config);
    assert_eq!(c.config(), &toy.config);
    assert_eq!(gguf.header().format(), Format::Gguf(3));
    assert_eq!(gguf.header().name(), Some("toy"));
    let count: usize = toy.tensors.iter().map(|t| t.2.len()).sum();
    for m in [&gguf, &c] {
        assert_eq!(m.header().params(), count as u64);
        assert_eq!(m.header().weight_bytes(), 4 * count as u64);
        for (t, (role, layer, w)) in m.header().tensors().iter().zip(&toy.tensors) {
            assert_eq!((t.role, t.layer), (*role, *layer));
            assert_eq!(t.slice(m.bytes()).unwrap(), toy::store(DType::F32, w));
        }
    }
}

#[test]
fn untied_classifiers_and_version_2_are_read() {
    let mut toy = Toy::new(crate::Config { tied: false, ..toy::config(0) }, 8);
    let mut bytes = toy.gguf(DType::Q8_0);
    bytes[4] = 2;
    let m = Model::load(&bytes, None).unwrap();
    assert_eq!(m.header().format(), Format::Gguf(2));
    assert!(!m.config().tied);
    let c = Model::load(&toy.llama2c(), Some(&toy.tokenizer_bin())).unwrap();
    let last = c.header().tensors().last().unwrap();
    let w = toy.tensors.pop().unwrap().2;
    assert_eq!(last.slice(c.bytes()).unwrap(), toy::store(DType::F32, &w));
}

#[test]
fn heads_need_not_add_up_to_the_embedding() {
    let toy = Toy::new(crate::Config { head_dim: 16, ..toy::config(0) }, 9);
    let mut g = GgufWriter::llama(&toy);
    g.u32("llama.attention.key_length", 16);
    g.u32("llama.attention.value_length", 16);
    tensors(&toy, &mut g);
    assert_eq!(Model::load(&g.finish(), None).unwrap().config(), &toy.config);
    // The other way round, and a feed-forward layer narrower than the embedding.
    for (head_dim, hidden) in [(2, 2), (2, 64), (64, 2)] {
        let toy = Toy::new(crate::Config { head_dim, hidden, ..toy::config(0) }, 9);
        let mut g = GgufWriter::llama(&toy);
        g.u32("llama.attention.key_length", head_dim);
        tensors(&toy, &mut g);
        let model = Model::load(&g.finish(), None).unwrap();
        for kv in [KvType::F32, KvType::F16, KvType::I8] {
            let ask = Request {
                prompt: &[1, 5],
                n_gen: 2,
                temperature: 0.0,
                seed: 0,
                stop_tokens: &[],
                ctx: 4,
                kv,
            };
            for quant in Quant::ALL {
                run(&build_image(&model, quant).unwrap(), &ask).unwrap();
            }
        }
    }
}

#[test]
fn other_files_are_named() {
    let safetensors = [&2u64.to_le_bytes()[..], b"{}"].concat();
    let ak42 = [&b"24ka"[..], &1i32.to_le_bytes(), &[0; 300]].concat();
    let cases: &[(&[u8], &str)] = &[
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04...", "a zip archive"),
        (&safetensors, "a safetensors file"),
        (b"lmgg\0\0", "unversioned ggml"),
        (b"tjgg\0\0", "ggjt"),
        (&ak42, "v1 (magic ak42)"),
        (b"<!doctype html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"EPBI\x01\0", "a board image"),
        (&[0; 64], "zeros"),
        (&[0xfe; 9], "9 bytes which begin with fe fe"),
        (b"hello", "text"),
    ];
    for (bytes, words) in cases {
        refuses(bytes, words);
        let hint = refused(bytes).hint();
        assert!(hint.contains("GGUF") || hint.contains("legacy v0"), "{hint}");
    }
    let dir = tempfile::tempdir().unwrap();
    let error = Model::open(dir.path(), None).unwrap_err();
    assert!(error.to_string().contains("a directory"), "{error}");
    let error = inspect(&dir.path().join("none")).unwrap_err();
    assert!(matches!(error, ModelError::Io { .. }) && error.code() == "model_io");
}

#[test]
fn llama2c_files_are_known_by_their_numbers() {
    // Bytes of whole magic numbers of other formats may be dimensions: 640 is 80 02 00 00.
    for dim in [64i32, 288, 512, 640, 768, 4096, 0x8b1e, 0x5a4c] {
        let head: Vec<u8> = [dim, 1024, 6, 8, 8, 32_000, 256].iter().flat_map(|n| n.to_le_bytes()).collect();
        let error = Header::parse(&head).unwrap_err();
        assert!(error.to_string().contains("llama2.c"), "{error}");
    }
}

#[test]
fn what_is_not_implemented_is_named() {
    let mut v1 = changed(|_| {});
    v1[4] = 1;
    refuses(&v1, "found v1, supported: v2 and v3");
    v1[4..8].copy_from_slice(&3u32.to_be_bytes());
    refuses(&v1, "big-endian v3");
    refuses(&changed(|g| g.str("general.architecture", "qwen2")), "architecture: found qwen2");
    refuses(&changed(|g| g.str("tokenizer.ggml.model", "t5")), "tokenizer: found t5");
    refuses(&changed(|g| g.u32("llama.expert_count", 8)), "mixture of experts");
    refuses(&changed(|g| g.str("llama.rope.scaling.type", "yarn")), "rotary scaling: found yarn");
    refuses(&changed(|g| g.f32("llama.rope.scaling.factor", 4.0)), "by 4");
    refuses(&changed(|g| g.f32("llama.rope.scale_linear", 2.0)), "by 2");
    refuses(&changed(|g| g.u32("llama.rope.dimension_count", 4)), "dimension_count = 4");
    refuses(&changed(|g| g.u32("llama.attention.value_length", 4)), "value_length = 4");
    refuses(&changed(|g| g.tensor("rope_freqs.weight", &[4], 0, &[0; 16])), "rope_freqs.weight");
    refuses(&changed(|g| g.tensor("blk.0.attn_q.bias", &[32], 0, &[0; 128])), "attn_q.bias");
    for (ty, name) in [(6, "Q5_0"), (12, "Q4_K"), (20, "IQ4_NL"), (99, "type 99")] {
        let toy = toy();
        let mut g = GgufWriter::llama(&toy);
        for (role, layer, w) in &toy.tensors {
            let (dims, tensor) = toy.dims(*role, *layer);
            let ty = if tensor == "blk.1.ffn_up.weight" { ty } else { 0 };
            g.tensor(&tensor, &dims, ty, &toy::store(DType::F32, w));
        }
        refuses(&g.finish(), &format!("found {name} in blk.1.ffn_up.weight"));
    }
    // Off switches are no reason to refuse.
    let off = changed(|g| {
        g.u32("llama.expert_count", 0);
        g.str("llama.rope.scaling.type", "none");
        g.f32("llama.rope.scaling.factor", 1.0);
        g.u32("llama.vocab_size", toy().config.vocab);
        g.str("tokenizer.chat_template", &"x".repeat(100_000));
        g.array(
            "x.Nested-Key",
            9,
            1,
            [8u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec(), string("a")].concat().into_iter(),
        );
    });
    Model::load(&off, None).unwrap();
}

#[test]
fn contradictions_are_named() {
    let key = "llama.attention.head_count";
    refuses(&changed(|g| g.u32(key, 0)), "the head count is 0");
    refuses(&changed(|g| g.u32(key, 6)), "32 dimensions do not divide by 6 heads");
    refuses(&changed(|g| g.str(key, "4")), "no unsigned number");
    refuses(&changed(|g| g.remove(key)), "head_count is missing");
    refuses(&changed(|g| g.u32("llama.attention.head_count_kv", 3)), "4 heads do not divide by 3");
    refuses(&changed(|g| g.u32("llama.attention.head_count_kv", 0)), "key/value head count is 0");
    refuses(&changed(|g| g.raw("llama.block_count", 10, &[0xff; 8])), "the layer count is");
    refuses(&changed(|g| g.u32("llama.block_count", 3)), "tensor blk.2.attn_norm.weight is missing");
    refuses(&changed(|g| g.u32("llama.block_count", 1)), "unsupported tensor: found blk.1");
    refuses(&changed(|g| g.u32("llama.feed_forward_length", 65)), "has the shape [32, 64]");
    refuses(&changed(|g| g.u32("llama.vocab_size", 5)), "llama.vocab_size is 5");
    refuses(&changed(|g| g.f32("llama.rope.freq_base", f32::NAN)), "no finite number");
    refuses(&changed(|g| g.f32("llama.rope.freq_base", -1.0)), "rotary base");
    refuses(&changed(|g| g.u32("general.alignment", 12)), "no power of two");
    refuses(&changed(|g| g.meta.push(g.meta[0].clone())), "occurs twice");
    refuses(&changed(|g| g.u32("tokenizer.ggml.bos_token_id", 9999)), "bos_token_id is 9999");
    refuses(&changed(|g| g.array("tokenizer.ggml.tokens", 8, 1, string("a").into_iter())), "1 tokens");
    refuses(&changed(|g| g.array("tokenizer.ggml.scores", 6, 1, [0; 4].into_iter())), "1 scores");
    refuses(&changed(|g| g.tensor("token_embd.weight", &[32], 0, &[0; 128])), "two tensors");
    refuses(&changed(|g| g.tensor("x", &[0], 0, &[])), "has the shape [0]");
    refuses(&changed(|g| g.tensor("x", &[1 << 40, 1 << 40], 0, &[])), "has the shape");
    refuses(&changed(|g| g.tensor("x", &[1; 5], 0, &[0; 4])), "has 5 dimensions");
    refuses(&changed(|g| g.tensor("x", &[1 << 40], 0, &[0; 4])), "tensor x needs");
    // Tensor data starts where the next tensor's does.
    refuses(&changed(|g| g.tensor("x", &[64], 0, &[])), "overlap");
    let toy = toy();
    let c = toy.llama2c();
    let load = |b: &[u8], t: Option<&[u8]>| Model::load(b, t).unwrap_err().to_string();
    assert!(load(&c, None).contains("carries no tokenizer"));
    let more = [&c[..], &[0]].concat();
    assert!(load(&more, None).contains("1 bytes more than its header calls for"));
    assert!(load(&c[..c.len() - 1], None).contains("truncated"));
    let t = toy.tokenizer_bin();
    assert!(load(&c, Some(&t[..t.len() - 1])).contains("tokenizer.bin file is truncated"));
    assert!(load(&c, Some(&t[..4])).contains("has 0 tokens"));
    let two = [&t[..], &[0; 8]].concat();
    assert!(load(&c, Some(&two)).contains("the model's vocabulary"));
    assert!(load(&toy.gguf(DType::F32), Some(&t)).contains("carries its own"));
    let mut zero_heads = c.clone();
    zero_heads[12..16].fill(0);
    refuses(&zero_heads, "the head count is 0");
}

#[test]
fn inspection_tells_all_from_the_header() {
    let toy = toy();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let bytes = toy.gguf(DType::Q8_0);
    std::fs::write(&path, &bytes).unwrap();
    let seen = inspect(&path).unwrap();
    assert_eq!(seen, inspect_bytes(&bytes).unwrap());
    let norms = 5 * 32;
    let matrices = toy.tensors.iter().map(|t| t.2.len()).sum::<usize>() - norms;
    let want = json!({
        "format": "gguf-v3", "arch": "llama", "name": "toy", "license": "CC0-1.0",
        "params": matrices + norms, "file_bytes": bytes.len(),
        "weight_bytes": matrices / 32 * 34 + norms * 4, "tensors": 20,
        "quantization": [
            {"type": "Q8_0", "tensors": 15, "params": matrices, "bytes": matrices / 32 * 34},
            {"type": "F32", "tensors": 5, "params": norms, "bytes": norms * 4},
        ],
        "quant": "q8_0",
        "layers": 2, "dim": 32, "hidden_dim": 64, "heads": 4, "kv_heads": 2, "head_dim": 8,
        "vocab": toy.config.vocab, "context": 64, "rope_theta": 10_000.0,
        "norm_eps": f64::from(1e-5f32), "tied_classifier": true,
        "macs_per_token": matrices,
        "tokenizer": {"kind": "llama", "tokens": toy.config.vocab, "bos": 1, "eos": 2},
        "supported": true,
    });
    let got = serde_json::to_value(&seen).unwrap();
    assert_eq!(serde_json::to_string_pretty(&got).unwrap(), serde_json::to_string_pretty(&want).unwrap());

    let c = inspect_bytes(&toy.llama2c()).unwrap();
    assert!(c.supported && c.tokenizer.is_none() && c.format == "llama2.c");
    let other = inspect_bytes(&changed(|g| g.str("tokenizer.ggml.model", "t5"))).unwrap();
    assert!(!other.supported && other.dims.is_some());
    assert!(other.reason.unwrap().contains("t5"));
    let moe = inspect_bytes(&changed(|g| g.u32("llama.expert_count", 8))).unwrap();
    assert!(!moe.supported && moe.dims.is_none() && moe.hint.is_some());

    // Sizes of an unknown type are absent, not zero, and so is a sum that it is part of.
    let odd = inspect_bytes(&changed(|g| g.tensor("x", &[64], 999, &[0; 64]))).unwrap();
    let share = odd.quantization.iter().find(|share| share.r#type == "type 999").unwrap();
    assert_eq!((share.params, share.bytes, odd.weight_bytes), (64, None, None));
    let listless = inspect_bytes(&changed(|g| g.remove("tokenizer.ggml.tokens"))).unwrap();
    assert_eq!(listless.tokenizer.unwrap().tokens, None);
}

#[test]
fn a_header_needs_no_weights() {
    // A sparse file of 1 GiB, whose weights nothing should touch.
    let toy = toy();
    let bytes = toy.gguf(DType::F32);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, &bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    let header = Header::open(&path).unwrap();
    assert_eq!(header.file_bytes(), 1 << 30);
    assert_eq!(header.params(), Header::parse(&bytes).unwrap().params());
    assert_eq!(Tokenizer::open(&path, None).unwrap().vocab(), toy.config.vocab);
    // A llama2.c model's tokenizer lies in a file of its own.
    let files = [dir.path().join("m.bin"), dir.path().join("tokenizer.bin")];
    std::fs::write(&files[0], toy.llama2c()).unwrap();
    std::fs::write(&files[1], toy.tokenizer_bin()).unwrap();
    assert!(matches!(Tokenizer::open(&files[0], None), Err(ModelError::NoTokenizer)));
    let t = Tokenizer::open(&files[0], Some(&files[1])).unwrap();
    let m = Model::open(&files[0], Some(&files[1])).unwrap();
    assert_eq!(t.encode("the end"), m.tokenizer().encode("the end"));
}
