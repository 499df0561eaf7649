//! A llama2.c f32 model on a board, in f32 arithmetic.

use edgeprof_engine::{
    DType, KvType, f16,
    image::{Image, Role},
};
use edgeprof_model::{Model, Quant, build_image, reference};
use edgeprof_tests::Lab;

use crate::model;

/// The shipped model as llama2.c's legacy files: the `.bin` with its header of seven numbers, and
/// `tokenizer.bin`.
fn export() -> (Vec<u8>, Vec<u8>) {
    let model = Model::open(model().as_ref(), None).unwrap();
    let bytes = build_image(&model, Quant::Native).unwrap();
    let image = Image::parse(&bytes).unwrap();
    let config = model.config();
    let header = [
        config.dim,
        config.hidden,
        config.layers,
        config.heads,
        config.kv_heads,
        config.vocab,
        config.train_ctx,
    ];
    let mut bin: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut add = |role, layers: u32| {
        for layer in 0..layers {
            let tensor = image.tensor(role, layer).unwrap();
            for row in 0..tensor.rows {
                match tensor.dtype {
                    DType::F32 => bin.extend_from_slice(&tensor.row(row)[..4 * tensor.cols]),
                    DType::F16 => {
                        bin.extend(tensor.row(row).chunks_exact(2).take(tensor.cols).flat_map(|half| {
                            f16::to_f32(u16::from_le_bytes([half[0], half[1]])).to_le_bytes()
                        }))
                    }
                    other => panic!("the shipped model has no {other:?}"),
                }
            }
        }
    };
    add(Role::TokenEmbd, 1);
    let blocks = [
        Role::AttnNorm,
        Role::AttnQ,
        Role::AttnK,
        Role::AttnV,
        Role::AttnOutput,
        Role::FfnNorm,
        Role::FfnGate,
        Role::FfnDown,
        Role::FfnUp,
    ];
    for role in blocks {
        add(role, config.layers);
    }
    add(Role::OutputNorm, 1);
    // Two tables of frequencies that readers skip.
    bin.resize(bin.len() + 4 * (config.train_ctx * config.head_dim) as usize, 0);

    let mut tokenizer = 32u32.to_le_bytes().to_vec();
    for id in 0..config.vocab {
        let piece = match id {
            0..3 => ["<unk>", "<s>", "</s>"][id as usize].to_owned(),
            3..259 => format!("<0x{:02X}>", id - 3),
            _ => model.tokenizer().piece(id),
        };
        tokenizer.extend(0f32.to_le_bytes());
        tokenizer.extend(u32::try_from(piece.len()).unwrap().to_le_bytes());
        tokenizer.extend(piece.as_bytes());
    }
    (bin, tokenizer)
}

#[test]
fn an_f32_model_from_bos_alone_gives_the_text_that_the_host_gives() {
    let lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let (bin, tokenizer) = export();
    let (file, vocabulary) = (lab.file("model.bin", &bin), lab.file("tok.bin", &tokenizer));
    let runs = lab.json(&[
        "run",
        "-m",
        file.to_str().unwrap(),
        "--tokenizer",
        vocabulary.to_str().unwrap(),
        "-b",
        "mps2-an386",
        "--prompt",
        "",
        "-n",
        "255",
        "--ctx",
        "256",
        "--quant",
        "native",
        "--kv",
        "f32",
    ]);
    let run = &runs[0];
    assert_eq!((&run["state"], &run["model"]["format"]), (&"ok".into(), &"llama2c".into()), "{run}");
    assert_eq!(run["workload"]["prompt_tokens"], serde_json::json!([1]), "BOS alone");

    let model = Model::load(&bin, Some(&tokenizer)).unwrap();
    let image = build_image(&model, Quant::Native).unwrap();
    let request = reference::Request {
        prompt: &[1],
        n_gen: 255,
        temperature: 0.0,
        seed: 0,
        stop_tokens: model.tokenizer().stop_tokens(),
        ctx: 256,
        kv: KvType::F32,
    };
    let host = reference::run(&image, &request).unwrap();
    assert_eq!(run["workload"]["output_tokens"], serde_json::json!(host.tokens));
    assert_eq!(run["workload"]["logits_hash"], format!("{:016x}", host.logits_hash));
    assert_eq!(run["workload"]["output_text"], model.tokenizer().decode(Some(1), &host.tokens));
    assert!(host.tokens.len() > 50, "the text is long enough to say something");
}
