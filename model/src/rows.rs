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
        DType::Q8_0 | DType::Q4_0 => {
            for (o, g) in out.chunks_mut(32).zip(groups(dtype, bytes)) {
                let d = f16::to_f32(g.scale);
                for (o, q) in o.iter_mut().zip(g.q) {
                    *o = f32::from(q) * d;
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
