//! The small operators.

use crate::kernels::dot_f32;

/// RMSNorm (Zhang & Sennrich 2019): `out[i] = w[i] · (x[i] / sqrt(mean(x²) + eps))`.
pub(super) fn rms_norm(out: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let mean = dot_f32(x, x) / x.len() as f32;
    let scale = 1.0 / libm::sqrtf(mean + eps);
    for ((o, x), w) in out.iter_mut().zip(x).zip(w) {
        *o = w * (x * scale);
    }
}

/// Cosine and sine of every rotary angle at a position.
pub(super) fn rotary_table(freq: &[f32], position: u32, cos: &mut [f32], sin: &mut [f32]) {
    for ((f, c), s) in freq.iter().zip(cos).zip(sin) {
        let angle = position as f32 * f;
        *c = libm::cosf(angle);
        *s = libm::sinf(angle);
    }
}

/// Rotary embedding (Su et al. 2021) of all heads in `v`: turns the pairs (2i, 2i+1).
pub(super) fn rotate(v: &mut [f32], cos: &[f32], sin: &[f32]) {
    for head in v.chunks_exact_mut(2 * cos.len()) {
        for ((p, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
            let (a, b) = (p[0], p[1]);
            p[0] = a * c - b * s;
            p[1] = a * s + b * c;
        }
    }
}

/// `x += y`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Index of the first infinity or NaN.
pub(super) fn first_non_finite(v: &[f32]) -> Option<u32> {
    v.iter().position(|x| !x.is_finite()).map(|i| i as u32)
}
