//! Metrics over the repetitions of a run.

use std::collections::BTreeMap;

use edgeprof_analytics::{
    record::{representative, summaries},
    summary::{Stats, summarize},
};
use edgeprof_common::run::{Direction, Range, Sample, Summary, Timing};

/// The repetition that stands for the run.
pub(super) fn nearest(samples: &[Sample]) -> Option<&Sample> {
    samples.get(representative(samples)?)
}

/// Median count of a generated token.
pub(super) fn decode_of(sample: &Sample) -> Option<f64> {
    let counts: Vec<f64> = sample.decode.iter().map(|count| *count as f64).collect();
    Some(summarize(&counts)?.median)
}

/// Relative scatter of a generated token's count over repetitions.
pub(super) fn scatter(samples: &[Sample]) -> Option<f64> {
    let values: Vec<f64> = samples.iter().filter_map(decode_of).collect();
    let stats = summarize(&values)?;
    Some(stats.sd? / stats.mean).filter(|ratio| ratio.is_finite())
}

/// Every metric that the samples and the device's clock give.
pub(super) fn all(samples: &[Sample], timings: &[Timing], discarded: u32) -> BTreeMap<String, Summary> {
    // In a record the unit says that a count is per token.
    let mut all: BTreeMap<_, _> = summaries(samples, discarded)
        .into_iter()
        .map(|(name, summary)| (name.trim_end_matches("_per_token").to_owned(), summary))
        .collect();
    // By the median token, which a few slow ones do not move.
    let medians: Vec<f64> = samples.iter().filter_map(decode_of).collect();
    if let (Some(decode), Some(stats)) = (all.get_mut("decode"), summarize(&medians)) {
        *decode = summary(&stats, &decode.unit, decode.direction, discarded);
    }
    let ttft: Vec<f64> = timings.iter().map(|timing| timing.ttft_ns as f64).collect();
    let fill: Vec<f64> = timings.iter().map(|timing| timing.prefill_tokens_per_second).collect();
    let speed: Vec<f64> = timings.iter().filter_map(|timing| timing.decode_tokens_per_second).collect();
    for (name, unit, direction, values) in [
        ("ttft", "ns", Direction::Lower, ttft),
        ("prefill_tokens_per_second", "tokens/s", Direction::Higher, fill),
        ("decode_tokens_per_second", "tokens/s", Direction::Higher, speed),
    ] {
        let Some(stats) = summarize(&values) else { continue };
        let summary = summary(&stats, unit, direction, discarded);
        all.insert(name.to_owned(), summary);
    }
    all
}

fn summary(stats: &Stats, unit: &str, direction: Direction, discarded_warmups: u32) -> Summary {
    Summary {
        unit: unit.to_owned(),
        direction,
        n: u32::try_from(stats.n).unwrap_or(u32::MAX),
        median: stats.median,
        mean: stats.mean,
        sd: stats.sd,
        ci95: stats.ci95.map(|(low, high)| Range { low, high }),
        p90: (stats.n >= 2).then_some(stats.p90),
        discarded_warmups,
    }
}
