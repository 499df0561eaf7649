//! A job on the command line, and who asks for it.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use edgeprof_client::Client;
use edgeprof_common::{Kv, Priority, Quant};
use serde::Deserialize;

use crate::suites::Suite;

/// In whose name something is asked for.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Who {
    /// In whose name: left out, whoever the coordinator takes you for, or USER@HOST where it asks nobody
    #[arg(long = "as", value_name = "NAME", env = "EDGEPROF_SUBMITTER", help_heading = "Scheduling")]
    name: Option<String>,
}

impl Who {
    /// The name that `client` has to say: none where it shows who it is, unless one was given.
    pub(crate) fn to_say(&self, client: &Client) -> String {
        if client.is_identified() { self.given().unwrap_or_default().to_owned() } else { self.name() }
    }

    fn given(&self) -> Option<&str> {
        self.name.as_deref().map(str::trim).filter(|name| !name.is_empty())
    }

    /// The name that was given, else who runs this command, and where.
    fn name(&self) -> String {
        if let Some(name) = self.given() {
            return name.to_owned();
        }
        let id = nix::unistd::getuid();
        let user =
            nix::unistd::User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name);
        match nix::unistd::gethostname().map(std::ffi::OsString::into_string) {
            Ok(Ok(host)) => format!("{user}@{host}"),
            _ => user,
        }
    }
}

/// A job as flags, and as the keys of a job file.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct JobArgs {
    /// Model: GGUF (v2, v3) or llama2.c .bin; repeatable
    #[arg(short, long, value_name = "FILE")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) model: Vec<PathBuf>,
    /// llama2.c tokenizer.bin, for models that carry none
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Boards: an id, a kind, `all`, or a KEY=VALUE label; repeatable
    ///
    /// A selector names a set of boards, and its task runs on any one of them. `all` is one cell for every
    /// kind present.
    #[arg(short, long, value_name = "SEL")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) board: Vec<String>,
    /// One cell for every single board of the sets, to compare units
    #[arg(long)]
    pub(crate) each: bool,
    /// A real prompt, repeatable; "" starts from BOS alone
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Test")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) prompt: Vec<String>,
    /// A real prompt from a file, repeatable; one line end at its end is dropped
    #[arg(long, value_name = "FILE", help_heading = "Test")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) prompt_file: Vec<PathBuf>,
    /// Synthetic prompt of N tokens: BOS, then a fixed sequence [default: 16, where there is no prompt]
    #[arg(short = 'p', long, value_name = "N,…", value_delimiter = ',', help_heading = "Test")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) n_prompt: Vec<u32>,
    /// Tokens to generate at most; a real prompt stops at EOS [default: 16]
    #[arg(short = 'n', long, value_name = "N,…", value_delimiter = ',', help_heading = "Test")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) n_gen: Vec<u32>,
    /// Tokens of context already filled [default: 0]
    #[arg(short = 'd', long, value_name = "N,…", value_delimiter = ',', help_heading = "Test")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) n_depth: Vec<u32>,
    /// A built-in suite instead of prompts and lengths; see `edgeprof suites`
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        conflicts_with_all = ["prompt", "prompt_file", "n_prompt", "n_gen", "n_depth"],
        help_heading = "Test"
    )]
    pub(crate) suite: Option<Suite>,
    /// Sampling temperature; 0 is greedy [default: 0]
    #[arg(long, value_name = "T", help_heading = "Settings")]
    pub(crate) temperature: Option<f32>,
    /// Of the sampler [default: 0]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub(crate) seed: Option<u64>,
    /// Threads of host boards [default: 1]
    #[arg(short = 't', long, value_name = "N", value_delimiter = ',', help_heading = "Settings")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) threads: Vec<u32>,
    /// Repetitions that count [default: emulated 1, measured 5]
    #[arg(short, long, value_name = "N", help_heading = "Settings")]
    pub(crate) repetitions: Option<u32>,
    /// Repetitions discarded before them [default: emulated 0, measured 1]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub(crate) warmup: Option<u32>,
    /// Weights: native, q8_0, q4_0 [default: native, as they are]
    #[arg(long, value_name = "Q,…", value_delimiter = ',', help_heading = "Settings")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) quant: Vec<Quant>,
    /// KV cache type: f32, f16, i8 [default: f16]
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',', help_heading = "Settings")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) kv: Vec<Kv>,
    /// Context length in tokens [default: depth + prompt + generated]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub(crate) ctx: Option<u32>,
    /// Another firmware than the board kind's own
    #[arg(long, value_name = "ELF", help_heading = "Settings")]
    pub(crate) firmware: Option<PathBuf>,
    /// low, normal, high or critical [default: normal]
    ///
    /// A higher class goes first. A task that has waited for the coordinator's `ageing` (10 minutes) goes into
    /// the next higher class, so that it is late but never starved. Within a class submitters get equal shares.
    #[arg(long, value_name = "CLASS", help_heading = "Scheduling")]
    pub(crate) priority: Option<Priority>,
    /// Kept with every run; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, help_heading = "Scheduling")]
    #[serde(deserialize_with = "labels")]
    pub(crate) label: Vec<(String, String)>,
    /// Print the job's id and leave
    #[arg(long, help_heading = "Scheduling")]
    pub(crate) detach: bool,
    /// Wait so long for a board that is not there, such as 10m, instead of refusing the job
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, help_heading = "Scheduling")]
    #[serde(deserialize_with = "duration")]
    pub(crate) wait_for_board: Option<Duration>,
    /// Where the coordinator's queue is full, try again for so long, such as 10m, instead of giving up
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, help_heading = "Scheduling")]
    #[serde(deserialize_with = "duration")]
    pub(crate) wait_for_room: Option<Duration>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Visitor<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("one value or a list")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|one| vec![one])
        }
        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Vec<T>, E> {
            T::deserialize(serde::de::value::I64Deserializer::new(number)).map(|one| vec![one])
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                all.push(one);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Visitor(std::marker::PhantomData))
}

fn labels<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    let map = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
    Ok(map.into_iter().collect())
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_who_was_named_else_who_runs_the_command() {
        let named = |name: &str| Who { name: Some(name.into()) }.name();
        assert_eq!(named(" nightly "), "nightly");
        let default = Who::default().name();
        assert!(
            default.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()),
            "{default}"
        );
        assert_eq!(named(""), default);
    }
}
