//! Where a model's tensors lie in its file.

use edgeprof_engine::image::{Role, layout};
use edgeprof_engine::{Config, DType};

use crate::ModelError;

/// The weight types that are read, for messages.
pub(crate) const SUPPORTED_TYPES: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_1";

/// A matrix in a file: `rows` outputs of `cols` inputs, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) role: Role,
    pub(crate) layer: u32,
    pub(crate) dtype: DType,
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    /// First byte, from the start of the file.
    pub(crate) start: u64,
}

/// Bytes of a row of `cols` weights in a file. Rows of ggml's quantized types are whole groups of
/// 32, an f16 scale (for Q4_1 a minimum too) and 32 or 16 bytes each; `None` for a row that is not.
pub(crate) fn row_bytes(dtype: DType, cols: u64) -> Option<u64> {
    let groups = cols.is_multiple_of(32).then_some(cols / 32);
    match dtype {
        DType::F32 => Some(cols * 4),
        DType::F16 | DType::BF16 => Some(cols * 2),
        DType::Q8_0 => groups.map(|n| n * 34),
        DType::Q4_0 => groups.map(|n| n * 18),
        DType::Q4_1 => groups.map(|n| n * 20),
    }
}

impl Tensor {
    /// Weights in it.
    pub(crate) fn elements(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.cols)
    }

    /// Bytes in the file. Dimensions were checked, so the product fits.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.rows) * row_bytes(self.dtype, self.cols.into()).unwrap_or(0)
    }

    /// The tensor's bytes in `file`.
    pub(crate) fn slice<'a>(&self, file: &'a [u8]) -> Result<&'a [u8], ModelError> {
        let end = self.start.saturating_add(self.bytes());
        usize::try_from(self.start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(start, end)| file.get(start..end))
            .ok_or_else(|| ModelError::Truncated {
                format: "model",
                what: format!("{:?} of layer {}", self.role, self.layer),
                needed: end,
                have: file.len() as u64,
            })
    }
}

/// Asks `find` for every tensor of a model, in the order of a board image.
pub(crate) fn collect(
    config: &Config,
    mut find: impl FnMut(Slot) -> Result<(DType, u64), ModelError>,
) -> Result<Vec<Tensor>, ModelError> {
    layout(config, |_, _| DType::F32)
        .map(|t| {
            let slot = Slot { role: t.role, layer: t.layer, rows: t.rows, cols: t.cols };
            let (dtype, start) = find(slot)?;
            let Slot { role, layer, rows, cols } = slot;
            Ok(Tensor { role, layer, dtype, rows, cols, start })
        })
        .collect()
}

/// A tensor that the dimensions call for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) role: Role,
    pub(crate) layer: u32,
    pub(crate) rows: u32,
    pub(crate) cols: u32,
}
