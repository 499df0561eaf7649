//! What history says of run times: exponentially weighted means by image and kind of board.

use std::collections::BTreeMap;

use edgeprof_common::Digest;

use crate::Estimate;

/// Weight of the newest run.
const NEWEST: f64 = 0.25;

/// A change of less than this part is not worth a write.
const MUCH: f64 = 0.2;

/// Time in µs of a span in ms of a clock that counts only those: one of zero was half of one, on average.
pub(crate) const fn span(ms: u64) -> u64 {
    if ms == 0 { 500 } else { ms.saturating_mul(1000) }
}

/// The new mean of a span after one more of them.
pub(crate) fn mean(before: Option<u64>, newest: u64) -> u64 {
    before.map_or(newest, |before| blend(before as f64, newest as f64) as u64)
}

fn blend(before: f64, newest: f64) -> f64 {
    before + (newest - before) * NEWEST
}

#[derive(Clone, Debug)]
struct Learned {
    now: Estimate,
    /// As the store has it.
    written: Option<(f64, f64)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Estimates {
    learned: BTreeMap<Digest, BTreeMap<String, Learned>>,
    /// Mean board time of all tasks, in µs.
    usual: Option<u64>,
}

/// What a run is expected to take, in µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Of board time, loading not included.
    pub(crate) run: u64,
    /// To load the image; zero where it is not known.
    pub(crate) load: u64,
}

/// One run, as it was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) image: Digest,
    pub(crate) kind: &'a str,
    /// Tokens that it computed.
    pub(crate) work: u64,
    /// Board time in µs.
    pub(crate) run: u64,
    /// Time that loading the image took, in µs, if it was loaded.
    pub(crate) load: Option<u64>,
}

impl Estimates {
    /// Takes in what the store has.
    pub(crate) fn recover(&mut self, estimate: Estimate) {
        let sane = |ns: f64| ns.is_finite() && ns >= 0.0;
        if !sane(estimate.ns_per_work) || !sane(estimate.load_ns) {
            return;
        }
        let written = Some((estimate.ns_per_work, estimate.load_ns));
        let kinds = self.learned.entry(estimate.image).or_default();
        kinds.insert(estimate.kind.clone(), Learned { now: estimate, written });
    }

    /// Expected times of a run; none where nothing was learned.
    pub(crate) fn expected(&self, image: &Digest, kind: &str, work: u64) -> Option<Expected> {
        let Estimate { ns_per_work, load_ns, .. } = &self.learned.get(image)?.get(kind)?.now;
        let run = (ns_per_work * work.max(1) as f64 / 1000.0) as u64;
        Some(Expected { run, load: (load_ns / 1000.0) as u64 })
    }

    /// Expected board time in µs, loading not included.
    pub(crate) fn run(&self, image: &Digest, kind: &str, work: u64) -> Option<u64> {
        self.expected(image, kind, work).map(|expected| expected.run)
    }

    /// Mean board time of a task, in µs, once one has ended.
    pub(crate) const fn usual(&self) -> Option<u64> {
        self.usual
    }

    /// Learns from a run. Gives what is worth a write.
    pub(crate) fn learn(&mut self, seen: &Seen<'_>) -> Option<Estimate> {
        self.usual = Some(mean(self.usual, seen.run));
        let ns_per_work = seen.run as f64 * 1000.0 / seen.work.max(1) as f64;
        let load = seen.load.map(|us| us as f64 * 1000.0);
        let kinds = self.learned.entry(seen.image).or_default();
        let learned = kinds.entry(seen.kind.to_owned()).or_insert_with(|| Learned {
            now: Estimate {
                image: seen.image,
                kind: seen.kind.to_owned(),
                ns_per_work,
                load_ns: load.unwrap_or(0.0),
                runs: 0,
            },
            written: None,
        });
        let now = &mut learned.now;
        now.runs = now.runs.saturating_add(1);
        now.ns_per_work = blend(now.ns_per_work, ns_per_work);
        if let Some(load) = load {
            now.load_ns = if now.load_ns == 0.0 { load } else { blend(now.load_ns, load) };
        }
        let much = |before: f64, after: f64| (after - before).abs() > MUCH * before;
        let news =
            learned.written.is_none_or(|(run, load)| much(run, now.ns_per_work) || much(load, now.load_ns));
        news.then(|| {
            learned.written = Some((now.ns_per_work, now.load_ns));
            now.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(run: u64, work: u64, load: Option<u64>) -> Seen<'static> {
        Seen { image: Digest::of(b"image"), kind: "m4", work, run, load }
    }

    #[test]
    fn what_is_learned_scales_with_the_work_and_is_of_one_kind_and_image() {
        let (mut estimates, image) = (Estimates::default(), Digest::of(b"image"));
        assert_eq!(estimates.run(&image, "m4", 10), None);
        estimates.learn(&seen(1000, 10, Some(5000)));
        assert_eq!(estimates.run(&image, "m4", 10), Some(1000));
        assert_eq!(estimates.run(&image, "m4", 200), Some(20_000));
        let load = |kind| estimates.expected(&image, kind, 1).map(|expected| expected.load);
        assert_eq!((load("m4"), load("m3"), estimates.usual()), (Some(5000), None, Some(1000)));
        assert_eq!(estimates.run(&Digest::of(b"other"), "m4", 1), None);
    }

    #[test]
    fn the_newest_run_counts_a_quarter() {
        let (mut estimates, image) = (Estimates::default(), Digest::of(b"image"));
        estimates.learn(&seen(1000, 1, None));
        estimates.learn(&seen(2000, 1, None));
        assert_eq!(estimates.run(&image, "m4", 1), Some(1250));
    }

    #[test]
    fn only_what_changed_by_a_fifth_is_written() {
        let mut estimates = Estimates::default();
        assert!(estimates.learn(&seen(1000, 1, None)).is_some());
        assert!(estimates.learn(&seen(1100, 1, None)).is_none());
        assert!(estimates.learn(&seen(1100, 1, None)).is_none());
        let mut writes = 0;
        for _ in 0..20 {
            writes += usize::from(estimates.learn(&seen(2000, 1, None)).is_some());
        }
        assert!((2..=5).contains(&writes), "{writes}");
    }

    #[test]
    fn what_a_store_has_is_taken_up_unless_it_is_nonsense() {
        let (mut estimates, image) = (Estimates::default(), Digest::of(b"image"));
        let row = |ns_per_work| Estimate { image, kind: "m4".into(), ns_per_work, load_ns: 0.0, runs: 3 };
        estimates.recover(row(f64::NAN));
        assert_eq!(estimates.run(&image, "m4", 1), None);
        estimates.recover(row(2_000_000.0));
        assert_eq!(estimates.run(&image, "m4", 3), Some(6000));
        assert!(estimates.learn(&seen(2000, 1, None)).is_none());
    }
}
