//! IEEE binary16 in software, the same on every target.

/// The value of a binary16 as f32: exact. Signalling NaNs become quiet.
#[must_use]
#[inline]
pub fn to_f32(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let magnitude = u32::from(h & 0x7fff);
    let exponent = magnitude >> 10;
    if exponent.wrapping_sub(1) < 30 {
        return f32::from_bits(sign | ((magnitude << 13) + (112 << 23)));
    }
    if magnitude == 0 {
        return f32::from_bits(sign);
    }
    rare(sign, magnitude)
}

/// Subnormals, infinities and NaNs.
#[cold]
fn rare(sign: u32, magnitude: u32) -> f32 {
    if magnitude >= 0x7c00 {
        let quiet = if magnitude > 0x7c00 { 0x0040_0000 } else { 0 };
        return f32::from_bits(sign | 0x7f80_0000 | quiet | (magnitude & 0x3ff) << 13);
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
