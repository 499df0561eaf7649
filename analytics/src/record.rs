//! From the samples of a run to the summary of its record.

use std::collections::BTreeMap;

use edgeprof_common::run::{Counter, Direction, Range, Sample, Summary};

use crate::summary::{nearest_to_median, summarize};

/// The metrics of a run by name: `load`, `prefill_per_token` and `decode_per_token`, each over the
/// repetitions that have it; empty if the samples do not share one counter.
#[must_use]
pub fn summaries(samples: &[Sample], discarded_warmups: u32) -> BTreeMap<String, Summary> {
    let Some(counter) = shared_counter(samples) else { return BTreeMap::new() };
    let whole = word(counter).to_owned();
    let per_token = format!("{whole}/token");
    let load = |sample: &Sample| Some(sample.load as f64);
    let metrics = [
        ("load", whole, samples.iter().filter_map(load).collect::<Vec<_>>()),
        ("prefill_per_token", per_token.clone(), samples.iter().filter_map(prefill_per_token).collect()),
        ("decode_per_token", per_token, samples.iter().filter_map(decode_per_token).collect()),
    ];
    let summary = |(name, unit, values): (&str, String, Vec<f64>)| {
        let stats = summarize(&values)?;
        let summary = Summary {
            unit,
            direction: Direction::Lower,
            n: u32::try_from(stats.n).unwrap_or(u32::MAX),
            median: stats.median,
            mean: stats.mean,
            sd: stats.sd,
            ci95: stats.ci95.map(|(low, high)| Range { low, high }),
            p90: (stats.n >= 2).then_some(stats.p90),
            discarded_warmups,
        };
        Some((name.to_owned(), summary))
    };
    metrics.into_iter().filter_map(summary).collect()
}

/// The repetition that stands for the run: the one whose work, prefill and decode together, is nearest the
/// median; `None` if there are no samples or they do not share one counter.
#[must_use]
pub fn representative(samples: &[Sample]) -> Option<usize> {
    shared_counter(samples)?;
    let work = |sample: &Sample| (total(&sample.prefill) + total(&sample.decode)) as f64;
    nearest_to_median(&samples.iter().map(work).collect::<Vec<_>>())
}

/// Prefill of one repetition by prompt token; `None` where no prompt token was counted.
#[must_use]
pub fn prefill_per_token(sample: &Sample) -> Option<f64> {
    let tokens: u64 = sample.prefill_tokens.iter().copied().map(u64::from).sum();
    (tokens > 0).then(|| total(&sample.prefill) as f64 / tokens as f64)
}

/// Decode of one repetition by generated token after the first; `None` where there was none.
#[must_use]
pub fn decode_per_token(sample: &Sample) -> Option<f64> {
    (!sample.decode.is_empty()).then(|| total(&sample.decode) as f64 / sample.decode.len() as f64)
}

fn total(counts: &[u64]) -> u128 {
    counts.iter().copied().map(u128::from).sum()
}

fn shared_counter(samples: &[Sample]) -> Option<Counter> {
    let counter = samples.first()?.counter;
    samples.iter().all(|sample| sample.counter == counter).then_some(counter)
}

const fn word(counter: Counter) -> &'static str {
    match counter {
        Counter::Instructions => "instructions",
        Counter::Cycles => "cycles",
        Counter::Ns => "ns",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(load: u64, prefill: &[u64], prefill_tokens: &[u32], decode: &[u64]) -> Sample {
        Sample {
            counter: Counter::Instructions,
            load,
            prefill: prefill.to_vec(),
            prefill_tokens: prefill_tokens.to_vec(),
            decode: decode.to_vec(),
        }
    }

    #[test]
    fn one_emulated_repetition_has_figures_but_no_spread() {
        let all = summaries(&[sample(500, &[80, 20], &[8, 2], &[30, 50])], 0);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["decode_per_token", "load", "prefill_per_token"]);
        let decode = &all["decode_per_token"];
        assert_eq!((decode.unit.as_str(), decode.direction), ("instructions/token", Direction::Lower));
        assert_eq!((decode.n, decode.median, decode.mean), (1, 40.0, 40.0));
        assert_eq!((decode.sd, &decode.ci95, decode.p90), (None, &None, None));
        assert_eq!(all["prefill_per_token"].median, 10.0);
        assert_eq!((all["load"].unit.as_str(), all["load"].median), ("instructions", 500.0));
    }

    #[test]
    fn repetitions_are_the_values_and_warmups_are_named() {
        let samples = [10, 30, 20].map(|count| sample(count, &[count], &[1], &[count]));
        let load = &summaries(&samples, 2)["load"];
        assert_eq!((load.n, load.median, load.mean, load.sd), (3, 20.0, 20.0, Some(10.0)));
        assert_eq!((load.discarded_warmups, load.p90), (2, Some(28.0)));
        assert!(load.ci95.is_some());
        assert_eq!(representative(&samples), Some(2));
    }

    #[test]
    fn what_was_not_obtained_is_absent() {
        let all = summaries(&[sample(5, &[], &[], &[])], 0);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["load"]);
        assert!(summaries(&[], 0).is_empty());
        assert_eq!(representative(&[]), None);
        let mut other = sample(5, &[1], &[1], &[1]);
        other.counter = Counter::Cycles;
        assert!(summaries(&[sample(5, &[1], &[1], &[1]), other], 0).is_empty());
    }

    proptest! {
        #[test]
        fn no_counts_overflow(load: u64, prefill: Vec<u64>, tokens: Vec<u32>, decode: Vec<u64>) {
            let samples = [sample(load, &prefill, &tokens, &decode), sample(0, &prefill, &tokens, &decode)];
            for summary in summaries(&samples, 0).values() {
                prop_assert!(summary.mean.is_finite() && summary.median.is_finite());
            }
            prop_assert!(representative(&samples).is_some());
        }

        #[test]
        fn equal_repetitions_agree_exactly(decode in proptest::collection::vec(0..u64::MAX, 1..20), n in 2..9_usize) {
            let samples = vec![sample(1, &[1], &[1], &decode); n];
            let summary = &summaries(&samples, 0)["decode_per_token"];
            prop_assert_eq!(summary.sd, Some(0.0));
            prop_assert_eq!(Some(summary.median), decode_per_token(&samples[0]));
        }
    }
}
