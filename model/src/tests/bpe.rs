//! Byte-level BPE against the `tokenizers` package, and on vocabularies that nobody would write.

use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::Value;

use super::toy::{self, GgufWriter, Toy, string};
use crate::gguf::Gguf;
use crate::{ModelError, Tokenizer};

/// A vocabulary as a GGUF file has it.
#[derive(Clone, Default)]
struct Words {
    tokens: Vec<Vec<u8>>,
    types: Vec<i32>,
    merges: Vec<Vec<u8>>,
}

impl Words {
    /// Tokens, all of them normal, and merges.
    fn new(tokens: &[&str], merges: &[&str]) -> Self {
        let bytes = |list: &[&str]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
        Self { tokens: bytes(tokens), types: vec![1; tokens.len()], merges: bytes(merges) }
    }

    fn load(&self, pre: &str) -> Result<Tokenizer, ModelError> {
        self.load_with(|g| g.str("tokenizer.ggml.pre", pre))
    }

    fn load_with(&self, change: impl Fn(&mut GgufWriter)) -> Result<Tokenizer, ModelError> {
        let mut g = GgufWriter::llama(&Toy::new(toy::config(0), 1));
        g.str("tokenizer.ggml.model", "gpt2");
        let strings = |list: &[Vec<u8>]| -> Vec<u8> {
            list.iter().flat_map(|s| [&(s.len() as u64).to_le_bytes()[..], s].concat()).collect()
        };
        g.array("tokenizer.ggml.tokens", 8, self.tokens.len() as u64, strings(&self.tokens).into_iter());
        g.array("tokenizer.ggml.merges", 8, self.merges.len() as u64, strings(&self.merges).into_iter());
        let types = self.types.iter().flat_map(|t| t.to_le_bytes());
        g.array("tokenizer.ggml.token_type", 5, self.types.len() as u64, types);
        for key in ["scores", "bos_token_id", "eos_token_id"] {
            g.remove(&format!("tokenizer.ggml.{key}"));
        }
        change(&mut g);
        let bytes = g.finish();
        Tokenizer::from_gguf(&Gguf::read(&bytes[..], bytes.len() as u64)?, self.tokens.len() as u32)
    }

    #[track_caller]
    fn refused(&self, words: &str) {
        let error = self.load("gpt-2").unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.hint().is_empty());
    }
}

fn data() -> &'static Value {
    static DATA: OnceLock<Value> = OnceLock::new();
    DATA.get_or_init(|| serde_json::from_str(include_str!("data/byte_level_bpe.json")).unwrap())
}

fn trained() -> Words {
    let list = |key: &str| -> Vec<Vec<u8>> {
        data()[key].as_array().unwrap().iter().map(|s| s.as_str().unwrap().as_bytes().to_vec()).collect()
    };
    let types = data()["types"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap() as i32).collect();
    Words { tokens: list("tokens"), types, merges: list("merges") }
}

/// All 256 bytes as they are written, and what a few of them make.
fn small() -> Words {
    let mut words = trained();
    let normal = |w: &Words, i: usize| w.types[i] == 1;
    let kept: Vec<usize> =
        (0..words.tokens.len()).filter(|&i| normal(&words, i) && words.tokens[i].len() <= 4).collect();
    words.tokens = kept.iter().map(|&i| words.tokens[i].clone()).collect();
    words.types = vec![1; kept.len()];
    let known = |s: &[u8]| words.tokens.iter().any(|t| t == s);
    words.merges.retain(|m| {
        let at = m.iter().position(|&b| b == b' ').unwrap();
        known(&m[..at]) && known(&m[at + 1..]) && known(&[&m[..at], &m[at + 1..]].concat())
    });
    words
}

#[test]
fn ids_are_the_packages() {
    let cases = data()["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 84);
    for pre in ["smollm", "gpt-2", "default"] {
        let t = trained().load(pre).unwrap();
        let mine: Vec<&Value> = cases.iter().filter(|c| c["pre"] == pre).collect();
        assert_eq!(mine.len(), 28);
        for case in mine {
            let text = case["text"].as_str().unwrap();
            let want: Vec<u64> =
                case["ids"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            let got: Vec<u64> = t.encode(text).iter().map(|&n| n.into()).collect();
            assert_eq!(got, want, "{pre}: {text:?}");
        }
    }
}

#[test]
fn names_of_rules_are_those_of_llama_cpp_that_are_known() {
    for pre in ["smollm", "starcoder", "gpt-2", "phi-2", "olmo", "default"] {
        assert_eq!(trained().load(pre).unwrap().kind(), "gpt2");
    }
    for pre in ["llama-bpe", "qwen2", "", "SMOLLM"] {
        let error = trained().load(pre).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("unsupported tokenizer.ggml.pre: found {pre}, supported: smollm,"))
        );
        assert!(error.to_string().contains("gpt-2") && error.to_string().contains("default"));
        assert!(!error.hint().is_empty());
    }
    let error = trained().load_with(|_| {}).unwrap_err().to_string();
    assert!(error.contains("tokenizer.ggml.pre is missing"), "{error}");
}

#[test]
fn bytes_are_joined_and_what_is_no_text_is_marked() {
    let t = trained().load("smollm").unwrap();
    for text in ["The capital", "  naïve 🦀\n", "日本語", "<tool>s \u{0}\u{85}"] {
        let ids = t.encode(text);
        assert_eq!(t.decode(None, &ids), text);
        assert_eq!(t.decode(Some(1), &ids), text, "no space was put in front");
    }
    let crab = t.encode("🦀");
    assert!(crab.len() > 1);
    assert_eq!(t.decode(None, &crab[..crab.len() - 1]), "\u{fffd}");
    assert_eq!(t.decode_bytes(None, &crab), "🦀".as_bytes());
    // This vocabulary lacks the byte f3, which plane 15 begins with, as real ones lack some.
    assert_eq!(t.decode(None, &t.encode("a\u{f0000}b")), "a\u{fffd}\u{fffd}\u{fffd}b");
    // Characters that stand for no byte are shown as they are; special tokens are not.
    let lacking = (0..t.vocab()).find(|&id| t.piece(id).starts_with("[lacking")).unwrap();
    assert_eq!(t.decode(None, &[0, 1, lacking, 2, u32::MAX]), t.piece(lacking));
}

#[test]
fn metadata_says_what_is_added() {
    let plain = trained().load("smollm").unwrap();
    assert_eq!((plain.bos(), plain.eos()), (None, None), "no vocabulary's ids are guessed");
    assert_eq!(plain.stop_tokens(), [0, 2], "the ends that are known by name");
    assert!(plain.encode("").is_empty());
    let t = trained()
        .load_with(|g| {
            g.str("tokenizer.ggml.pre", "smollm");
            g.u32("tokenizer.ggml.bos_token_id", 1);
            g.u32("tokenizer.ggml.eos_token_id", 2);
            g.raw("tokenizer.ggml.add_bos_token", 7, &[1]);
            g.raw("tokenizer.ggml.add_eos_token", 7, &[1]);
        })
        .unwrap();
    let ids = plain.encode("the end");
    assert_eq!(t.encode("the end"), [&[1], &ids[..], &[2]].concat());
    assert_eq!(t.encode_prompt("the end"), [&[1], &ids[..]].concat());
    assert_eq!(t.encode_prompt(""), [1]);
    // Special tokens are never parsed from text, so that it cannot end a turn.
    assert!(t.encode_prompt("<|im_end|>").len() > 4);
    assert_eq!(t.decode(t.bos(), &t.encode("<|im_end|>")), "<|im_end|>");
    let ids = t.synthetic(64);
    assert_eq!(ids[0], 1);
    assert!(ids[1..].iter().all(|&id| id > 2));
}

#[test]
fn merges_that_make_no_sense_are_named() {
    let with = |merge: &[u8]| Words { merges: vec![merge.to_vec()], ..Words::new(&["a", "b", "ab"], &[]) };
    with(b"a b").load("gpt-2").unwrap();
    with(b"a c").refused("merge 0 of the tokenizer, \"a c\", names no token");
    with(b"b a").refused("names no token");
    with(b"ab").refused("is no pair");
    with(b"").refused("is no pair");
    with(b" ").refused("names no token");
    with(b"a b b").refused("stand for no byte");
    with(b"a \xff").refused("not UTF-8");
    let mut words = Words::new(&["a"], &[]);
    words.types = vec![9];
    words.refused("token type 9 is unknown");
    words.types = vec![1, 1];
    words.refused("1 tokens have 2 types");
    let error = words.load_with(|g| g.u32("tokenizer.ggml.merges", 1)).unwrap_err();
    assert!(error.to_string().contains("pre is missing"), "{error}");
    let none = Words::new(&["a"], &[]).load_with(|g| {
        g.str("tokenizer.ggml.pre", "gpt-2");
        g.remove("tokenizer.ggml.merges");
    });
    assert!(none.unwrap_err().to_string().contains("merges is no array of strings"));
}

#[test]
fn odd_vocabularies_do_no_harm() {
    // Nothing at all.
    let empty = Words::default().load("gpt-2").unwrap();
    assert!(empty.encode("some text").is_empty());
    assert_eq!(empty.synthetic(3), [0; 3]);
    // Duplicates: the lowest id and the first rank count.
    let twice = Words::new(&["a", "b", "ab", "ab", "a"], &["a b", "a b"]).load("gpt-2").unwrap();
    assert_eq!(twice.encode("ab"), [2]);
    // Merges whose results merge again with each other, and lead to the same token.
    let merges = ["a a", "aa aa", "aa a", "a aa", "aaa a", "a aaa"];
    let round = Words::new(&["a", "aa", "aaa", "aaaa"], &merges).load("gpt-2").unwrap();
    assert_eq!(round.encode("aaaaaaa"), [3, 2]);
    // User-defined tokens that are empty, no text, or each other's prefixes.
    let mut defined = Words::new(&["a", "", "aa", "aaa"], &[]);
    defined.tokens.push(vec![0xff, 0xfe]);
    defined.types = vec![1, 4, 4, 4, 4];
    assert_eq!(defined.load("gpt-2").unwrap().encode("aaaaaéa"), [3, 2, 0]);
    let mut many = Words::new(&["a"], &[]);
    many.tokens.extend((0..10_000).map(|i| format!("<{i}>").into_bytes()));
    many.types.resize(many.tokens.len(), 4);
    many.refused("10000 tokens of");
}

#[test]
fn long_words_take_no_square_of_time() {
    // At a square of the length, this would take hours.
    let t = trained().load("gpt-2").unwrap();
    for run in ["a", "the", " ", "9", "é", "=", "\n"] {
        let text = run.repeat((1 << 20) / run.len());
        let ids = t.encode(&text);
        assert!(ids.len() <= text.len());
        assert_eq!(t.decode(None, &ids), text);
    }
    let doubling = Words::new(&["a", "aa", "aaaa"], &["a a", "aa aa"]).load("gpt-2").unwrap();
    assert_eq!(doubling.encode(&"a".repeat(1 << 20)), vec![2; 1 << 18]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The queue against the definition: look at all pairs, merge the best, again.
    #[test]
    fn the_best_pair_is_merged_first(word in "[aehilnorst]{1,40}") {
        let words = small();
        let t = words.load("gpt-2").unwrap();
        let mut parts: Vec<String> = word.chars().map(String::from).collect();
        loop {
            let rank = |pair: &[String]| {
                let merge = pair.join(" ").into_bytes();
                words.merges.iter().position(|m| *m == merge)
            };
            let best = (1..parts.len()).filter_map(|i| Some((rank(&parts[i - 1..=i])?, i))).min();
            let Some((_, i)) = best else { break };
            let right = parts.remove(i);
            parts[i - 1] += &right;
        }
        let want: Vec<u32> =
            parts.iter().map(|p| words.tokens.iter().position(|t| t == p.as_bytes()).unwrap() as u32).collect();
        prop_assert_eq!(t.encode(&word), want);
    }

    #[test]
    fn decoding_undoes_encoding(text: String, more in "[ a1.'\n\té🦀]{0,30}") {
        let t = trained().load("smollm").unwrap();
        for text in [text.as_str(), &more] {
            if text.bytes().all(|b| b != 0xf2 && b != 0xf3) {
                prop_assert_eq!(t.decode(None, &t.encode(text)), text);
            }
        }
    }

    #[test]
    fn arbitrary_vocabularies_do_no_harm(
        tokens in prop::collection::vec("[ab Ġé]{0,3}", 0..12),
        types in prop::collection::vec(0i32..7, 12),
        merges in prop::collection::vec("[abĠé]{0,2} ?[abĠ]{0,2}", 0..12),
        text in "[ab é]{0,20}",
        pre in prop::sample::select(vec!["gpt-2", "smollm", "default"]),
    ) {
        let types = types[..tokens.len()].to_vec();
        let words = Words {
            tokens: tokens.into_iter().map(String::into_bytes).collect(),
            types,
            merges: merges.into_iter().map(String::into_bytes).collect(),
        };
        if let Ok(t) = words.load(pre) {
            let ids = t.encode(&text);
            prop_assert!(ids.iter().all(|&id| id < t.vocab()));
            let _ = t.decode(None, &ids);
        }
    }
}

#[test]
fn a_model_with_such_a_vocabulary_is_inspected_and_run() {
    let toy = Toy::new(toy::config(0), 1);
    let mut g = GgufWriter::llama(&toy);
    let n = u64::from(toy.config.vocab);
    g.str("tokenizer.ggml.model", "gpt2");
    g.str("tokenizer.ggml.pre", "gpt-2");
    let pieces = (0..n).flat_map(|i| {
        string(&if i < 26 { char::from(b'a' + i as u8).to_string() } else { format!("<{i}>") })
    });
    g.array("tokenizer.ggml.tokens", 8, n, pieces.collect::<Vec<_>>().into_iter());
    g.array("tokenizer.ggml.token_type", 5, n, (0..n).flat_map(|_| 1i32.to_le_bytes()));
    g.array("tokenizer.ggml.merges", 8, 0, [].into_iter());
    for (role, layer, w) in &toy.tensors {
        let (dims, name) = toy.dims(*role, *layer);
        g.tensor(&name, &dims, 0, &toy::store(crate::DType::F32, w));
    }
    let bytes = g.finish();
    let seen = crate::inspect_bytes(&bytes).unwrap();
    assert!(seen.supported, "{seen:?}");
    assert_eq!(seen.tokenizer.unwrap().kind, "gpt2");
    let model = crate::Model::load(&bytes, None).unwrap();
    assert_eq!(model.tokenizer().encode_prompt("ab"), [0, 1]);
}
