//! Model files in, board images out.
//!
//! - [`Model`] and [`Header`] read GGUF (v2, v3, architecture `llama`) and llama2.c files, with no
//!   trust in any number that a file has.
//! - [`Tokenizer`] turns text into tokens and back as llama.cpp and llama2.c do: SentencePiece-style, or
//!   GPT-2's byte-level BPE.
//! - [`build_image`] lays a model out for the engine, requantized where that is asked for.
//! - [`requirements`] and [`what_would_fit`] say from the header alone what a run will take.
//! - [`mod@reference`] runs an image on this machine, to the bit what a board must give.
//! - [`inspect()`] says what a file is, also where it cannot be run.
//!
//! ```no_run
//! use edgeprof_engine::KvType;
//! use edgeprof_model::{Model, Quant, build_image, reference};
//! # fn main() -> Result<(), edgeprof_model::ModelError> {
//! let model = Model::open("model.gguf".as_ref(), None)?;
//! let image = build_image(&model, Quant::Q8_0)?;
//! let tokens = model.tokenizer();
//! let prompt = tokens.encode_prompt("In the beginning");
//! let out = reference::run(&image, &reference::Request {
//!     prompt: &prompt,
//!     n_gen: 32,
//!     temperature: 0.0,
//!     seed: 0,
//!     stop_tokens: tokens.stop_tokens(),
//!     ctx: prompt.len() as u32 + 32,
//!     kv: KvType::F16,
//! })?;
//! println!("{}", tokens.decode(prompt.last().copied(), &out.tokens));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod config;
mod detect;
mod error;
mod fit;
mod gguf;
mod header;
mod image;
mod inspect;
mod llama2c;
mod model;
mod quant;
pub mod reference;
mod rows;
pub mod tiny;
mod tokenizer;
mod weights;

#[cfg(test)]
mod tests;

pub use edgeprof_engine::{Config, DType, KvType};
pub use error::ModelError;
pub use fit::{Requirements, Suggestion, longest_ctx, requirements, what_would_fit};
pub use header::{Format, Header};
pub use image::{build_image, image_bytes, image_quant_name, image_weight_bytes};
pub use inspect::{Inspection, QuantShare, TokenizerInfo, inspect, inspect_bytes};
pub use model::Model;
pub use quant::Quant;
pub use tokenizer::Tokenizer;
