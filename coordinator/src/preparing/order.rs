//! What the child is told, and what it answers: a line of JSON each.

use std::path::PathBuf;

use edgeprof_common::{
    Kv, Quant, TaskError,
    job::{Cell, Prompt},
};
use serde::{Deserialize, Serialize};

use crate::store::rows::Reference;

/// One model in one quantization, and what is to be run on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The model file.
    pub model: PathBuf,
    /// Its tokenizer, where that is a file of its own.
    pub tokenizer: Option<PathBuf>,
    /// How weights are to be stored.
    pub quant: Quant,
    /// The image, if it was built before.
    pub image: Option<PathBuf>,
    /// Where to write the image and the vocabulary, if not.
    pub out: PathBuf,
    /// What is to be run.
    pub workloads: Vec<Workload>,
    /// Most multiplications that the host's engine may do for one workload.
    pub reference_limit: u64,
    /// Address space that the child may take, in bytes.
    pub memory_limit: u64,
}

/// A cell without its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Where the prompt comes from.
    pub prompt: Prompt,
    /// Tokens of context filled before it.
    pub n_depth: u32,
    /// Most tokens to generate.
    pub n_gen: u32,
    /// Context length, where asked.
    pub ctx: Option<u32>,
    /// Cache element type.
    pub kv: Kv,
    /// 0 is greedy.
    pub temperature: f32,
    /// Of the sampler.
    pub seed: u64,
}

impl Workload {
    /// What a cell asks for.
    pub fn of(cell: &Cell) -> Self {
        Self {
            prompt: cell.prompt.clone(),
            n_depth: cell.n_depth,
            n_gen: cell.n_gen,
            ctx: cell.ctx,
            kv: cell.kv,
            temperature: cell.temperature,
            seed: cell.seed,
        }
    }
}

/// A workload made ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Depth, then prompt.
    pub tokens: Vec<u32>,
    /// Tokens that end the generation.
    pub stop_tokens: Vec<u32>,
    /// Positions of the context.
    pub ctx: u32,
    /// Of the engine.
    pub arena_bytes: u64,
    /// Absent where it would take too long.
    pub reference: Option<Reference>,
}

/// The child's answers, in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Image and vocabulary are written to `IMAGE` and `VOCABULARY` in the folder.
    Built,
    /// A workload is ready, or cannot be.
    Workload {
        /// Its place in the order.
        index: usize,
        /// Its tokens and all that.
        outcome: Result<Ready, TaskError>,
    },
    /// Nothing can be made of this model.
    Broken(TaskError),
}

/// File name of the image in the folder.
pub(super) const IMAGE: &str = "image";

/// File name of the vocabulary in the folder.
pub(super) const VOCABULARY: &str = "vocabulary";
