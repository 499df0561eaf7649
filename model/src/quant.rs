//! Quantization with ggml's reference rounding, so that a requantized model has the weights which
//! llama-quantize would give it (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref` in ggml-quants.c).

use std::fmt;
use std::str::FromStr;

use edgeprof_engine::dtype::GROUP;
use edgeprof_engine::{DType, f16};
use serde::{Deserialize, Serialize};

use crate::ModelError;

/// What a board image's weights are to be. Norms are f32 in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Quant {
    /// As they are in the model file.
    #[default]
    #[serde(rename = "native")]
    Native,
    /// 8 bits and an f16 scale a group of 32: 8.5 bits a weight.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 4 bits and an f16 scale a group of 32: 4.5 bits a weight.
    #[serde(rename = "q4_0")]
    Q4_0,
}

impl Quant {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Native, Self::Q8_0, Self::Q4_0];

    /// The word for it on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// What a matrix of this type becomes.
    #[must_use]
    pub const fn target(self, native: DType) -> DType {
        match self {
            Self::Native => native,
            Self::Q8_0 => DType::Q8_0,
            Self::Q4_0 => DType::Q4_0,
        }
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Quant {
    type Err = ModelError;

    /// The quantization of this name, as [`Quant::name`] writes it.
    fn from_str(s: &str) -> Result<Self, ModelError> {
        Self::ALL
            .into_iter()
            .find(|q| q.name() == s)
            .ok_or_else(|| ModelError::UnknownQuant { found: s.to_owned() })
    }
}

/// A group of weights as integers and their scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// -127..=127 for Q8_0, -8..=7 for Q4_0; zero beyond the group's length.
    pub(crate) q: [i8; GROUP],
    /// Bits of the f16 scale.
    pub(crate) scale: u16,
}

/// Quantizes up to 32 weights to Q8_0. `None` if a weight or the scale is not finite.
pub(crate) fn q8_0(x: &[f32]) -> Option<Group> {
    let d = extreme(x)?.abs() / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    group(x, d, |v| libm::roundf(v * inverse) as i8)
}

/// Quantizes up to 32 weights to Q4_0. `None` if a weight or the scale is not finite.
pub(crate) fn q4_0(x: &[f32]) -> Option<Group> {
    let d = extreme(x)? / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    // The extreme becomes -8; the other side is cut off at 7.
    group(x, d, |v| ((v * inverse + 8.5) as i8).clamp(0, 15) - 8)
}

fn group(x: &[f32], d: f32, quantize: impl Fn(f32) -> i8) -> Option<Group> {
    let scale = f16::from_f32(d);
    if !f16::to_f32(scale).is_finite() {
        return None;
    }
    let mut q = [0; GROUP];
    for (q, &v) in q.iter_mut().zip(x) {
        *q = quantize(v);
    }
    Some(Group { q, scale })
}

/// The weight of the largest magnitude, the first among equals; `None` if one is not finite.
fn extreme(x: &[f32]) -> Option<f32> {
    let mut best = 0.0f32;
    for &v in x {
        if !v.is_finite() {
            return None;
        }
        if v.abs() > best.abs() {
            best = v;
        }
    }
    Some(best)
}
