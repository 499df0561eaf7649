//! Whether a silent worker is dead: φ-accrual over the distances of its heartbeats.

use std::{collections::VecDeque, time::Duration};

use crate::{Config, Now};

/// Heartbeats that are remembered.
const WINDOW: usize = 200;

/// Expected distance of heartbeats before any was seen, in ms.
const USUAL_MS: u64 = 1000;

/// φ = 8 means that a heartbeat comes this late by chance once in 10^8: the upper 1e-8 quantile of the
/// normal distribution, in standard deviations.
const DEVIATIONS_AT_PHI_8: f64 = 5.612_001_244_174_8;

/// The history of one worker's heartbeats.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    heard: Now,
    beat: Option<Now>,
    distances: VecDeque<u64>,
}

impl Detector {
    pub(crate) const fn new(now: Now) -> Self {
        Self { heard: now, beat: None, distances: VecDeque::new() }
    }

    /// Something came.
    pub(crate) fn heard(&mut self, now: Now) {
        self.heard = now;
    }

    /// A heartbeat came.
    pub(crate) fn beat(&mut self, now: Now) {
        self.heard = now;
        if let Some(last) = self.beat.replace(now) {
            if self.distances.len() == WINDOW {
                self.distances.pop_front();
            }
            self.distances.push_back(now.0 - last.0);
        }
    }

    /// A session began: the gap before it says nothing about heartbeats.
    pub(crate) fn resume(&mut self, now: Now) {
        self.heard = now;
        self.beat = None;
    }

    /// When something last came.
    pub(crate) const fn last(&self) -> Now {
        self.heard
    }

    /// When silence makes the worker suspect.
    pub(crate) fn suspect_at(&self, config: &Config) -> Now {
        self.heard.plus(config.suspect_after)
    }

    /// When silence makes the worker dead.
    pub(crate) fn dead_at(&self, config: &Config) -> Now {
        self.heard.plus(self.patience(config).clamp(config.dead_min, config.dead_max))
    }

    /// How unlikely the present silence is by chance, as the negative decimal logarithm; 0 within the pause that
    /// is forgiven.
    pub(crate) fn phi(&self, now: Now, config: &Config) -> f64 {
        let (mean, deviation) = self.usual(config);
        let silence = now.since(self.heard).saturating_sub(config.pause);
        let deviations = (silence.as_secs_f64() * 1000.0 - mean) / deviation;
        if deviations > 0.0 { -log10_tail(deviations) } else { 0.0 }
    }

    /// The silence at which φ reaches 8.
    fn patience(&self, config: &Config) -> Duration {
        let (mean, deviation) = self.usual(config);
        config.pause + Duration::from_millis((mean + DEVIATIONS_AT_PHI_8 * deviation) as u64)
    }

    /// Mean and standard deviation of the distances of heartbeats, in ms.
    fn usual(&self, config: &Config) -> (f64, f64) {
        let floor = config.min_deviation.as_secs_f64() * 1000.0;
        if self.distances.is_empty() {
            (USUAL_MS as f64, floor)
        } else {
            let n = self.distances.len() as f64;
            let mean = self.distances.iter().sum::<u64>() as f64 / n;
            let square = |&ms: &u64| (ms as f64 - mean) * (ms as f64 - mean);
            let variance = self.distances.iter().map(square).sum::<f64>() / n;
            (mean, variance.sqrt().max(floor))
        }
    }
}

/// The decimal logarithm of the upper tail of the normal distribution, for deviations from 0 up: Laplace's continued
/// fraction, whose logarithm has no underflow.
fn log10_tail(deviations: f64) -> f64 {
    const TERMS: u32 = 200;
    let fraction = (1..=TERMS).rev().fold(deviations, |below, n| deviations + f64::from(n) / below);
    let density = -deviations * deviations / 2.0 - (2.0 * std::f64::consts::PI).sqrt().ln();
    (density - fraction.ln()) / std::f64::consts::LN_10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(distances: &[u64]) -> u64 {
        let mut detector = Detector::new(Now(0));
        let mut now = 0;
        detector.beat(Now(0));
        for distance in distances {
            now += distance;
            detector.beat(Now(now));
        }
        detector.dead_at(&Config::default()).0 - now
    }

    #[test]
    fn steady_beats_die_after_mean_plus_pause_plus_phi_8() {
        assert_eq!(after(&[]), 1000 + 3000 + 1122);
        assert_eq!(after(&[1000; 500]), 1000 + 3000 + 1122);
    }

    #[test]
    fn phi_is_eight_where_patience_ends_and_nothing_before_the_pause_is_over() {
        let (mut detector, config) = (Detector::new(Now(0)), Config::default());
        detector.beat(Now(0));
        let phi = |ms| detector.phi(Now(ms), &config);
        assert_eq!([phi(0), phi(3000), phi(4000)], [0.0; 3]);
        assert!((phi(5122) - 8.0).abs() < 0.02, "{}", phi(5122));
        assert!(phi(4100) > 0.3 && phi(4100) < phi(4500) && phi(4500) < phi(60_000));
    }

    #[test]
    fn the_tail_is_that_of_the_tables() {
        for (deviations, tail) in [(0.5, 0.308_54), (1.0, 0.158_66), (3.0, 1.3499e-3), (6.0, 9.866e-10)] {
            let ours = 10_f64.powf(log10_tail(deviations));
            assert!((ours / tail - 1.0).abs() < 1e-3, "{deviations}: {ours:e}, not {tail:e}");
        }
    }

    #[test]
    fn the_answer_stays_between_four_and_seven_seconds() {
        assert_eq!(after(&[1; 50]), 4123);
        assert_eq!(after(&[0; 50]), 4122);
        assert_eq!(after(&[200, 4000, 200, 4000]), 7000);
        let config = Config { pause: Duration::ZERO, ..Config::default() };
        let mut detector = Detector::new(Now(0));
        detector.beat(Now(0));
        assert_eq!(detector.dead_at(&config), Now(4000));
    }

    #[test]
    fn only_the_last_two_hundred_count_and_a_gap_between_sessions_does_not() {
        let mut distances = vec![3000; 300];
        distances.extend([1000; 200]);
        assert_eq!(after(&distances), 5122);

        let mut detector = Detector::new(Now(0));
        detector.beat(Now(0));
        detector.resume(Now(60_000));
        detector.beat(Now(60_000));
        assert_eq!(detector.dead_at(&Config::default()), Now(65_122));
    }

    #[test]
    fn any_frame_delays_death_without_counting_as_a_beat() {
        let mut detector = Detector::new(Now(0));
        detector.beat(Now(0));
        detector.heard(Now(10));
        assert_eq!(detector.dead_at(&Config::default()), Now(5132));
        assert_eq!(detector.suspect_at(&Config::default()), Now(3010));
    }
}
