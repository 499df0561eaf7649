//! Where everything in an image goes: arithmetic only, shared by writers, readers and fit checks.

use super::{ALIGN, ENTRY_LEN, HEADER_LEN, NO_LAYER};
use crate::config::Config;
use crate::dtype::{DType, GROUP};

/// What a tensor is for. The value is the byte stored in the table.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding, `vocab × dim`; also the classifier of a tied model.
    TokenEmbd = 0,
    /// RMSNorm before attention, `dim`.
    AttnNorm = 1,
    /// Query projection, `heads·head_dim × dim`.
    AttnQ = 2,
    /// Key projection, `kv_heads·head_dim × dim`.
    AttnK = 3,
    /// Value projection, `kv_heads·head_dim × dim`.
    AttnV = 4,
    /// Attention output, `dim × heads·head_dim`.
    AttnOutput = 5,
    /// RMSNorm before the feed-forward layer, `dim`.
    FfnNorm = 6,
    /// Gate projection (llama2.c's w1), `hidden × dim`.
    FfnGate = 7,
    /// Up projection (w3), `hidden × dim`.
    FfnUp = 8,
    /// Down projection (w2), `dim × hidden`.
    FfnDown = 9,
    /// RMSNorm before the classifier, `dim`.
    OutputNorm = 10,
    /// Classifier, `vocab × dim`; absent when tied.
    Output = 11,
}

impl Role {
    /// Whether it is one of the RMSNorm vectors, which are always `F32`.
    #[must_use]
    pub const fn is_norm(self) -> bool {
        matches!(self, Role::AttnNorm | Role::FfnNorm | Role::OutputNorm)
    }
}

impl TryFrom<u8> for Role {
    type Error = u8;

    /// The role with this number; an unknown number comes back as the error.
    fn try_from(v: u8) -> Result<Self, u8> {
        Ok(match v {
            0 => Role::TokenEmbd,
            10 => Role::OutputNorm,
            11 => Role::Output,
            1..=9 => LAYER[v as usize - 1],
            other => return Err(other),
        })
    }
}

/// The tensors of a layer in stored order.
const LAYER: [Role; 9] = [
    Role::AttnNorm,
    Role::AttnQ,
    Role::AttnK,
    Role::AttnV,
    Role::AttnOutput,
    Role::FfnNorm,
    Role::FfnGate,
    Role::FfnUp,
    Role::FfnDown,
];

/// One tensor and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// What it is for.
    pub role: Role,
    /// Layer, or [`NO_LAYER`].
    pub layer: u32,
    /// Format of the values.
    pub dtype: DType,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Where the values start, in bytes from the image's start.
    pub offset: u64,
    /// Where the scales start; 0 for formats without.
    pub scale_offset: u64,
}

impl TensorPlan {
    /// Bytes from row to row of the values.
    #[must_use]
    pub const fn row_stride(&self) -> u64 {
        let cols = self.cols as u64;
        let bytes = match self.dtype {
            DType::F32 => cols * 4,
            DType::F16 | DType::BF16 => cols * 2,
            DType::Q8_0 => cols,
            DType::Q4_0 | DType::Q4_1 => cols.div_ceil(2),
        };
        bytes.next_multiple_of(8)
    }

    /// Bytes from row to row of the scales; 0 for formats without.
    #[must_use]
    pub const fn scale_stride(&self) -> u64 {
        let groups = (self.cols as u64).div_ceil(GROUP as u64);
        match self.dtype {
            DType::F32 | DType::F16 | DType::BF16 => 0,
            DType::Q8_0 | DType::Q4_0 => groups.next_multiple_of(2) * 2,
            DType::Q4_1 => groups * 4,
        }
    }

    /// Bytes of the values.
    #[must_use]
    pub const fn data_bytes(&self) -> u64 {
        self.rows as u64 * self.row_stride()
    }

    /// Bytes of the scales.
    #[must_use]
    pub const fn scale_bytes(&self) -> u64 {
        self.rows as u64 * self.scale_stride()
    }

    /// Bytes of both, without the padding between regions.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.data_bytes() + self.scale_bytes()
    }
}

/// Walks the tensors of a model in stored order, placing each as its format becomes known.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    config: Config,
    next: u32,
    end: u64,
}

impl Plan {
    /// A plan with nothing placed. `config` must be [valid](Config::validate).
    #[must_use]
    pub fn new(config: &Config) -> Plan {
        Plan { config: *config, next: 0, end: table_len(config) }
    }

    /// Role and layer of the next tensor.
    #[must_use]
    pub fn peek(&self) -> Option<(Role, u32)> {
        let in_layers = self.config.layers * LAYER.len() as u32;
        Some(match self.next {
            0 => (Role::TokenEmbd, NO_LAYER),
            i if i <= in_layers => {
                let i = i - 1;
                (LAYER[i as usize % LAYER.len()], i / LAYER.len() as u32)
            }
            i if i == in_layers + 1 => (Role::OutputNorm, NO_LAYER),
            i if i == in_layers + 2 && !self.config.tied => (Role::Output, NO_LAYER),
            _ => return None,
        })
    }

    /// Places the next tensor in this format; `None` when all are placed.
    pub fn place(&mut self, dtype: DType) -> Option<TensorPlan> {
        let (role, layer) = self.peek()?;
        let c = &self.config;
        let (rows, cols) = match role {
            Role::TokenEmbd | Role::Output => (c.vocab, c.dim),
            Role::AttnNorm | Role::FfnNorm | Role::OutputNorm => (1, c.dim),
            Role::AttnQ => (c.q_dim(), c.dim),
            Role::AttnK | Role::AttnV => (c.kv_dim(), c.dim),
            Role::AttnOutput => (c.dim, c.q_dim()),
            Role::FfnGate | Role::FfnUp => (c.hidden, c.dim),
            Role::FfnDown => (c.dim, c.hidden),
        };
        let offset = self.end;
        let mut t = TensorPlan { role, layer, dtype, rows, cols, offset, scale_offset: 0 };
        self.end = (offset + t.data_bytes()).next_multiple_of(ALIGN);
        if dtype.is_quantized() {
            t.scale_offset = self.end;
            self.end = (self.end + t.scale_bytes()).next_multiple_of(ALIGN);
        }
        self.next += 1;
        Some(t)
    }

    /// First byte after what is placed: the image's total length once all are.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }
}

/// [`Plan`] with the formats given: an iterator over all tensors.
#[derive(Clone, Debug)]
pub struct Planned<F> {
    plan: Plan,
    dtype_of: F,
}

impl<F> Planned<F> {
    /// First byte after the tensors that were yielded.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.plan.end()
    }
}

impl<F: Fn(Role, u32) -> DType> Iterator for Planned<F> {
    type Item = TensorPlan;

    fn next(&mut self) -> Option<TensorPlan> {
        let (role, layer) = self.plan.peek()?;
        self.plan.place((self.dtype_of)(role, layer))
    }
}

/// The tensors of a model in stored order. `dtype_of` gets role and layer, and must say `F32` for
/// norms. `config` must be [valid](Config::validate).
pub fn layout<F: Fn(Role, u32) -> DType>(config: &Config, dtype_of: F) -> Planned<F> {
    Planned { plan: Plan::new(config), dtype_of }
}

/// Bytes of the whole image: with [`crate::arena::Layout`], the whole of a fit check.
pub fn total_len(config: &Config, dtype_of: impl Fn(Role, u32) -> DType) -> u64 {
    let mut p = layout(config, dtype_of);
    p.by_ref().for_each(drop);
    p.end()
}

/// Tensors of a model.
pub(super) fn tensor_count(config: &Config) -> u32 {
    2 + config.layers * LAYER.len() as u32 + u32::from(!config.tied)
}

/// Bytes of header and tensor table, which is where the first tensor's data begins.
#[must_use]
pub fn table_len(config: &Config) -> u64 {
    (HEADER_LEN as u64 + u64::from(tensor_count(config)) * ENTRY_LEN as u64).next_multiple_of(ALIGN)
}

/// Index in the table; a tied model's `Output` is its embedding.
pub(super) fn index_of(config: &Config, role: Role, layer: u32) -> Option<u32> {
    let after = 1 + config.layers * LAYER.len() as u32;
    match role {
        Role::TokenEmbd => Some(0),
        Role::OutputNorm => Some(after),
        Role::Output if config.tied => Some(0),
        Role::Output => Some(after + 1),
        _ if layer >= config.layers => None,
        _ => Some(1 + layer * LAYER.len() as u32 + role as u32 - 1),
    }
}
