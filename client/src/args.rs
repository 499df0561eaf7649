//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use edgeprof_client::{Client, address};
use edgeprof_common::{Kv, Priority, Quant};
use serde::Deserialize;

use crate::{exit::Failure, output::Format, progress::Mode, suites::Suite};

/// Profile quantized language models on small boards, real or emulated.
#[derive(Debug, Parser)]
#[command(name = "edgeprof", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  edgeprof boards
  edgeprof run -m stories260K.bin --tokenizer tok512.bin -b all --prompt \"Once upon a time\"
  edgeprof run -m model.gguf -b mps2-an386 -b riscv32 -p 16,64 -n 32 --quant q8_0,q4_0 -o json
  edgeprof submit -f nightly.toml
  edgeprof results j01k2m3n4p5q6r -o csv

Exit codes: 0 ok, 1 a cell failed, 2 the request is wrong or refused, 3 the cluster is out of reach.";

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Global {
    /// Address of the coordinator, such as http://lab:7450
    ///
    /// Else it is taken from EDGEPROF_COORDINATOR, from `coordinator` in ~/.config/edgeprof/config.toml, from
    /// an mDNS announcement on this network, or is http://127.0.0.1:7450.
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) coordinator: Option<String>,
    /// Shape of the output
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
    /// Progress on standard error: bars on a terminal, plain lines, or none
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "EDGEPROF_PROGRESS",
        value_name = "MODE",
        help_heading = "Global options"
    )]
    pub(crate) progress: Mode,
}

impl Global {
    /// What was said of the coordinator: flag, environment, configuration file.
    pub(crate) fn said(&self) -> address::Said {
        let variable = |name: &str| std::env::var(name).ok();
        address::Said {
            flag: self.coordinator.clone(),
            environment: variable("EDGEPROF_COORDINATOR"),
            config: address::config_path(variable),
        }
    }

    /// Finds the coordinator and connects.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let target = address::resolve(&self.said(), address::search()).await?;
        Ok(address::connect(&target).await?)
    }
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Command {
    /// List boards: id, kind, worker, health, what each runs
    Boards {
        /// Only boards with this label; repeatable, all must match
        #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
    },
    /// List workers: address, health, boards, epoch, last heartbeat
    Workers,
    /// Submit a job, follow it with progress, print its results
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// Run on a private coordinator and worker with emulated boards, gone afterwards
        ///
        /// -b names their kinds; `all` is every kind that can be emulated here.
        #[arg(long, conflicts_with = "detach")]
        local: bool,
        #[command(flatten)]
        job: JobArgs,
    },
    /// Submit a job and print its id
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit {
        /// Take the job from a TOML file, whose keys are the long names of these flags
        #[arg(short = 'f', long, value_name = "JOB.toml", conflicts_with = "JobArgs")]
        file: Option<PathBuf>,
        #[command(flatten)]
        job: JobArgs,
    },
    /// List jobs, newest first
    Jobs {
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
    },
    /// Show a job and its tasks
    Show {
        /// Id of the job
        job: String,
    },
    /// Follow a job until it ends, over restarts of the coordinator
    Watch {
        /// Id of the job
        job: String,
    },
    /// Cancel a job and print its state
    Cancel {
        /// Id of the job
        job: String,
    },
    /// Print recorded runs, whole
    Results {
        /// Id of a job or of a run
        #[arg(value_name = "JOB|RUN")]
        id: String,
    },
    /// Show what passed on the boards' lines, attempt by attempt
    Logs {
        /// Id of a job, of a task or of a run
        #[arg(value_name = "JOB|TASK|RUN")]
        id: String,
    },
    /// Look after one board
    Board {
        #[command(subcommand)]
        command: BoardCommand,
    },
    /// List the built-in suites
    Suites,
    /// Say what on this machine would keep a lab from working, and the remedy
    ///
    /// Exit code 0 if nothing does, 1 if something does; what only narrows a lab is a warning.
    Doctor,
    /// Look at model files; needs no cluster
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BoardCommand {
    /// Say what is wrong with a board, and the way out; exits with 1 if it cannot be used
    Check {
        /// Id of the board
        board: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Say what a model file is: architecture, size, quantization, tokenizer
    Inspect {
        /// GGUF or llama2.c file
        file: PathBuf,
    },
}

const RUN_EXAMPLES: &str = "\
Every -m, -b, prompt and list entry multiplies the cells of the job; each cell is one result.
Without --prompt, -p and --suite the test is -p 16 -n 16.

Examples:
  edgeprof run -m model.gguf -b all
  edgeprof run -m stories260K.bin --tokenizer tok512.bin -b mps2-an386 --prompt \"Once upon a time\" -n 64
  edgeprof run -m model.gguf -b riscv32 -p 16,64,256 -n 16 --quant native,q4_0 --kv i8 -o csv
  edgeprof run -m model.gguf -b site=attic --each --suite quick
  edgeprof run --local -m model.gguf -b riscv32         # needs no lab";

const SUBMIT_EXAMPLES: &str = "\
Examples:
  edgeprof submit -m model.gguf -b all --suite length-sweep --priority low
  JOB=$(edgeprof submit -f nightly.toml) && edgeprof watch \"$JOB\"

A job file:
  model = \"model.gguf\"            # paths are relative to the file
  board = [\"mps2-an386\", \"riscv32\"]
  prompt = \"Once upon a time\"
  n-gen = [16, 64]
  quant = [\"q8_0\", \"q4_0\"]
  wait-for-board = \"10m\"
  label = { branch = \"main\" }";

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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_end_with_2() {
        for line in [
            &["edgeprof", "run", "--quant", "q5_0"][..],
            &["edgeprof", "run", "--suite", "quick", "-n", "3"],
            &["edgeprof", "run", "--local", "--detach"],
            &["edgeprof", "submit", "--local"],
            &["edgeprof", "submit", "-f", "job.toml", "-m", "x"],
            &["edgeprof", "run", "--label", "novalue"],
            &["edgeprof", "frobnicate"],
            &["edgeprof", "jobs", "-o", "xml"],
        ] {
            let error = Cli::try_parse_from(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
        assert_eq!(Cli::try_parse_from(["edgeprof", "--help"]).unwrap_err().exit_code(), 0);
    }
}
