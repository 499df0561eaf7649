//! Quantization as ggml rounds, images as the engine reads them, sizes as both say.

use edgeprof_engine::arena::Layout;
use edgeprof_engine::f16;
use edgeprof_engine::image::{Image, Role};

use super::toy::{self, Toy};
use crate::quant::{q4_0, q8_0};
use crate::reference::{Request, run, run_with};
use crate::{
    DType, Header, KvType, Model, Quant, build_image, image_bytes, image_quant_name, image_weight_bytes,
    longest_ctx, requirements, what_would_fit,
};

const KV: [KvType; 3] = [KvType::F32, KvType::F16, KvType::I8];

fn models() -> Vec<Model> {
    let small = Toy::new(toy::config(0), 11);
    // llama2.c's rows need not be whole groups; its 260K model has 172 hidden.
    let odd = crate::Config { dim: 24, hidden: 43, heads: 6, head_dim: 4, ..toy::config(0) };
    let odd = Toy::new(crate::Config { kv_heads: 3, tied: false, ..odd }, 12);
    vec![
        Model::load(&small.gguf(DType::F32), None).unwrap(),
        Model::load(&small.gguf(DType::F16), None).unwrap(),
        Model::load(&small.gguf(DType::Q8_0), None).unwrap(),
        Model::load(&odd.llama2c(), Some(&odd.tokenizer_bin())).unwrap(),
        Model::load(&small.gguf(DType::Q4_0), None).unwrap(),
        Model::load(&small.gguf(DType::BF16), None).unwrap(),
        Model::load(&small.gguf(DType::Q4_1), None).unwrap(),
        Model::load(&small.mixed(mixed), None).unwrap(),
    ]
}

/// Every type there is.
fn mixed(role: Role, layer: u32) -> DType {
    match role {
        Role::TokenEmbd => DType::Q8_0,
        _ => DType::ALL[(role as usize + 4 * layer as usize) % 6],
    }
}

/// The weight at row `r`, column `c`, read as the format's description says.
fn weight(image: &Image<'_>, role: Role, layer: u32, r: usize, c: usize) -> f32 {
    let t = image.tensor(role, layer).unwrap();
    let row = t.row(r);
    let half = |i: usize| {
        let b = &t.row_scales(r)[2 * i..];
        f16::to_f32(u16::from_le_bytes([b[0], b[1]]))
    };
    let scale = || half(c / 32);
    let nibble = || f32::from(row[c / 2] >> (4 * (c % 2)) & 15);
    match t.dtype {
        DType::F32 => f32::from_le_bytes(row[4 * c..4 * c + 4].try_into().unwrap()),
        DType::F16 => f16::to_f32(u16::from_le_bytes([row[2 * c], row[2 * c + 1]])),
        DType::Q8_0 if c.is_multiple_of(2) => f32::from(i16::from(row[c]) - 128) * scale(),
        DType::Q8_0 => f32::from(row[c] as i8) * scale(),
        DType::Q4_0 => (nibble() - 8.0) * scale(),
        DType::BF16 => f32::from_le_bytes([0, 0, row[2 * c], row[2 * c + 1]]),
        DType::Q4_1 => nibble() * half(c / 32 * 2) + half(c / 32 * 2 + 1),
    }
}

#[test]
fn rounding_is_ggmls() {
    // 1.0 / 127 as f16; halves go away from zero.
    let d = 127.0;
    let x = [d, 0.5, -0.5, 1.5, 2.5, -2.5, 0.499, -126.4];
    let g = q8_0(&x).unwrap();
    assert_eq!(g.q[..9], [127, 1, -1, 2, 3, -3, 0, -126, 0]);
    assert_eq!(g.scale, 0x3c00);
    // The extreme becomes -8 whatever its sign, so the scale has the other sign.
    let g = q4_0(&[8.0, -7.0, 0.4, 0.6, -8.0]).unwrap();
    assert_eq!(f16::to_f32(g.scale), -1.0);
    assert_eq!(g.q[..6], [-8, 7, 0, -1, 7, 0]);
    let g = q4_0(&[-4.0, 4.0, 0.25, -0.25]).unwrap();
    assert_eq!(f16::to_f32(g.scale), 0.5);
    assert_eq!(g.q[..4], [-8, 7, 1, 0]);
    for zero in [q8_0(&[0.0; 32]), q4_0(&[-0.0; 32])] {
        assert_eq!(f16::to_f32(zero.unwrap().scale), 0.0);
    }
    for quantize in [q8_0, q4_0] {
        assert!(quantize(&[f32::NAN]).is_none());
        assert!(quantize(&[f32::NEG_INFINITY]).is_none());
        assert!(quantize(&[1e9]).is_none());
    }
}

/// Blocks as the `gguf` Python package quantizes them, which is bit-exact with ggml.
#[test]
fn blocks_are_ggmls() {
    let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("data/ggml_quants.json")).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let x: Vec<f32> = case["bits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| f32::from_bits(b.as_u64().unwrap() as u32))
            .collect();
        assert_eq!(hex(&toy::store(DType::Q8_0, &x)), case["q8_0"].as_str().unwrap());
        let block = toy::store(DType::Q4_0, &x);
        assert_eq!(hex(&block), case["q4_0"].as_str().unwrap());
        // And back.
        let mut groups = crate::rows::groups(DType::Q4_0, &block);
        assert_eq!(groups.next(), q4_0(&x));
        let block = toy::store(DType::Q4_1, &x);
        assert_eq!(hex(&block), case["q4_1"].as_str().unwrap());
        let mut back = [0.0; 32];
        crate::rows::to_f32(DType::Q4_1, &block, &mut back);
        let want: Vec<u64> =
            case["q4_1_values"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap()).collect();
        assert_eq!(back.map(|w| u64::from(w.to_bits()))[..], want);
    }
}

#[test]
fn images_hold_the_models_weights() {
    for model in models() {
        for quant in Quant::ALL {
            let bytes = build_image(&model, quant).unwrap();
            let image = Image::parse(&bytes).unwrap();
            image.verify_checksum().unwrap();
            assert_eq!(image.config(), model.config());
            for t in model.header().tensors() {
                let source = t.slice(model.bytes()).unwrap();
                let stride = source.len() / t.rows as usize;
                let got = image.tensor(t.role, t.layer).unwrap();
                let want = if t.role.is_norm() { DType::F32 } else { quant.target(t.dtype) };
                assert_eq!(got.dtype, want);
                for r in 0..t.rows as usize {
                    let mut row = vec![0.0; t.cols as usize];
                    crate::rows::to_f32(t.dtype, &source[r * stride..][..stride], &mut row);
                    for group in 0..row.len().div_ceil(32) {
                        let cols = group * 32..row.len().min(group * 32 + 32);
                        let most = row[cols.clone()].iter().fold(0f32, |m, w| m.max(w.abs()));
                        // Half a step, a whole one at the end that Q4_0 cuts off, and f16's error.
                        let off = match want {
                            _ if want == t.dtype => 0.0,
                            DType::Q8_0 => most / 127.0 * 0.5 + most * 0.001,
                            DType::Q4_0 => most / 8.0 + most * 0.001,
                            _ => 0.0,
                        };
                        for c in cols {
                            let w = weight(&image, t.role, t.layer, r, c);
                            assert!((w - row[c]).abs() <= off, "{:?} {r} {c}", t.role);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn images_are_reproducible() {
    // The bits that this build gives for ever, on every machine: CRC-32 in the header covers all.
    let mut sums = Vec::new();
    for model in models() {
        for quant in Quant::ALL {
            let image = build_image(&model, quant).unwrap();
            assert_eq!(image, build_image(&model, quant).unwrap());
            sums.push(u32::from_le_bytes(image[16..20].try_into().unwrap()));
        }
    }
    assert_eq!(sums, SUMS, "{sums:#010x?}");
    // Q8_0 weights requantized to what they are stay what they are.
    let q8 = &models()[2];
    assert_eq!(build_image(q8, Quant::Native).unwrap(), build_image(q8, Quant::Q8_0).unwrap());
}

const SUMS: [u32; 24] = [
    0x597e7f28, 0xf390ca94, 0x6022d873, 0xf7350f45, 0x2f467700, 0xefa04d2c, 0xf390ca94, 0xf390ca94,
    0x8f741d78, 0xfc45c47b, 0x09e0aa34, 0x19c68231, 0x6022d873, 0xcb0eaee4, 0x6022d873, 0xc1ac6c66,
    0xb472d4c7, 0x8aa744b2, 0x842a5e0a, 0x61140e3a, 0x4039990e, 0xcfc01071, 0xc3676f8f, 0xdf5b9d01,
];

#[test]
fn requirements_are_exact() {
    for model in models() {
        let header = model.header();
        for quant in Quant::ALL {
            let image = build_image(&model, quant).unwrap();
            let parsed = Image::parse(&image).unwrap();
            assert_eq!(image_bytes(header, quant), image.len() as u64);
            let bytes: u64 = parsed.tensors().map(|t| t.bytes()).sum();
            assert_eq!(image_weight_bytes(header, quant), bytes);
            for kv in KV {
                for ctx in [1, 7, 64] {
                    let need = requirements(header, quant, ctx, kv).unwrap();
                    let layout = Layout::new(model.config(), ctx, kv).unwrap();
                    assert_eq!(need.image_bytes, image.len() as u64);
                    assert_eq!(need.arena_bytes, layout.total_bytes);
                    assert_eq!(need.kv_bytes, layout.kv_bytes);
                    let out = run(&image, &request(&[1], ctx, kv)).unwrap();
                    assert_eq!(out.arena_bytes, need.arena_bytes);
                }
            }
            assert!(requirements(header, quant, 0, KvType::F16).is_err());
        }
    }
    let name = |i: usize, q| image_quant_name(models()[i].header(), q);
    assert_eq!(name(0, Quant::Native), "f32");
    assert_eq!(name(1, Quant::Native), "f16");
    assert_eq!(name(1, Quant::Q4_0), "q4_0");
    assert_eq!(name(6, Quant::Native), "q4_1");
    assert_eq!(name(7, Quant::Native), "bf16+f16+f32+q4_0+q4_1+q8_0");
}

#[test]
fn suggestions_fit_and_one_token_more_does_not() {
    let model = &models()[1];
    let header: &Header = model.header();
    let size = |q| image_bytes(header, q);
    assert!(size(Quant::Native) > size(Quant::Q8_0) && size(Quant::Q8_0) > size(Quant::Q4_0));
    let arena = requirements(header, Quant::Native, 20, KvType::F16).unwrap().arena_bytes;
    let all = what_would_fit(header, u64::MAX, arena);
    assert_eq!(all.len(), 9);
    for s in &all {
        let need = |ctx| requirements(header, s.quant, ctx, s.kv).unwrap().arena_bytes;
        assert!(need(s.max_ctx) <= arena);
        assert!(s.max_ctx == 64 || need(s.max_ctx + 1) > arena);
    }
    assert_eq!(all[1].to_string(), "--quant native --kv f16 --ctx 20");
    assert_eq!(serde_json::to_value(all[1]).unwrap()["kv"], "f16");
    let some = what_would_fit(header, size(Quant::Q8_0), arena);
    assert!(some.iter().all(|s| s.quant != Quant::Native) && some.len() == 6);
    assert!(what_would_fit(header, size(Quant::Q4_0) - 1, arena).is_empty());
    assert!(what_would_fit(header, u64::MAX, 100).is_empty());
    assert_eq!(longest_ctx(header, KvType::I8, u64::MAX), Some(64));
    // A Q8_0 model as it is and requantized to Q8_0 are one thing.
    assert_eq!(what_would_fit(models()[2].header(), u64::MAX, u64::MAX).len(), 6);
}

#[test]
fn quantizations_have_names() {
    for q in Quant::ALL {
        assert_eq!(q.to_string().parse::<Quant>().unwrap(), q);
        assert_eq!(serde_json::to_value(q).unwrap(), q.name());
    }
    let error = "q5_0".parse::<Quant>().unwrap_err();
    assert_eq!(error.to_string(), "unknown quantization \"q5_0\", supported: native, q8_0, q4_0");
}

fn request(prompt: &[u32], ctx: u32, kv: KvType) -> Request<'_> {
    Request { prompt, n_gen: 3, temperature: 0.0, seed: 0, stop_tokens: &[], ctx, kv }
}

#[test]
fn reference_runs_are_the_same_always_and_refuse_nonsense() {
    let model = &models()[3];
    let image = build_image(model, Quant::Q8_0).unwrap();
    let prompt = model.tokenizer().encode_prompt("the");
    let ask = request(&prompt, 8, KvType::I8);
    let out = run(&image, &ask).unwrap();
    assert_eq!(out.tokens.len(), 3);
    // Any address will do.
    for shift in 0..16 {
        let moved = [&vec![0; shift][..], &image].concat();
        assert_eq!(run(&moved[shift..], &ask).unwrap(), out);
    }
    let mut seen = Vec::new();
    let cut = run_with(&image, &ask, |i, id| {
        seen.push((i, id));
        if i == 1 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    assert_eq!(cut.unwrap().tokens, out.tokens[..2]);
    assert_eq!(seen, [(0, out.tokens[0]), (1, out.tokens[1])]);
    let fails = |image: &[u8], ask: &Request<'_>| run(image, ask).unwrap_err().to_string();
    assert!(fails(&image, &request(&[], 8, KvType::F16)).contains("empty prompt"));
    assert!(fails(&image, &request(&[u32::MAX], 8, KvType::F16)).contains("outside the vocabulary"));
    assert!(fails(&image, &request(&prompt, 1, KvType::F16)).contains("context of 1 tokens"));
    assert!(fails(&image, &request(&prompt, u32::MAX, KvType::F32)).contains("does not fit"));
    assert!(fails(&image[..100], &ask).contains("cut short"));
    let mut bad = image.clone();
    *bad.last_mut().unwrap() ^= 1;
    assert!(fails(&bad, &ask).contains("checksum"));
}
