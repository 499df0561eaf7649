//! The shipped model: what the engine makes of it against computations that share no code with it.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::Value;

use super::plain::{Plain, score};
use super::runc::RunC;
use super::toy;
use crate::reference::{Request, run, with_session};
use crate::{KvType, Model, ModelError, Quant, build_image, rows};

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{}: {e}", path(name).display()))
}

pub(super) fn model() -> Model {
    Model::open(&path("edgeprof-kjv-280k.gguf"), None).unwrap()
}

fn facts() -> Value {
    serde_json::from_str(&text("reference.json")).unwrap()
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
}

/// The held-out passages as tokens, BOS first.
fn passages(model: &Model) -> Vec<Vec<u32>> {
    text("heldout.txt").trim_end_matches('\n').split("\n\n").map(|p| model.tokenizer().encode(p)).collect()
}

/// For every position after BOS: negative log-likelihood, and the token thought most likely.
type Scores = Vec<(f64, usize)>;

/// By the exact computation, which several tests compare with.
fn exact_scores(model: &Model, passages: &[Vec<u32>]) -> &'static Scores {
    static SCORES: OnceLock<Scores> = OnceLock::new();
    SCORES.get_or_init(|| {
        let mut plain = Plain::new(model);
        let mut out = Vec::new();
        for p in passages {
            plain.reset();
            out.extend(p.windows(2).map(|w| score(&plain.forward(w[0]), w[1])));
        }
        out
    })
}

fn engine_scores(image: &[u8], kv: KvType, passages: &[Vec<u32>]) -> Scores {
    let longest = passages.iter().map(Vec::len).max().unwrap() as u32;
    with_session(image, longest, kv, |session| {
        let mut out = Vec::new();
        for p in passages {
            session.reset();
            for w in p.windows(2) {
                session.forward(w[0], true).map_err(|e| ModelError::Engine { what: e.to_string() })?;
                let logits: Vec<f64> = session.logits().iter().map(|&l| l.into()).collect();
                out.push(score(&logits, w[1]));
            }
        }
        Ok(out)
    })
    .unwrap()
}

fn mean(scores: &[(f64, usize)]) -> f64 {
    scores.iter().map(|s| s.0).sum::<f64>() / scores.len() as f64
}

/// Ratio of the mean losses and share of equal first choices.
fn compare(exact: &[(f64, usize)], got: &Scores) -> (f64, f64) {
    assert_eq!(exact.len(), got.len());
    let same = exact.iter().zip(got).filter(|(a, b)| a.1 == b.1).count();
    (mean(got) / mean(exact), same as f64 / exact.len() as f64)
}

#[test]
fn quantized_engine_keeps_the_models_quality() {
    let model = model();
    let passages = passages(&model);
    let all = exact_scores(&model, &passages);
    // Whole passages, of 512 tokens at most.
    let check = |positions: usize, quant: Quant, kv: KvType, worst_nll: f64, least_same: f64| {
        let mut total = 0;
        let until = passages.iter().position(|p| {
            total += p.len() - 1;
            total >= positions
        });
        let image = build_image(&model, quant).unwrap();
        let got = engine_scores(&image, kv, &passages[..=until.expect("positions enough")]);
        let exact = &all[..total];
        let (ratio, same) = compare(exact, &got);
        println!(
            "{quant}, {} cache, {} positions: NLL {:.4}, {ratio:.5} of f32's; top-1 {:.2} %",
            kv.name(),
            exact.len(),
            ratio * mean(exact),
            100.0 * same
        );
        assert!((ratio - 1.0).abs() <= worst_nll, "NLL ratio {ratio}");
        assert!(same >= least_same, "top-1 agreement {same}");
    };
    check(2_500, Quant::Q8_0, KvType::F16, 0.01, 0.97);
    check(2_500, Quant::Q8_0, KvType::I8, 0.01, 0.97);
    // Native is F16: only the order of the sums differs from the exact computation.
    check(800, Quant::Native, KvType::F32, 1e-4, 0.995);
    // Four bits hurt a model this small; what is held is that it still predicts.
    check(800, Quant::Q4_0, KvType::F16, 0.25, 0.6);
}

#[test]
fn held_out_loss_is_the_trainers() {
    let model = model();
    let facts = facts();
    let facts = &facts["heldout"];
    let passages = passages(&model);
    let lengths: Vec<u32> = passages.iter().map(|p| p.len() as u32).collect();
    assert_eq!(lengths, ids(&facts["tokens_per_passage_with_bos"]));
    let first = ids(&facts["first_passage_ids_first_32"]);
    assert_eq!(passages[0][..first.len()], first);
    let exact = exact_scores(&model, &passages);
    assert_eq!(exact.len() as u64, facts["positions"].as_u64().unwrap());
    let near = |want: &Value, got: f64| {
        let want = want.as_f64().unwrap();
        assert!((want - got).abs() < 1e-4, "{want} {got}");
    };
    near(&facts["mean_nll_all_positions"], mean(exact));
    near(&facts["mean_nll_first_1024_positions"], mean(&exact[..1024]));
    for (want, got) in facts["first_passage_nll_first_8"].as_array().unwrap().iter().zip(exact) {
        near(want, got.0);
    }
}

#[test]
fn prompts_continue_as_the_trainers_computation_says() {
    let model = model();
    let tokens = model.tokenizer();
    let native = build_image(&model, Quant::Native).unwrap();
    let facts = facts();
    let prompts = facts["prompts"].as_array().unwrap();
    assert!(!prompts.is_empty());
    for fact in prompts {
        let prompt = tokens.encode_prompt(fact["text"].as_str().unwrap());
        assert_eq!(prompt, ids(&fact["ids"]));
        with_session(&native, 512, KvType::F32, |s| {
            for &t in &prompt {
                s.forward(t, true).unwrap();
            }
            for top in fact["top5"].as_array().unwrap() {
                let got = f64::from(s.logits()[top["id"].as_u64().unwrap() as usize]);
                let want = top["logit"].as_f64().unwrap();
                assert!((got - want).abs() < 2e-3, "{got} {want}");
            }
            Ok(())
        })
        .unwrap();
        let want = ids(&fact["greedy_next_24_ids"]);
        let got = run(
            &native,
            &Request {
                prompt: &prompt,
                n_gen: want.len() as u32,
                temperature: 0.0,
                seed: 0,
                stop_tokens: tokens.stop_tokens(),
                ctx: 512,
                kv: KvType::F32,
            },
        )
        .unwrap();
        assert_eq!(got.tokens, want);
        let text =
            tokens.decode(tokens.bos(), &prompt[1..]) + &tokens.decode(prompt.last().copied(), &got.tokens);
        assert_eq!(text, fact["greedy_text"].as_str().unwrap());
    }
}

#[test]
fn llama2c_export_gives_llama2cs_text() {
    let model = model();
    // The model as llama2.c would have it, f32 throughout.
    let bin = toy::llama2c(model.config(), |role, layer| {
        let tensors = model.header().tensors();
        let t = tensors.iter().find(|t| t.role == role && (t.layer == layer || t.layer > 4096));
        let t = t.unwrap();
        let mut w = vec![0.0; t.elements() as usize];
        rows::to_f32(t.dtype, t.slice(model.bytes()).unwrap(), &mut w);
        w
    });
    let vocab = model.config().vocab;
    let tokenizer = toy::tokenizer_bin(model.tokenizer().export());
    let c = Model::load(&bin, Some(&tokenizer)).unwrap();
    assert_eq!(c.tokenizer().stop_tokens(), [1, 2]);
    let image = build_image(&c, Quant::Native).unwrap();
    for text in ["", "And God said, Let there be light", "naïve 🦀\n"] {
        let prompt = c.tokenizer().encode_prompt(text);
        assert_eq!(prompt, model.tokenizer().encode_prompt(text));
        let n_gen = 256 - prompt.len() as u32;
        let got = run(
            &image,
            &Request {
                prompt: &prompt,
                n_gen,
                temperature: 0.0,
                seed: 0,
                stop_tokens: &[1],
                ctx: 256,
                kv: KvType::F32,
            },
        )
        .unwrap();
        let steps = prompt.len() - 1 + n_gen as usize;
        let want = RunC::new(&bin).generate(&prompt, steps, vocab as usize);
        assert_eq!(got.tokens, want);
        let last = prompt.last().copied();
        assert_eq!(c.tokenizer().decode(last, &want), model.tokenizer().decode(last, &got.tokens));
        println!("{}", c.tokenizer().decode(last, &want));
    }
}
