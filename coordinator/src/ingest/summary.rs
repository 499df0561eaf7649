//! A metric over repetitions.

use std::collections::BTreeMap;

use edgeprof_common::run::{Counter, Direction, Range, Sample, Summary, Timing};

/// 97.5 % quantiles of Student's t with 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Middle value; `None` of nothing.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// By linear interpolation between the closest ranks.
fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = q * (sorted.len().checked_sub(1)? as f64);
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// Median count of a generated token.
pub(super) fn decode_of(sample: &Sample) -> Option<f64> {
    median(&sample.decode.iter().map(|count| *count as f64).collect::<Vec<_>>())
}

/// Count of a prompt token.
pub(super) fn prefill_of(sample: &Sample) -> Option<f64> {
    let tokens: u64 = sample.prefill_tokens.iter().map(|n| u64::from(*n)).sum();
    (tokens > 0).then(|| sample.prefill.iter().sum::<u64>() as f64 / tokens as f64)
}

fn whole(sample: &Sample) -> u64 {
    sample.decode.iter().chain(&sample.prefill).fold(0u64, |sum, count| sum.saturating_add(*count))
}

/// The repetition nearest the median.
pub(super) fn nearest(samples: &[Sample]) -> Option<&Sample> {
    let middle = median(&samples.iter().map(|s| whole(s) as f64).collect::<Vec<_>>())?;
    samples.iter().min_by(|a, b| {
        let far = |sample| (whole(sample) as f64 - middle).abs();
        far(a).total_cmp(&far(b))
    })
}

/// Relative scatter of a generated token's count over repetitions.
pub(super) fn scatter(samples: &[Sample]) -> Option<f64> {
    let values: Vec<f64> = samples.iter().filter_map(decode_of).collect();
    let summary = summarize(&values, "", Direction::Lower, 0)?;
    Some(summary.sd? / summary.mean).filter(|ratio| ratio.is_finite())
}

/// Every metric that the samples give.
pub(super) fn all(samples: &[Sample], timings: &[Timing], discarded: u32) -> BTreeMap<String, Summary> {
    let Some(first) = samples.first() else { return BTreeMap::new() };
    let unit = match first.counter {
        Counter::Instructions => "instructions",
        Counter::Cycles => "cycles",
        Counter::Ns => "ns",
    };
    let per_token = format!("{unit}/token");
    let loads: Vec<f64> = samples.iter().map(|sample| sample.load as f64).collect();
    let prefills: Vec<f64> = samples.iter().filter_map(prefill_of).collect();
    let decodes: Vec<f64> = samples.iter().filter_map(decode_of).collect();
    let ttft: Vec<f64> = timings.iter().map(|timing| timing.ttft_ns as f64).collect();
    let speed: Vec<f64> = timings.iter().filter_map(|timing| timing.decode_tokens_per_second).collect();
    let fill: Vec<f64> = timings.iter().map(|timing| timing.prefill_tokens_per_second).collect();
    [
        ("load", unit, Direction::Lower, loads),
        ("prefill", per_token.as_str(), Direction::Lower, prefills),
        ("decode", per_token.as_str(), Direction::Lower, decodes),
        ("ttft", "ns", Direction::Lower, ttft),
        ("prefill_tokens_per_second", "tokens/s", Direction::Higher, fill),
        ("decode_tokens_per_second", "tokens/s", Direction::Higher, speed),
    ]
    .into_iter()
    .filter_map(|(name, unit, direction, values)| {
        Some((name.to_owned(), summarize(&values, unit, direction, discarded)?))
    })
    .collect()
}

fn summarize(values: &[f64], unit: &str, direction: Direction, discarded_warmups: u32) -> Option<Summary> {
    let n = u32::try_from(values.len()).ok()?;
    let median = median(values)?;
    let mean = values.iter().sum::<f64>() / f64::from(n);
    let sd = (n > 1).then(|| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (squares / f64::from(n - 1)).sqrt()
    });
    let ci95 = sd.map(|sd| {
        let t = T.get(n as usize - 2).copied().unwrap_or(1.96);
        let half = t * sd / f64::from(n).sqrt();
        Range { low: mean - half, high: mean + half }
    });
    let p90 = (n > 1).then(|| quantile(values, 0.9)).flatten();
    Some(Summary { unit: unit.to_owned(), direction, n, median, mean, sd, ci95, p90, discarded_warmups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_need_two_repetitions_are_absent_with_one() {
        let one = summarize(&[3.0], "x", Direction::Lower, 0).unwrap();
        assert_eq!((one.median, one.sd, one.ci95, one.p90), (3.0, None, None, None));
        let five = summarize(&[1.0, 2.0, 3.0, 4.0, 5.0], "x", Direction::Lower, 1).unwrap();
        assert_eq!((five.mean, five.median), (3.0, 3.0));
        assert!((five.sd.unwrap() - 1.581_138_83).abs() < 1e-8);
        let ci = five.ci95.unwrap();
        assert!((ci.high - 4.963).abs() < 1e-3, "{ci:?}");
        assert!((five.p90.unwrap() - 4.6).abs() < 1e-12);
        assert!(summarize(&[], "x", Direction::Lower, 0).is_none());
    }
}
