//! Figures as people read them.

/// What stands where there is no figure.
pub const ABSENT: &str = "–";

/// Digits in groups of three: `2,384,916`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count to the last digit up to ten thousand million, above that in millions: `12,345.7 M`.
pub fn count(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return ABSENT.into();
    }
    // Both casts are of values checked to be in range.
    if value < 1e10 {
        return grouped(value.round() as u64);
    }
    let tenths = (value / 1e5).round() as u64;
    format!("{}.{} M", grouped(tenths / 10), tenths % 10)
}

/// A size in KiB, in MiB from 10 MiB on, in GiB from 10 GiB on; below 1 KiB in bytes.
pub fn bytes(value: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    const GIB: u64 = 1024 * MIB;
    const TEN_GIB: u64 = 10 * GIB;
    match value {
        0..KIB => format!("{value} B"),
        KIB..10_240 => format!("{:.1} KiB", value as f64 / KIB as f64),
        10_240..10_485_760 => format!("{} KiB", grouped((value as f64 / KIB as f64).round() as u64)),
        10_485_760..TEN_GIB => format!("{:.1} MiB", value as f64 / MIB as f64),
        _ => format!("{:.1} GiB", value as f64 / GIB as f64),
    }
}

/// A number of parameters: `260 K`, `15.2 M`, `1.10 G`.
pub fn params(value: u64) -> String {
    let v = value as f64;
    match value {
        0..1_000 => value.to_string(),
        1_000..1_000_000 => format!("{:.0} K", v / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", v / 1e6),
        _ => format!("{:.2} G", v / 1e9),
    }
}

/// A speed with as many digits as an eye can use: `0.42`, `4.8`, `31`, `1,204`.
pub fn speed(value: f64) -> String {
    match value {
        v if !v.is_finite() || v < 0.0 => ABSENT.into(),
        v if v < 0.995 => format!("{v:.2}"),
        v if v < 9.95 => format!("{v:.1}"),
        v => count(v),
    }
}

/// An estimated range, marked so: `~12–31`.
pub fn estimated(low: f64, high: f64) -> String {
    format!("~{}–{}", speed(low), speed(high))
}

/// A time as people say it, rounded: `45 s`, `2 min`, `1 h 40 min`, `3 d 4 h`.
pub fn span(millis: u64) -> String {
    let seconds = millis.saturating_add(500) / 1000;
    let minutes = seconds.saturating_add(30) / 60;
    let two = |large: u64, unit: &str, small: u64, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    };
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5_370 => format!("{minutes} min"),
        5_370..172_770 => two(minutes / 60, "h", minutes % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// A time that is expected, marked so: `~2 min`. Never less than a second.
pub fn expected(millis: u64) -> String {
    format!("~{}", span(millis.max(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_every_digit_that_a_gate_compares() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(count(2_384_916.4), "2,384,916");
        assert_eq!(count(9_999_999_999.0), "9,999,999,999");
        assert_eq!(count(12_345_678_901.0), "12,345.7 M");
        assert_eq!(count(f64::NAN), "–");
    }

    #[test]
    fn sizes_and_parameters_carry_their_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(217_088), "212 KiB");
        assert_eq!(bytes(4_194_304), "4,096 KiB");
        assert_eq!(bytes(144_811_072), "138.1 MiB");
        assert_eq!(bytes(45 << 30), "45.0 GiB");
        assert_eq!(params(512), "512");
        assert_eq!(params(260_032), "260 K");
        assert_eq!(params(134_515_008), "134.5 M");
        assert_eq!(params(1_100_048_384), "1.10 G");
    }

    #[test]
    fn times_have_the_unit_that_an_eye_wants() {
        assert_eq!([0, 499, 1_500, 89_000].map(span), ["0 s", "0 s", "2 s", "89 s"]);
        assert_eq!([90_000, 120_000, 5_369_000].map(span), ["2 min", "2 min", "89 min"]);
        assert_eq!([5_370_000, 6_000_000, 7_200_000].map(span), ["1 h 30 min", "1 h 40 min", "2 h"]);
        assert_eq!([172_769_000, 172_770_000, 270_000_000].map(span), ["47 h 59 min", "1 d 23 h", "3 d 3 h"]);
        assert!(span(u64::MAX).ends_with(" h"));
        assert_eq!([0, 400, 125_000].map(expected), ["~1 s", "~1 s", "~2 min"]);
    }

    #[test]
    fn an_estimate_is_a_marked_range() {
        assert_eq!(estimated(12.3, 30.8), "~12–31");
        assert_eq!(estimated(4.77, 10.48), "~4.8–10");
        assert_eq!(estimated(0.419, 0.9999), "~0.42–1.0");
    }
}
