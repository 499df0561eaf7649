//! What a client submits, and the cells that it multiplies out to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, Kv, Priority, Quant};

/// Most cells that one job may have.
pub const MAX_CELLS: usize = 4096;

/// Most tokens of prompt and context already filled, together.
pub const MAX_PROMPT: u32 = 65_536;

/// A model file that the coordinator holds as an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// File name without its folder, for people.
    pub name: String,
    /// Digest of the model file.
    pub digest: Digest,
    /// Digest of a separate tokenizer file, for llama2.c models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Digest>,
}

/// Models × quantizations × cache types × boards × prompts × lengths, and how to run each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// At least one.
    pub models: Vec<ModelRef>,
    /// Board selectors: id, kind, `all`, or `KEY=VALUE`; at least one.
    pub boards: Vec<String>,
    /// One cell for every single board of the sets.
    #[serde(default)]
    pub each: bool,
    /// Real prompts; empty text starts from BOS alone.
    #[serde(default)]
    pub prompts: Vec<String>,
    /// Lengths of synthetic prompts, in tokens with BOS.
    #[serde(default)]
    pub n_prompt: Vec<u32>,
    /// Most tokens to generate; at least one entry.
    pub n_gen: Vec<u32>,
    /// Tokens of context already filled, not counted; empty means 0.
    #[serde(default)]
    pub n_depth: Vec<u32>,
    /// Empty means native.
    #[serde(default)]
    pub quants: Vec<Quant>,
    /// Empty means f16.
    #[serde(default)]
    pub kvs: Vec<Kv>,
    /// Context length in tokens; absent means depth + prompt + generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx: Option<u32>,
    /// 0 is greedy.
    #[serde(default)]
    pub temperature: f32,
    /// Of the sampler.
    #[serde(default)]
    pub seed: u64,
    /// Absent means the board kind's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetitions: Option<u32>,
    /// Discarded repetitions before the counted ones; absent means the board kind's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u32>,
    /// Another firmware than the board kind's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Digest>,
    /// Name of the suite that the tests came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Scheduling class.
    #[serde(default = "normal")]
    pub priority: Priority,
    /// Kept with every run.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long a cell may wait for a board that is not there, in milliseconds; absent refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_board_ms: Option<u64>,
}

const fn normal() -> Priority {
    Priority::Normal
}

/// Where the prompt comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Tokenized by the model's tokenizer; generation stops at the model's stop tokens.
    Text(String),
    /// BOS and a fixed sequence, this many tokens in all; generation does not stop early.
    Synthetic(u32),
}

/// One cell of a job's matrix over everything but boards, which only the cluster knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The model file.
    pub model: ModelRef,
    /// How its weights are stored.
    pub quant: Quant,
    /// Cache element type.
    pub kv: Kv,
    /// Where the prompt comes from.
    pub prompt: Prompt,
    /// Most tokens to generate.
    pub n_gen: u32,
    /// Tokens of context already filled.
    pub n_depth: u32,
    /// Context length, where asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx: Option<u32>,
    /// 0 is greedy.
    pub temperature: f32,
    /// Of the sampler.
    pub seed: u64,
}

/// Why a job cannot be taken as written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JobError {
    #[error("a job needs at least one {0}")]
    Missing(&'static str),
    #[error("{0} × … makes {1} cells, more than {MAX_CELLS}; split the job")]
    TooManyCells(&'static str, usize),
    #[error("{field} is {value}, allowed is {allowed}")]
    OutOfRange { field: &'static str, value: String, allowed: &'static str },
}

impl JobSpec {
    /// Checks what can be checked without a cluster.
    ///
    /// # Errors
    /// The first field that is missing or out of range, by name.
    pub fn validate(&self) -> Result<(), JobError> {
        let range = |field, value: String, allowed| Err(JobError::OutOfRange { field, value, allowed });
        if self.models.is_empty() {
            return Err(JobError::Missing("model"));
        }
        if self.boards.is_empty() {
            return Err(JobError::Missing("board"));
        }
        if self.prompts.is_empty() && self.n_prompt.is_empty() {
            return Err(JobError::Missing("prompt"));
        }
        if self.n_gen.is_empty() {
            return Err(JobError::Missing("n_gen"));
        }
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return range("temperature", self.temperature.to_string(), "0 or more");
        }
        if let Some(n) = self.n_prompt.iter().find(|n| !(1..=MAX_PROMPT).contains(*n)) {
            return range("n_prompt", n.to_string(), "1 to 65536");
        }
        if let Some(n) = self.n_gen.iter().find(|n| **n > MAX_PROMPT) {
            return range("n_gen", n.to_string(), "0 to 65536");
        }
        if let Some(n) = self.n_depth.iter().find(|n| **n > MAX_PROMPT) {
            return range("n_depth", n.to_string(), "0 to 65536");
        }
        if let Some(ctx) = self.ctx.filter(|ctx| *ctx == 0 || *ctx > 2 * MAX_PROMPT) {
            return range("ctx", ctx.to_string(), "1 to 131072");
        }
        if let Some(n) = self.repetitions.filter(|n| !(1..=1000).contains(n)) {
            return range("repetitions", n.to_string(), "1 to 1000");
        }
        if let Some(n) = self.warmup.filter(|n| *n > 1000) {
            return range("warmup", n.to_string(), "0 to 1000");
        }
        let cells = [
            self.models.len(),
            self.boards.len(),
            self.prompts.len() + self.n_prompt.len(),
            self.n_gen.len(),
            self.n_depth.len().max(1),
            self.quants.len().max(1),
            self.kvs.len().max(1),
        ]
        .into_iter()
        .fold(1usize, usize::saturating_mul);
        if cells > MAX_CELLS {
            return Err(JobError::TooManyCells("models × settings × boards", cells));
        }
        Ok(())
    }

    /// The cells in a fixed order: models, quantizations, cache types, prompts, depths, lengths.
    pub fn cells(&self) -> Vec<Cell> {
        let or = |list: &[u32]| {
            if list.is_empty() { vec![0] } else { list.to_vec() }
        };
        let quants = if self.quants.is_empty() { vec![Quant::Native] } else { self.quants.clone() };
        let kvs = if self.kvs.is_empty() { vec![Kv::F16] } else { self.kvs.clone() };
        let texts = self.prompts.iter().cloned().map(Prompt::Text);
        let prompts: Vec<_> = texts.chain(self.n_prompt.iter().copied().map(Prompt::Synthetic)).collect();
        let depths = or(&self.n_depth);
        let mut cells = Vec::new();
        for model in &self.models {
            for &quant in &quants {
                for &kv in &kvs {
                    for prompt in &prompts {
                        for &n_depth in &depths {
                            for &n_gen in &self.n_gen {
                                cells.push(Cell {
                                    model: model.clone(),
                                    quant,
                                    kv,
                                    prompt: prompt.clone(),
                                    n_gen,
                                    n_depth,
                                    ctx: self.ctx,
                                    temperature: self.temperature,
                                    seed: self.seed,
                                });
                            }
                        }
                    }
                }
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobSpec {
        serde_json::from_value(serde_json::json!({
            "models": [{"name": "m.gguf", "digest": Digest::of(b"m")}],
            "boards": ["all"], "prompts": ["", "In the"], "n_prompt": [8],
            "n_gen": [16, 32], "quants": ["q8_0", "q4_0"],
        }))
        .unwrap()
    }

    #[test]
    fn lists_multiply_in_a_fixed_order() {
        let cells = job().cells();
        assert_eq!(cells.len(), 2 * 3 * 2);
        assert_eq!((cells[0].quant, cells[0].n_gen, cells[0].kv), (Quant::Q8_0, 16, Kv::F16));
        assert_eq!(cells[1].n_gen, 32);
        assert_eq!(cells[4].prompt, Prompt::Synthetic(8));
        assert_eq!(cells[6].quant, Quant::Q4_0);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let bad = |change: fn(&mut JobSpec)| {
            let mut spec = job();
            change(&mut spec);
            spec.validate().unwrap_err().to_string()
        };
        assert_eq!(job().validate(), Ok(()));
        assert_eq!(bad(|j| j.models.clear()), "a job needs at least one model");
        assert_eq!(bad(|j| j.temperature = f32::NAN), "temperature is NaN, allowed is 0 or more");
        assert_eq!(bad(|j| j.n_prompt[0] = 0), "n_prompt is 0, allowed is 1 to 65536");
        assert_eq!(bad(|j| j.ctx = Some(0)), "ctx is 0, allowed is 1 to 131072");
        assert!(bad(|j| j.n_gen = vec![1; 4096]).contains("more than 4096"));
    }
}
