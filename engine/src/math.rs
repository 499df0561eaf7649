//! The few functions beyond arithmetic, the same bits on every target.

/// Whether float arithmetic is done in software here, so that integers are worth a detour.
pub(crate) const SOFT_FLOAT: bool = cfg!(any(
    all(target_arch = "arm", not(target_abi = "eabihf")),
    all(any(target_arch = "riscv32", target_arch = "riscv64"), not(target_feature = "f"))
));

/// The high half of a product.
#[inline(always)]
fn high(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

/// log2(e) · 2^31.
const LOG2_E: u32 = 0xb8aa_3b29;

/// (2^f - 1) / f for f in [0, 1), interpolated at Chebyshev nodes, coefficients · 2^32 from f^0
/// up. Relative error of 2^f: 2^-27.5.
const EXP2: [u32; 6] = [2_977_044_430, 1_031_767_986, 238_353_606, 41_455_862, 5_451_244, 894_123];

/// e to the x, within 1.3 units in the last place.
///
/// Integer arithmetic throughout, some 40 instructions on any core: with a software float library
/// libm's `expf` takes fifty times as long. Results below the smallest normal number are 0, NaN
/// gives NaN.
#[must_use]
#[inline]
pub fn exp(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = bits >> 23 & 0xff;
    // 2^-25 <= |x| < 128, so that the shift below is 0 to 31.
    if exponent.wrapping_sub(102) > 31 {
        return rare(bits);
    }
    // |x| · log2(e), 24 bits after the binary point, 8 before.
    let t = high((bits << 8) | 0x8000_0000, LOG2_E) >> (133 - exponent);
    if t >= 126 << 24 {
        return rare(bits);
    }
    let t = if bits >> 31 == 1 { -(t as i32) } else { t as i32 };
    power_of_two(t >> 24, (t << 8) as u32)
}

/// 2^(whole + part / 2^32) for -126 <= whole <= 127.
#[inline(always)]
fn power_of_two(whole: i32, part: u32) -> f32 {
    let [c0, c1, c2, c3, c4, c5] = EXP2;
    let mut p = c4 + high(c5, part);
    p = c3 + high(p, part);
    p = c2 + high(p, part);
    p = c1 + high(p, part);
    p = c0 + high(p, part);
    let fraction = high(p, part);
    // Rounding up may carry into the exponent, which is right.
    let rounded = ((fraction >> 8) + 1) >> 1;
    f32::from_bits((((whole + 127) as u32) << 23) + rounded)
}

/// [`exp`] of NaN, of magnitudes that leave 1 unchanged, and of those near the range's ends.
#[cold]
fn rare(bits: u32) -> f32 {
    let exponent = bits >> 23 & 0xff;
    if exponent < 127 {
        return 1.0;
    }
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        return f32::NAN;
    }
    let negative = bits >> 31 == 1;
    if exponent <= 133 {
        let t = i64::from(high((bits << 8) | 0x8000_0000, LOG2_E) >> (133 - exponent));
        let t = if negative { -t } else { t };
        if (-126..128).contains(&(t >> 24)) {
            return power_of_two((t >> 24) as i32, (t << 8) as u32);
        }
    }
    if negative { 0.0 } else { f32::INFINITY }
}

/// Adding this to a float of small magnitude leaves its nearest integer (ties to even) in the low
/// bits: 1.5 · 2^23.
const ROUND: f32 = 12_582_912.0;

/// The nearest integer, ties to even, of a number within ±2^21.
#[must_use]
#[inline(always)]
pub fn round(x: f32) -> i32 {
    if SOFT_FLOAT { round_bits(x) } else { (x + ROUND).to_bits() as i32 - ROUND.to_bits() as i32 }
}

/// [`round`] without float arithmetic.
#[inline(always)]
fn round_bits(x: f32) -> i32 {
    let bits = x.to_bits();
    let shift = 150 - (bits >> 23 & 0xff);
    // Magnitudes below 1/4 are 0. (Above 2^23, outside the promise, the shift would be negative.)
    if shift.wrapping_sub(1) > 24 {
        return 0;
    }
    let mantissa = (bits & 0x007f_ffff) | 0x0080_0000;
    let odd = mantissa >> shift & 1;
    let magnitude = ((mantissa + (1 << (shift - 1)) - 1 + odd) >> shift) as i32;
    if bits >> 31 == 1 { -magnitude } else { magnitude }
}

/// x / (1 + e^-x).
#[must_use]
#[inline]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_one_ulp() {
        let mut worst = 0.0f64;
        for bits in (0..=u32::MAX).step_by(4099) {
            let x = f32::from_bits(bits);
            let got = exp(x);
            if x.is_nan() {
                assert!(got.is_nan());
                continue;
            }
            let want = libm::exp(f64::from(x));
            if want < f64::from(f32::MIN_POSITIVE) {
                assert!(got == 0.0 || got == f32::MIN_POSITIVE, "{x}");
            } else if want > f64::from(f32::MAX) {
                assert!(got == f32::INFINITY || got == f32::MAX, "{x}");
            } else {
                let ulp = f64::from(f32::from_bits(got.to_bits() & 0x7f80_0000)) / 8_388_608.0;
                let off = (f64::from(got) - want).abs() / ulp;
                if off > worst {
                    worst = off;
                }
            }
        }
        assert!(worst < 1.3, "{worst} ulp");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
    }

    #[test]
    fn exp_is_close_where_softmax_uses_it() {
        for i in 0..400_000 {
            let x = -(i as f32) * 1e-5 * 5.0;
            let want = libm::exp(f64::from(x));
            let off = (f64::from(exp(x)) - want).abs() / want;
            assert!(off < 1.2e-7, "{x}: {off}");
        }
    }

    #[test]
    fn both_roundings_agree() {
        for i in -40_000i32..=40_000 {
            for x in [i as f32 / 256.0, i as f32 / 2.0, i as f32 * 1.000_1, i as f32 * 1e-7] {
                let hard = (x + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
                assert_eq!(round_bits(x), hard, "{x}");
                assert_eq!(hard, libm::rintf(x) as i32, "{x}");
            }
        }
    }
}
