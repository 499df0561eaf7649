//! The tokenizer against SentencePiece, and on strings that nobody would write.

use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::Value;

use super::toy::{self, Toy};
use super::{shipped, toy::GgufWriter};
use crate::{DType, Model, Tokenizer};

/// A GGUF and a llama2.c tokenizer of the same vocabulary.
fn both() -> &'static [Tokenizer; 2] {
    static BOTH: OnceLock<[Tokenizer; 2]> = OnceLock::new();
    BOTH.get_or_init(|| {
        let toy = Toy::new(toy::config(0), 1);
        let gguf = Model::load(&toy.gguf(DType::F32), None).unwrap();
        let c = Model::load(&toy.llama2c(), Some(&toy.tokenizer_bin())).unwrap();
        [gguf.tokenizer().clone(), c.tokenizer().clone()]
    })
}

fn with(change: impl Fn(&mut GgufWriter)) -> Tokenizer {
    let toy = Toy::new(toy::config(0), 1);
    let mut g = GgufWriter::llama(&toy);
    change(&mut g);
    for (role, layer, w) in &toy.tensors {
        let (dims, name) = toy.dims(*role, *layer);
        g.tensor(&name, &dims, 0, &toy::store(DType::F32, w));
    }
    Model::load(&g.finish(), None).unwrap().tokenizer().clone()
}

/// Ids from `SentencePieceProcessor.encode`, BOS in front.
#[test]
fn ids_are_sentencepieces() {
    let model = shipped::model();
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/sentencepiece.json")).unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let want: Vec<u64> = case["ids"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let got: Vec<u64> = model.tokenizer().encode(text).iter().map(|&n| n.into()).collect();
        assert_eq!(got, want, "{text:?}");
    }
}

#[test]
fn merges_take_the_best_pair_first_and_the_leftmost_of_equals() {
    for t in both() {
        let ids = |text: &str| t.encode(text);
        let piece = |p: &str| (259..t.vocab()).find(|&i| t.piece(i) == p).unwrap();
        // "▁t" scores above "he", so "▁the" is reached; "he" alone where there is no space.
        assert_eq!(ids("the"), [1, piece(" the")]);
        assert_eq!(ids("hehe"), [1, piece(" "), piece("he"), piece("he")]);
        // "an" scores above "▁a".
        assert_eq!(ids("an"), [1, piece(" "), piece("an")]);
    }
}

#[test]
fn special_tokens_are_not_parsed_from_text() {
    for t in both() {
        let ids = t.encode("<s></s><unk><0x41>");
        assert!(ids[1..].iter().all(|id| *id > 2), "{ids:?}");
        assert_eq!(t.decode(t.bos(), &ids[1..]), "<s></s><unk><0x41>");
        assert_eq!(t.decode(t.bos(), &[1, 2, 0]), "");
    }
}

#[test]
fn decoding_strips_one_space_after_bos_only() {
    for t in both() {
        let ids = t.encode("  the");
        assert_eq!(t.decode(t.bos(), &ids[1..]), "  the");
        assert_eq!(t.decode(Some(7), &ids[1..]), "   the");
        assert_eq!(t.decode(None, &ids), "  the");
        let the = *t.encode("the").last().unwrap();
        assert_eq!(t.decode(Some(the), &[the, the]), " the the");
        // A character's bytes are joined; a part of one is no UTF-8.
        let crab = t.encode("🦀");
        assert_eq!(t.decode(t.bos(), &crab[1..]), "🦀");
        assert_eq!(t.decode(t.bos(), &crab[1..crab.len() - 1]), "\u{fffd}");
        assert_eq!(t.decode(None, &[u32::MAX]), "");
    }
}

#[test]
fn metadata_says_what_is_added() {
    let plain = with(|_| {});
    assert_eq!(plain.encode("")[..], [1]);
    assert_eq!(plain.stop_tokens(), [2]);
    let t = with(|g| {
        g.raw("tokenizer.ggml.add_bos_token", 7, &[0]);
        g.raw("tokenizer.ggml.add_eos_token", 7, &[1]);
        g.raw("tokenizer.ggml.add_space_prefix", 7, &[0]);
        g.u32("tokenizer.ggml.eot_token_id", 1);
    });
    let ids = t.encode("a");
    assert_eq!(ids.last(), Some(&2));
    assert_eq!(ids.len(), 2);
    assert_eq!(t.encode_prompt("a"), ids[..1]);
    assert_eq!(t.encode_prompt(""), [1], "an empty prompt starts from BOS alone");
    assert_eq!(t.decode(Some(1), &t.encode_prompt(" a")), " a", "no space was put in front");
    assert_eq!(t.stop_tokens(), [1, 2]);
}

#[test]
fn synthetic_prompts_are_fixed_and_ordinary() {
    for t in both() {
        let ids = t.synthetic(64);
        assert_eq!(ids, t.synthetic(64));
        assert_eq!(ids[..10], t.synthetic(10));
        assert_eq!(ids.len(), 64);
        assert_eq!(ids[0], 1);
        assert!(ids[1..].iter().all(|&id| id > 258));
        assert!(ids[1..].iter().any(|&id| id != ids[1]));
        assert!(t.synthetic(0).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_undoes_encoding(s in any::<String>(), words in "[ theandis\n]{0,40}") {
        // U+2581 is GGUF's way to write a space, see `Tokenizer::encode`.
        let [gguf, c] = both();
        for s in [s, words] {
            let ids = c.encode(&s);
            prop_assert_eq!(c.decode(c.bos(), &ids[1..]), s.clone());
            let s = s.replace('\u{2581}', "_");
            let ids = gguf.encode(&s);
            prop_assert_eq!(gguf.decode(gguf.bos(), &ids[1..]), s.clone());
            prop_assert_eq!(ids, c.encode(&s));
        }
    }

    /// The queue of pairs against llama2.c's loop, which looks at all pairs each time.
    #[test]
    fn encoding_is_llama2cs_loop(s in "[ theandis]{0,60}") {
        let [gguf, _] = both();
        let piece = |id: u32| gguf.piece(id);
        let score = |id: u32| gguf.export().nth(id as usize).unwrap().1;
        let find = |p: &str| (259..gguf.vocab()).find(|&i| piece(i) == p);
        let mut ids: Vec<u32> = format!(" {s}").chars().map(|c| find(&c.to_string()).unwrap()).collect();
        loop {
            let mut best: Option<(f32, usize, u32)> = None;
            for i in 1..ids.len() {
                let Some(id) = find(&(piece(ids[i - 1]) + &piece(ids[i]))) else { continue };
                if best.is_none_or(|b| score(id) > b.0) {
                    best = Some((score(id), i, id));
                }
            }
            let Some((_, i, id)) = best else { break };
            ids[i - 1] = id;
            ids.remove(i);
        }
        if s.is_empty() { ids.clear(); }
        prop_assert_eq!(&gguf.encode(&s)[1..], &ids[..]);
    }
}
