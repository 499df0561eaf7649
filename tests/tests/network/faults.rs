//! What goes wrong in a seed, and when.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::lab::{COORDINATOR, Lab};

/// Faults of one seed.
const COUNT: usize = 8;

/// The last one begins before this.
const SPAN: Duration = Duration::from_secs(30);

/// None lasts longer than this.
const LONGEST: Duration = Duration::from_secs(18);

/// Something that goes wrong for a while. Ways are named by the worker at their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing gets through either way.
    Partition(usize),
    /// The worker hears nothing.
    Deaf(usize),
    /// The worker is not heard.
    Mute(usize),
    /// Everything comes late.
    Hold(usize),
    /// The worker's process dies.
    WorkerDies(usize),
    /// The coordinator's process dies.
    CoordinatorDies,
}

/// The faults of a seed, by when each begins and ends.
#[derive(Debug)]
pub(crate) struct Plan {
    turns: Vec<(Duration, bool, Kind)>,
}

impl Plan {
    /// Faults for so many workers.
    pub(crate) fn of(seed: u64, workers: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut faults: Vec<(Duration, Duration, Kind)> = Vec::new();
        while faults.len() < COUNT {
            let worker = random.random_range(0..workers);
            let kind = match random.random_range(0..6) {
                0 => Kind::Partition(worker),
                1 => Kind::Deaf(worker),
                2 => Kind::Mute(worker),
                3 => Kind::Hold(worker),
                4 => Kind::WorkerDies(worker),
                _ => Kind::CoordinatorDies,
            };
            let begin = SPAN.mul_f64(random.random_range(0.0..1.0));
            // Short ones and long ones alike.
            let end = begin + LONGEST.mul_f64(random.random_range(0.0f64..1.0).powi(3));
            // A way or a process has one fault at a time.
            let apart = |other: &(Duration, Duration, Kind)| {
                other.2.what() != kind.what() || other.1 < begin || end < other.0
            };
            if faults.iter().all(apart) {
                faults.push((begin, end, kind));
            }
        }
        let begins = faults.iter().map(|(begin, _, kind)| (*begin, true, *kind));
        let ends = faults.iter().map(|(_, end, kind)| (*end, false, *kind));
        let mut turns: Vec<_> = begins.chain(ends).collect();
        turns.sort_by_key(|(at, _, _)| *at);
        Self { turns }
    }

    /// Steps through all of it. Afterwards nothing is wrong any more.
    pub(crate) fn play(self, lab: &mut Lab) {
        for (at, begins, kind) in self.turns {
            lab.until("the next fault", SPAN + LONGEST, |lab| lab.elapsed() >= at);
            kind.turn(begins, lab);
        }
    }
}

impl Kind {
    /// What it concerns: a worker's way to the coordinator, a worker's process, or the coordinator's.
    fn what(self) -> (u8, usize) {
        match self {
            Self::Partition(n) | Self::Deaf(n) | Self::Mute(n) | Self::Hold(n) => (0, n),
            Self::WorkerDies(n) => (1, n),
            Self::CoordinatorDies => (2, 0),
        }
    }

    fn turn(self, begins: bool, lab: &mut Lab) {
        let worker = format!("w{}", self.what().1);
        let way = |lab: &mut Lab, from: &str, to: &str| {
            if begins { lab.cut(from, to) } else { lab.mend(from, to) }
        };
        match self {
            Self::Partition(_) => {
                way(lab, COORDINATOR, &worker);
                way(lab, &worker, COORDINATOR);
            }
            Self::Deaf(_) => way(lab, COORDINATOR, &worker),
            Self::Mute(_) => way(lab, &worker, COORDINATOR),
            Self::Hold(_) if begins => lab.hold(COORDINATOR, &worker),
            Self::Hold(_) => lab.release(COORDINATOR, &worker),
            Self::WorkerDies(_) if begins => lab.crash(&worker),
            Self::WorkerDies(_) => lab.bounce(&worker),
            Self::CoordinatorDies if begins => lab.crash(COORDINATOR),
            Self::CoordinatorDies => lab.bounce(COORDINATOR),
        }
    }
}
