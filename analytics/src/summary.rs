//! What a handful of values say together.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The usual figures of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// How many values.
    pub n: usize,
    /// The middle value, or the mean of the two in the middle.
    pub median: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (n − 1); absent below two values.
    pub sd: Option<f64>,
    /// 95 % confidence interval of the mean by Student's t; absent below two values.
    pub ci95: Option<(f64, f64)>,
    /// 90th percentile, linear between neighbours.
    pub p90: f64,
}

/// The usual figures of some values; `None` if there are none or one is not finite.
#[must_use]
pub fn summarize(values: &[f64]) -> Option<Stats> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    // From the least value on, so that equal values have exactly their own mean.
    let (least, most) = (sorted[0], sorted[n - 1]);
    let mean = least + sorted.iter().map(|value| (value - least) / n as f64).sum::<f64>();
    let mean = mean.clamp(least, most);
    let sd = (n >= 2).then(|| {
        let squares = sorted.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
        (squares / (n - 1) as f64).sqrt()
    });
    let ci95 = sd.map(|sd| {
        let half = t_975(n - 1) * sd / (n as f64).sqrt();
        (mean - half, mean + half)
    });
    Some(Stats { n, median: percentile(&sorted, 0.5), mean, sd, ci95, p90: percentile(&sorted, 0.9) })
}

/// The index of the value nearest the median, the first of equals; `None` if there are no values or one
/// is not finite.
#[must_use]
pub fn nearest_to_median(values: &[f64]) -> Option<usize> {
    let median = summarize(values)?.median;
    let distance = |index: &usize| (values[*index] - median).abs();
    (0..values.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

/// Linear between the two values around `(n − 1) · q`, Hyndman and Fan's type 7.
fn percentile(sorted: &[f64], q: f64) -> f64 {
    let at = (sorted.len() - 1) as f64 * q;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    (low + (high - low) * at.fract()).clamp(low, high)
}

/// The two-sided 95 % quantile of Student's t.
fn t_975(freedom: usize) -> f64 {
    // A t distribution with a whole number of degrees above zero always exists.
    StudentsT::new(0.0, 1.0, freedom as f64).map_or(f64::NAN, |t| t.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn t_quantiles_are_those_of_the_printed_tables() {
        for (freedom, quantile) in
            [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045), (999, 1.962)]
        {
            assert!((t_975(freedom) - quantile).abs() < 0.0006, "{freedom}: {}", t_975(freedom));
        }
    }

    #[test]
    fn figures_of_five_values() {
        let stats = summarize(&[4.0, 1.0, 3.0, 5.0, 2.0]).unwrap();
        assert_eq!((stats.n, stats.median, stats.mean), (5, 3.0, 3.0));
        assert!((stats.p90 - 4.6).abs() < 1e-12);
        assert!((stats.sd.unwrap() - 1.581_138_830_084_189_8).abs() < 1e-12);
        let (low, high) = stats.ci95.unwrap();
        assert!((low - 1.036_756_838_522_439).abs() < 1e-6 && (high - 4.963_243_161_477_561).abs() < 1e-6);
    }

    #[test]
    fn one_value_has_no_spread_and_none_has_no_figures() {
        let stats = summarize(&[7.0]).unwrap();
        assert_eq!((stats.n, stats.median, stats.mean, stats.p90), (1, 7.0, 7.0, 7.0));
        assert_eq!((stats.sd, stats.ci95), (None, None));
        assert_eq!(summarize(&[]), None);
        assert_eq!(summarize(&[1.0, f64::NAN]), None);
        assert_eq!(nearest_to_median(&[]), None);
    }

    #[test]
    fn the_first_of_equally_near_values_is_taken() {
        assert_eq!(nearest_to_median(&[1.0, 3.0]), Some(0));
        assert_eq!(nearest_to_median(&[9.0, 1.0, 5.0]), Some(2));
        assert_eq!(nearest_to_median(&[5.0, 5.0, 5.0]), Some(0));
    }

    proptest! {
        #[test]
        fn figures_lie_where_they_must(values in proptest::collection::vec(-1e12..1e12, 1..50)) {
            let stats = summarize(&values).unwrap();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for figure in [stats.median, stats.mean, stats.p90] {
                prop_assert!((least..=most).contains(&figure));
            }
            prop_assert!(stats.p90 >= stats.median);
            if let Some((low, high)) = stats.ci95 {
                prop_assert!(low <= stats.mean && stats.mean <= high);
            }
            let below = values.iter().filter(|value| **value < stats.median).count();
            let above = values.iter().filter(|value| **value > stats.median).count();
            prop_assert!(below <= values.len() / 2 && above <= values.len() / 2);
        }

        #[test]
        fn order_does_not_matter(mut values in proptest::collection::vec(-1e12..1e12, 1..30)) {
            let stats = summarize(&values);
            values.reverse();
            prop_assert_eq!(summarize(&values), stats);
        }

        #[test]
        fn equal_values_have_no_spread(value in 0..u64::MAX, n in 2..40_usize) {
            let value = value as f64;
            let stats = summarize(&vec![value; n]).unwrap();
            prop_assert_eq!((stats.median, stats.mean, stats.sd), (value, value, Some(0.0)));
            prop_assert_eq!(stats.ci95, Some((value, value)));
        }

        #[test]
        fn nothing_is_nearer_than_the_nearest(values in proptest::collection::vec(-1e12..1e12, 1..30)) {
            let median = summarize(&values).unwrap().median;
            let nearest = values[nearest_to_median(&values).unwrap()];
            prop_assert!(values.iter().all(|value| (nearest - median).abs() <= (value - median).abs()));
        }
    }
}
