//! From the samples of a run to the summary of its record.

use std::collections::BTreeMap;

use edgeprof_common::run::{Counter, Direction, Range, Sample, Summary, Timing};

use crate::summary::{nearest_to_median, summarize};

/// The metrics of a run by name, each over the repetitions that have it: `load`; `prefill` and `decode`,
/// counts per token of a repetition; and the speeds of `timings`. Counts are left out if the samples do
/// not share one counter.
#[must_use]
pub fn summaries(
    samples: &[Sample],
    timings: &[Timing],
    discarded_warmups: u32,
) -> BTreeMap<String, Summary> {
    let mut all = BTreeMap::new();
    let mut add = |name: &str, unit: &str, direction: Direction, values: Vec<f64>| {
        let Some(stats) = summarize(&values) else { return };
        let summary = Summary {
            unit: unit.to_owned(),
            direction,
            n: u32::try_from(stats.n).unwrap_or(u32::MAX),
            median: stats.median,
            mean: stats.mean,
            sd: stats.sd,
            ci95: stats.ci95.map(|(low, high)| Range { low, high }),
            p90: (stats.n >= 2).then_some(stats.p90),
            discarded_warmups,
        };
        all.insert(name.to_owned(), summary);
    };
    if let Some(counter) = shared_counter(samples) {
        let whole = word(counter);
        let per_token = format!("{whole}/token");
        add("load", whole, Direction::Lower, samples.iter().map(|sample| sample.load as f64).collect());
        add("prefill", &per_token, Direction::Lower, samples.iter().filter_map(prefill).collect());
        add("decode", &per_token, Direction::Lower, samples.iter().filter_map(decode).collect());
    }
    let speed = "tokens/s";
    let ttft = |timing: &Timing| timing.ttft_ns as f64;
    let fill = |timing: &Timing| timing.prefill_tokens_per_second;
    let generate = |timing: &Timing| timing.decode_tokens_per_second;
    add("ttft", "ns", Direction::Lower, timings.iter().map(ttft).collect());
    add("prefill_tokens_per_second", speed, Direction::Higher, timings.iter().map(fill).collect());
    add("decode_tokens_per_second", speed, Direction::Higher, timings.iter().filter_map(generate).collect());
    all
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
pub fn prefill(sample: &Sample) -> Option<f64> {
    let tokens: u64 = sample.prefill_tokens.iter().copied().map(u64::from).sum();
    (tokens > 0).then(|| total(&sample.prefill) as f64 / tokens as f64)
}

/// Decode of one repetition by generated token after the first; `None` where there was none.
#[must_use]
pub fn decode(sample: &Sample) -> Option<f64> {
    (!sample.decode.is_empty()).then(|| total(&sample.decode) as f64 / sample.decode.len() as f64)
}

/// Relative standard deviation of [`decode`] over the repetitions; `None` below two of them.
#[must_use]
pub fn scatter(samples: &[Sample]) -> Option<f64> {
    let stats = summarize(&samples.iter().filter_map(decode).collect::<Vec<_>>())?;
    Some(stats.sd? / stats.mean).filter(|ratio| ratio.is_finite())
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
        let all = summaries(&[sample(500, &[80, 20], &[8, 2], &[20, 10, 90])], &[], 0);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["decode", "load", "prefill"]);
        let decode = &all["decode"];
        assert_eq!((decode.unit.as_str(), decode.direction), ("instructions/token", Direction::Lower));
        // The mean over the tokens: their median is 20.
        assert_eq!((decode.n, decode.median, decode.mean), (1, 40.0, 40.0));
        assert_eq!((decode.sd, &decode.ci95, decode.p90), (None, &None, None));
        assert_eq!(all["prefill"].median, 10.0);
        assert_eq!((all["load"].unit.as_str(), all["load"].median), ("instructions", 500.0));
    }

    #[test]
    fn repetitions_are_the_values_and_warmups_are_named() {
        let samples = [10, 30, 20].map(|count| sample(count, &[count], &[1], &[count]));
        let load = &summaries(&samples, &[], 2)["load"];
        assert_eq!((load.n, load.median, load.mean, load.sd), (3, 20.0, 20.0, Some(10.0)));
        assert_eq!((load.discarded_warmups, load.p90), (2, Some(28.0)));
        assert!(load.ci95.is_some());
        assert_eq!(representative(&samples), Some(2));
    }

    #[test]
    fn a_devices_clock_adds_speeds() {
        let timing = |ttft_ns, speed| Timing {
            ttft_ns,
            tpot_ns: None,
            prefill_tokens_per_second: 8.0,
            decode_tokens_per_second: speed,
        };
        let all = summaries(&[], &[timing(3, None), timing(5, Some(2.0))], 1);
        assert_eq!((all["ttft"].unit.as_str(), all["ttft"].median), ("ns", 4.0));
        let decode = &all["decode_tokens_per_second"];
        assert_eq!((decode.n, decode.direction), (1, Direction::Higher));
        assert_eq!(all["prefill_tokens_per_second"].n, 2);
    }

    #[test]
    fn scatter_is_relative_and_takes_two() {
        let samples = [90, 110].map(|count| sample(1, &[1], &[1], &[count]));
        assert!((scatter(&samples).unwrap() - 0.141_421).abs() < 1e-6);
        assert_eq!(scatter(&samples[..1]), None);
    }

    #[test]
    fn what_was_not_obtained_is_absent() {
        let all = summaries(&[sample(5, &[], &[], &[])], &[], 0);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["load"]);
        assert!(summaries(&[], &[], 0).is_empty());
        assert_eq!(representative(&[]), None);
        let mut other = sample(5, &[1], &[1], &[1]);
        other.counter = Counter::Cycles;
        assert!(summaries(&[sample(5, &[1], &[1], &[1]), other], &[], 0).is_empty());
    }

    proptest! {
        #[test]
        fn no_counts_overflow(load: u64, prefill: Vec<u64>, tokens: Vec<u32>, decode: Vec<u64>) {
            let samples = [sample(load, &prefill, &tokens, &decode), sample(0, &prefill, &tokens, &decode)];
            for summary in summaries(&samples, &[], 0).values() {
                prop_assert!(summary.mean.is_finite() && summary.median.is_finite());
            }
            prop_assert!(representative(&samples).is_some());
        }

        #[test]
        fn equal_repetitions_agree_exactly(decode in proptest::collection::vec(0..u64::MAX, 1..20), n in 2..9_usize) {
            let samples = vec![sample(1, &[1], &[1], &decode); n];
            let summary = &summaries(&samples, &[], 0)["decode"];
            prop_assert_eq!(summary.sd, Some(0.0));
            prop_assert_eq!(Some(summary.median), super::decode(&samples[0]));
        }
    }
}
