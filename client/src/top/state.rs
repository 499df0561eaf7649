//! What `top` knows, and what keys do to it. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use edgeprof_client::{BoardStatus, Job, WorkerStatus};

/// Rates that are shown beside each other.
pub(super) const HISTORY: usize = 60;

/// A look at the cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) workers: Vec<WorkerStatus>,
    pub(super) boards: Vec<BoardStatus>,
    /// Newest first.
    pub(super) jobs: Vec<Job>,
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    /// The terminal has another size.
    Redraw,
}

/// Tasks of open jobs, of one priority class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) jobs: u64,
    pub(super) tasks: u64,
}

/// Why there is no newer picture, and how old the last one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) why: String,
    pub(super) old: Duration,
}

/// The state.
#[derive(Debug)]
pub(super) struct Top {
    pub(super) address: String,
    pub(super) picture: Picture,
    /// The first board that is shown.
    pub(super) first: usize,
    /// When the picture was taken in.
    seen: Option<Instant>,
    pub(super) trouble: Option<Trouble>,
    /// Tasks that ended in a second, newest last.
    pub(super) rates: VecDeque<f64>,
    /// When tasks were counted last, and how many of each job had ended.
    counted: Option<(Instant, BTreeMap<String, u32>)>,
}

impl Top {
    pub(super) fn new(address: String) -> Self {
        let (rates, counted) = (VecDeque::new(), None);
        Self { address, picture: Picture::default(), first: 0, seen: None, trouble: None, rates, counted }
    }

    /// Takes in a look.
    pub(super) fn see(&mut self, mut picture: Picture, now: Instant) {
        picture.boards.sort_by(|a, b| a.id.cmp(&b.id));
        picture.workers.sort_by(|a, b| a.id.cmp(&b.id));
        let done: BTreeMap<_, _> =
            picture.jobs.iter().map(|job| (job.job_id.clone(), job.tasks_done)).collect();
        if let Some((then, before)) = &self.counted {
            let span = now.duration_since(*then).max(Duration::from_millis(1));
            // A job that has left the list since has done nothing that is known.
            let grown = |(job, done): (&String, &u32)| {
                u64::from(done.saturating_sub(before.get(job).copied().unwrap_or_default()))
            };
            let ended: u64 = done.iter().map(grown).sum();
            if self.rates.len() == HISTORY {
                self.rates.pop_front();
            }
            self.rates.push_back(ended as f64 / span.as_secs_f64());
        }
        self.counted = Some((now, done));
        (self.picture, self.seen, self.trouble) = (picture, Some(now), None);
        self.scroll(0);
    }

    /// Keeps the old picture, and says why.
    pub(super) fn trouble(&mut self, why: String, now: Instant) {
        let old = self.seen.map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        self.trouble = Some(Trouble { why, old });
        // What comes after a pause is no rate of a second.
        self.counted = None;
    }

    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Up => self.scroll(-1),
            Key::Down => self.scroll(1),
            Key::PageUp => self.scroll(-10),
            Key::PageDown => self.scroll(10),
            Key::First => self.first = 0,
            Key::Quit | Key::Redraw => {}
        }
    }

    fn scroll(&mut self, by: isize) {
        let last = self.picture.boards.len().saturating_sub(1);
        self.first = self.first.saturating_add_signed(by).min(last);
    }

    /// Tasks that have not ended, by class; the highest first.
    pub(super) fn waiting(&self) -> Vec<(String, Waiting)> {
        let mut classes: BTreeMap<usize, (String, Waiting)> = BTreeMap::new();
        for job in self.picture.jobs.iter().filter(|job| matches!(&*job.state, "open" | "cancelling")) {
            let rank = ["critical", "high", "normal", "low"].iter().position(|class| *class == job.priority);
            let entry = classes.entry(rank.unwrap_or(usize::MAX));
            let (_, waiting) = entry.or_insert_with(|| (job.priority.clone(), Waiting::default()));
            waiting.jobs += 1;
            waiting.tasks += u64::from(job.tasks_total.saturating_sub(job.tasks_done));
        }
        classes.into_values().collect()
    }

    /// Boards that have an attempt, and those that are good.
    pub(super) fn busy(&self) -> (usize, usize) {
        let boards = &self.picture.boards;
        let good = boards.iter().filter(|board| board.health == "good" && board.mark.is_none());
        (boards.iter().filter(|board| board.task_id.is_some()).count(), good.count())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::top) fn job(id: &str, priority: &str, done: u32) -> Job {
        let (job_id, priority, state) = (id.to_owned(), priority.to_owned(), "open".to_owned());
        Job { job_id, priority, state, tasks_done: done, tasks_total: 10, ..Job::default() }
    }

    pub(in crate::top) fn board(id: &str, task: Option<&str>) -> BoardStatus {
        let worker = id.split('/').next().unwrap_or_default().to_owned();
        let task_id = task.map(str::to_owned);
        BoardStatus {
            id: id.to_owned(),
            worker,
            kind: "riscv32".into(),
            health: "good".into(),
            task_id,
            ..BoardStatus::default()
        }
    }

    fn jobs(jobs: Vec<Job>) -> Picture {
        Picture { jobs, ..Picture::default() }
    }

    #[test]
    fn a_rate_is_what_ended_between_two_looks_and_none_is_made_up_after_a_pause() {
        let (mut top, start) = (Top::new("a".into()), Instant::now());
        top.see(jobs(vec![job("j1", "normal", 3)]), start);
        assert!(top.rates.is_empty(), "one look tells no rate");
        top.see(jobs(vec![job("j2", "high", 1), job("j1", "normal", 6)]), start + Duration::from_secs(2));
        assert_eq!(top.rates, [2.0]);
        top.trouble("gone".into(), start + Duration::from_secs(12));
        let old = Duration::from_secs(10);
        assert_eq!(top.trouble, Some(Trouble { why: "gone".into(), old }));
        top.see(jobs(vec![job("j1", "normal", 9)]), start + Duration::from_secs(60));
        assert_eq!((top.rates.len(), &top.trouble), (1, &None));
        for second in 61..200 {
            top.see(jobs(vec![]), start + Duration::from_secs(second));
        }
        assert_eq!(top.rates.len(), HISTORY);
    }

    #[test]
    fn what_waits_is_shown_by_class_the_highest_first() {
        let mut top = Top::new("a".into());
        let mut ended = job("j4", "critical", 10);
        ended.state = "succeeded".into();
        top.see(
            jobs(vec![job("j1", "low", 4), job("j2", "high", 0), job("j3", "low", 1), ended]),
            Instant::now(),
        );
        let waiting = |jobs, tasks| Waiting { jobs, tasks };
        assert_eq!(top.waiting(), [("high".to_owned(), waiting(1, 10)), ("low".to_owned(), waiting(2, 15))]);
    }

    #[test]
    fn scrolling_stays_within_the_boards_and_they_may_become_fewer() {
        let mut top = Top::new("a".into());
        let boards = |n: usize| Picture {
            boards: (0..n).map(|i| board(&format!("w/{i}"), None)).collect(),
            ..Picture::default()
        };
        top.press(Key::Down);
        assert_eq!(top.first, 0);
        top.see(boards(5), Instant::now());
        top.press(Key::PageDown);
        assert_eq!(top.first, 4);
        top.press(Key::Up);
        assert_eq!(top.first, 3);
        top.see(boards(2), Instant::now());
        assert_eq!(top.first, 1);
        top.press(Key::First);
        top.press(Key::Up);
        assert_eq!(top.first, 0);
    }
}
