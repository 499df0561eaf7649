//! Rows of weights as files store them.

use edgeprof_engine::{DType, f16};

use crate::quant::Group;

/// Reads a stored row as f32. `bytes` is a whole row of `dtype`; weights that `out` has no room for
/// are left out.
pub(crate) fn to_f32(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        DType::F16 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = f16::to_f32(u16::from_le_bytes([b[0], b[1]]));
            }
        }
        DType::BF16 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = f32::from_le_bytes([0, 0, b[0], b[1]]);
            }
        }
        DType::Q8_0 | DType::Q4_0 => {
            for (o, g) in out.chunks_mut(32).zip(groups(dtype, bytes)) {
                let d = f16::to_f32(g.scale);
                for (o, q) in o.iter_mut().zip(g.q) {
                    *o = f32::from(q) * d;
                }
            }
        }
        DType::Q4_1 => {
            for (o, g) in out.chunks_mut(32).zip(groups_with_minima(bytes)) {
                let (d, m) = (f16::to_f32(g.group.scale), f16::to_f32(g.minimum));
                for (o, q) in o.iter_mut().zip(g.group.q) {
                    *o = f32::from(q) * d + m;
                }
            }
        }
    }
}

/// The groups of a row in one of ggml's quantized types: an f16 scale, then 32 signed bytes (Q8_0),
/// or 16 bytes with weight i in the low and weight i + 16 in the high nibble (Q4_0).
pub(crate) fn groups(dtype: DType, bytes: &[u8]) -> impl Iterator<Item = Group> + '_ {
    let size = if dtype == DType::Q8_0 { 34 } else { 18 };
    bytes.chunks_exact(size).map(move |b| {
        let scale = u16::from_le_bytes([b[0], b[1]]);
        let mut q = [0i8; 32];
        if dtype == DType::Q8_0 {
            for (q, &b) in q.iter_mut().zip(&b[2..]) {
                *q = b as i8;
            }
        } else {
            for (i, &b) in b[2..].iter().enumerate() {
                q[i] = (b & 15) as i8 - 8;
                q[i + 16] = (b >> 4) as i8 - 8;
            }
        }
        Group { q, scale }
    })
}

/// A group of Q4_1, whose integers are 0 to 15.
pub(crate) struct WithMinimum {
    pub(crate) group: Group,
    /// Bits of the f16 that is added to every weight.
    pub(crate) minimum: u16,
}

/// The groups of a Q4_1 row: scale and minimum in f16, then 16 bytes as in Q4_0.
pub(crate) fn groups_with_minima(bytes: &[u8]) -> impl Iterator<Item = WithMinimum> + '_ {
    bytes.chunks_exact(20).map(|b| {
        let mut q = [0i8; 32];
        for (i, &b) in b[4..].iter().enumerate() {
            q[i] = (b & 15) as i8;
            q[i + 16] = (b >> 4) as i8;
        }
        let group = Group { q, scale: u16::from_le_bytes([b[0], b[1]]) };
        WithMinimum { group, minimum: u16::from_le_bytes([b[2], b[3]]) }
    })
}
