//! LLM inference for small boards: no heap, no I/O, the same bits everywhere.
//!
//! The engine runs llama-architecture models (RMSNorm, rotary embeddings, grouped-query attention,
//! SwiGLU) whose weights it reads in place from a [board image](image). All memory it writes to is
//! one arena that the caller hands over, and [`arena::Layout`] says beforehand, to the byte, how
//! large that must be.
//!
//! # The same bits everywhere
//!
//! The logits are equal to the bit on x86-64, ARMv6-M, ARMv7-M, ARMv7E-M with an FPU, and 32- and
//! 64-bit RISC-V, so a board is checked by comparing [one hash](hash::LogitsHash) with the host's:
//!
//! - f32 reductions keep 8 strided partial sums, folded `((0+4)+(2+6))+((1+5)+(3+7))`.
//! - Rows of quantized weights are exact integer sums a block of 32, blocks ascending into one f32
//!   accumulator that starts with the first block's value.
//! - Only `+ - * /`, comparisons and casts touch floats; `exp` is integer arithmetic of our own
//!   (see [`math`]), and square root, sine, cosine and power come from the pinned `libm`.
//! - Nothing is fused and nothing is reordered.
//!
//! # Example
//!
//! ```no_run
//! use edgeprof_engine::{arena::Layout, image::Image, dtype::KvType, session::Session};
//! # fn f(bytes: &[u8]) -> Result<(), edgeprof_engine::error::EngineError> {
//! let image = Image::parse(bytes)?;
//! let layout = Layout::new(image.config(), 64, KvType::I8).expect("fits u64");
//! let mut arena = vec![0u64; (layout.total_bytes / 8) as usize];
//! let mut session = Session::new(&image, &mut arena, 64, KvType::I8)?;
//! session.forward(1, true)?;
//! println!("{} logits", session.logits().len());
//! # Ok(())
//! # }
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

/// The engine's version, for records.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub mod arena;
pub mod config;
pub mod dtype;
pub mod error;
pub mod f16;
pub mod generate;
pub mod hash;
pub mod hooks;
pub mod image;
mod kernels;
pub mod math;
pub mod quant;
pub mod sampler;
pub mod session;

pub use config::Config;
pub use dtype::{DType, KvType};
pub use error::{EngineError, ImageError};
