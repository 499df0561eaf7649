//! Choosing the next token from the logits.

use crate::kernels::fold8;
use crate::math;

/// Picks tokens, greedily or from the exact softmax distribution. The same seed gives the same
/// tokens on every machine.
#[derive(Clone, Debug)]
pub struct Sampler {
    inverse_temperature: f32,
    state: u64,
}

impl Sampler {
    /// A sampler. Temperature 0 (or anything that is not a positive number) means greedy. The
    /// generator is xorshift64* (Marsaglia 2003, Vigna 2016), seeded through splitmix64, so that
    /// every seed, also 0, is a good one.
    #[must_use]
    pub fn new(temperature: f32, seed: u64) -> Sampler {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let inverse_temperature = if temperature > 0.0 { 1.0 / temperature } else { 0.0 };
        Sampler { inverse_temperature, state: if z == 0 { 1 } else { z } }
    }

    /// A number in [0, 1), a multiple of 2^-24.
    fn uniform(&mut self) -> f32 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let r = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        (r >> 40) as u32 as f32 * (1.0 / 16_777_216.0)
    }

    /// The index of the chosen token. Greedy takes the largest logit, the lowest index among
    /// equals. `logits` must not be empty and hold finite values only; the exponentials are computed
    /// twice rather than stored.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        let best = argmax(logits);
        let scale = self.inverse_temperature;
        if scale == 0.0 {
            return best as u32;
        }
        let max = logits[best];
        let weight = |l: f32| math::exp((l - max) * scale);
        let mut partial = [0.0f32; 8];
        for (i, &l) in logits.iter().enumerate() {
            partial[i % 8] += weight(l);
        }
        let target = self.uniform() * fold8(partial);
        let mut sum = 0.0f32;
        let mut last = best;
        for (i, &l) in logits.iter().enumerate() {
            let w = weight(l);
            sum += w;
            if sum > target {
                return i as u32;
            }
            if w > 0.0 {
                last = i;
            }
        }
        // Rounding left the target at the very end.
        last as u32
    }
}

/// Index of the largest value, the lowest among equals.
fn argmax(v: &[f32]) -> usize {
    let mut best = 0;
    let mut max = f32::NEG_INFINITY;
    for (i, &x) in v.iter().enumerate() {
        if x > max {
            max = x;
            best = i;
        }
    }
    best
}
