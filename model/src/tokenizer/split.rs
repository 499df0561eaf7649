//! Text cut into words, within which byte pairs are merged: the rule that `tokenizer.ggml.pre` names.
//!
//! The rules are the expressions that llama.cpp has for a name (`llama-vocab.cpp`, `regex_exprs`). All
//! of them contain GPT-2's, whose `\s+(?!\S)|\s+` is done by hand: the last of several whitespace
//! characters goes to the word after them. Expressions without lookahead take linear time.

use std::sync::LazyLock;

use regex::Regex;

/// Names that are accepted, for messages.
pub(super) const NAMES: &str = "smollm, starcoder, refact, codeshell, minerva-7b (each digit a word); gpt-2, phi-2, \
                                mpt, olmo, jais, mellum (GPT-2's words); default (words and punctuation, three digits)";

/// A rule for cutting text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// GPT-2's words.
    Gpt2,
    /// Every digit alone, then GPT-2's words.
    Digits,
    /// llama.cpp's own: punctuation alone, GPT-2's words, numbers alone, their digits by threes.
    Default,
}

impl Rule {
    /// The rule of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "mellum" => Self::Gpt2,
            "smollm" | "starcoder" | "refact" | "codeshell" | "minerva-7b" => Self::Digits,
            "default" => Self::Default,
            _ => return None,
        })
    }

    /// The words of a text, which joined are the text.
    pub(super) fn words(self, text: &str) -> Vec<&str> {
        let all = vec![text];
        match self {
            Self::Gpt2 => each(all, gpt2),
            Self::Digits => each(each(all, |t, out| isolate(&DIGIT, t, out)), gpt2),
            Self::Default => {
                let words = each(each(all, |t, out| isolate(&PUNCTUATION, t, out)), gpt2);
                let words = each(words, |t, out| isolate(&NUMBER, t, out));
                each(words, |t, out| isolate(&THREE_DIGITS, t, out))
            }
        }
    }
}

fn expression(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant expression")
}

static WORD: LazyLock<Regex> =
    LazyLock::new(|| expression(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"));
static DIGIT: LazyLock<Regex> = LazyLock::new(|| expression(r"\p{N}"));
static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| expression(r"[\p{P}$+<=>^~|]+"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| expression(r"\p{N}+"));
static THREE_DIGITS: LazyLock<Regex> = LazyLock::new(|| expression("[0-9][0-9][0-9]"));

/// Cuts every word further.
fn each<'t>(words: Vec<&'t str>, mut cut: impl FnMut(&'t str, &mut Vec<&'t str>)) -> Vec<&'t str> {
    let mut out = Vec::with_capacity(words.len());
    for word in words {
        cut(word, &mut out);
    }
    out
}

/// Matches, and what lies between them.
fn isolate<'t>(what: &Regex, text: &'t str, out: &mut Vec<&'t str>) {
    let mut start = 0;
    for found in what.find_iter(text) {
        if found.start() > start {
            out.push(&text[start..found.start()]);
        }
        out.push(found.as_str());
        start = found.end();
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
}

/// GPT-2's words, which leave nothing between them.
fn gpt2<'t>(text: &'t str, out: &mut Vec<&'t str>) {
    let mut start = 0;
    while let Some(found) = WORD.find_at(text, start) {
        let mut end = found.end();
        let word = found.as_str();
        if end < text.len()
            && let Some((last, _)) = word.char_indices().next_back()
            && last > 0
            && word.trim_start().is_empty()
        {
            end = found.start() + last;
        }
        out.push(&text[start..end]);
        start = end;
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_the_rules() {
        let words = |rule: Rule, text| rule.words(text).join("|");
        for rule in [Rule::Gpt2, Rule::Digits, Rule::Default] {
            assert_eq!(words(rule, "Hello, world  end"), "Hello|,| world| | end");
            assert_eq!(words(rule, "a\n\n b \t"), "a|\n\n| b| \t");
            assert_eq!(words(rule, ""), "");
        }
        assert_eq!(words(Rule::Gpt2, "in 1984x ½"), "in| 1984|x| ½");
        assert_eq!(words(Rule::Digits, "in 1984x ½"), "in| |1|9|8|4|x| |½");
        assert_eq!(words(Rule::Digits, "a  1"), "a|  |1", "what ends before a digit ends");
        assert_eq!(words(Rule::Default, "in 19847 (a)."), "in| |198|47| |(|a|).");
        assert_eq!(words(Rule::Gpt2, "'ve I've 'Ve"), "'ve| I|'ve| '|Ve");
        assert_eq!(words(Rule::Default, "I've"), "I|'|ve");
        assert_eq!(words(Rule::Gpt2, "a\u{a0}\u{a0}b\u{3000}"), "a|\u{a0}|\u{a0}|b|\u{3000}");
    }

    #[test]
    fn long_runs_take_linear_time() {
        // Quadratic, this would take minutes.
        for run in ["a", " ", "\n ", "'", "1", "!", "é", "a ", "\u{a0}"] {
            let text = run.repeat(1 << 17);
            for rule in [Rule::Gpt2, Rule::Digits, Rule::Default] {
                assert_eq!(rule.words(&text).concat().len(), text.len());
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text: String, spaces in "[ a1.'\n\u{3000}]{0,30}") {
            for text in [text, spaces] {
                for rule in [Rule::Gpt2, Rule::Digits, Rule::Default] {
                    let words = rule.words(&text);
                    prop_assert!(words.iter().all(|w| !w.is_empty()));
                    prop_assert_eq!(words.concat(), text.clone());
                }
            }
        }
    }
}
