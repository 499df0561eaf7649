//! IEEE binary16 in software, the same on every target.

use crate::math::SOFT_FLOAT;

/// The value of a binary16 as f32: exact. Signalling NaNs become quiet.
#[must_use]
#[inline(always)]
pub fn to_f32(h: u16) -> f32 {
    let exponent = h & 0x7c00;
    if SOFT_FLOAT {
        if exponent != 0 && exponent != 0x7c00 {
            let sign = u32::from(h & 0x8000) << 16;
            return f32::from_bits(sign | ((u32::from(h & 0x7fff) << 13) + (112 << 23)));
        }
    } else if exponent != 0x7c00 {
        // Exponent and fraction in place, the sign spread by the shift: what is missing is 2^112.
        let bits = (i32::from(h as i16) << 16 >> 3) as u32 & 0x8fff_e000;
        return f32::from_bits(bits) * f32::from_bits((127 + 112) << 23);
    }
    rare(u32::from(h & 0x8000) << 16, u32::from(h & 0x7fff))
}

/// Zero, subnormals, infinities and NaNs.
#[cold]
fn rare(sign: u32, magnitude: u32) -> f32 {
    if magnitude >= 0x7c00 {
        let quiet = if magnitude > 0x7c00 { 0x0040_0000 } else { 0 };
        return f32::from_bits(sign | 0x7f80_0000 | quiet | (magnitude & 0x3ff) << 13);
    }
    if magnitude == 0 {
        return f32::from_bits(sign);
    }
    let top = 31 - magnitude.leading_zeros();
    let fraction = (magnitude << (23 - top)) & 0x007f_ffff;
    f32::from_bits(sign | (top + 103) << 23 | fraction)
}

/// The nearest binary16, ties to even; overflow gives infinity, NaN a quiet NaN.
#[must_use]
#[inline]
pub fn from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let a = bits & 0x7fff_ffff;
    if a >= 0x4780_0000 {
        // 65536 and above, infinities, NaNs.
        return sign | if a > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    }
    if a < 0x3880_0000 {
        // Below the smallest normal, 2^-14: the result is a multiple of 2^-24.
        if a <= 0x3300_0000 {
            return sign;
        }
        let shift = 126 - (a >> 23);
        let m = (a & 0x007f_ffff) | 0x0080_0000;
        let q = m >> shift;
        let rest = m & ((1 << shift) - 1);
        let half = 1 << (shift - 1);
        let up = rest > half || (rest == half && q & 1 == 1);
        return sign | (q as u16 + u16::from(up));
    }
    let m = a - (112 << 23);
    sign | ((m + 0x0fff + (m >> 13 & 1)) >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition in IEEE 754, in f64.
    fn value(h: u16) -> f64 {
        let (e, m) = (i32::from(h >> 10 & 0x1f), f64::from(h & 0x3ff));
        let magnitude = match e {
            0 => m * libm::exp2(-24.0),
            31 if m == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + m) * libm::exp2(f64::from(e - 25)),
        };
        if h >> 15 == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn all_values_convert_and_return() {
        for h in 0..=u16::MAX {
            let (got, want) = (to_f32(h), value(h));
            if want.is_nan() {
                assert!(got.is_nan());
                assert!(to_f32(from_f32(got)).is_nan());
            } else {
                assert_eq!(f64::from(got), want, "{h:04x}");
                assert_eq!(got.is_sign_negative(), h >> 15 == 1);
                assert_eq!(from_f32(got), h);
            }
        }
    }

    #[test]
    fn rounds_to_nearest_even_between_all_neighbours() {
        for h in 0..0x7bffu16 {
            let middle = (to_f32(h) + to_f32(h + 1)) / 2.0;
            let even = if h % 2 == 0 { h } else { h + 1 };
            assert_eq!(from_f32(middle), even, "{h:04x}");
            assert_eq!(from_f32(f32::from_bits(middle.to_bits() - 1)), h);
            assert_eq!(from_f32(f32::from_bits(middle.to_bits() + 1)), h + 1);
            assert_eq!(from_f32(-middle), even | 0x8000);
        }
        assert_eq!(from_f32(65_519.996), 0x7bff);
        assert_eq!(from_f32(65_520.0), 0x7c00);
        assert_eq!(from_f32(1e30), 0x7c00);
        assert_eq!(from_f32(f32::MIN_POSITIVE), 0);
    }
}
