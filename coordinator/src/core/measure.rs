//! What the loop measures: it counts as it goes, and once a second leaves a picture of what is present, which
//! whoever wants metrics looks at. Nothing of that makes the loop wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use edgeprof_common::{BoardHealth, BoardId, Priority, TaskId, TaskState};
use edgeprof_scheduler::{Backlog, BoardView, Mark, Step};
use edgeprof_service::telemetry::metrics::{Counter, Histogram, Label, is_on, observe, table};
use tokio::{sync::watch, time::Instant};

use super::Core;

/// When what an open task waits for began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    runnable: Option<Instant>,
    offered: Option<Instant>,
    started: Option<Instant>,
}

/// What is present.
#[derive(Debug, Default)]
struct Picture {
    /// Also of what nothing waits for: that is a figure, too.
    backlog: Vec<Backlog>,
    /// By kind and state.
    boards: BTreeMap<(String, &'static str), usize>,
    /// By health.
    workers: BTreeMap<String, usize>,
    /// Of each worker: its name, φ, and for how long it was silent.
    suspicion: Vec<(String, f64, f64)>,
    sessions: usize,
}

/// The loop's instruments.
#[derive(Debug)]
pub(super) struct Meters {
    queue_wait: Histogram,
    dispatch: Histogram,
    attempts: Counter,
    attempt_duration: Histogram,
    leases_lost: Counter,
    jobs: Counter,
    heartbeats: Counter,
    picture: watch::Sender<Arc<Picture>>,
}

impl Meters {
    pub(super) fn new() -> Self {
        let (picture, seen) = watch::channel(Arc::default());
        watch_pictures(&seen);
        Self {
            queue_wait: Histogram::new(&table::QUEUE_WAIT),
            dispatch: Histogram::new(&table::DISPATCH),
            attempts: Counter::new(&table::ATTEMPTS),
            attempt_duration: Histogram::new(&table::ATTEMPT_DURATION),
            leases_lost: Counter::new(&table::LEASES_LOST),
            jobs: Counter::new(&table::JOBS),
            heartbeats: Counter::new(&table::HEARTBEATS),
            picture,
        }
    }

    pub(super) fn heartbeat(&self) {
        self.heartbeats.one(&[]);
    }

    pub(super) fn job_ended(&self, state: &str) {
        self.jobs.one(&[("state", state)]);
    }
}

/// Tells the values of a picture, each with its labels.
type Each = fn(&Picture, &mut dyn FnMut(f64, &[Label<'_>]));

/// Whoever asks gets the last picture.
fn watch_pictures(seen: &watch::Receiver<Arc<Picture>>) {
    let look = |of, each: Each| {
        let seen = seen.clone();
        observe(of, move |observer| {
            let picture = seen.borrow().clone();
            each(&picture, &mut |value, labels| observer.is(value, labels));
        });
    };
    look(&table::QUEUE_DEPTH, |picture, is| {
        for Backlog { class, kind, depth, .. } in &picture.backlog {
            is(*depth as f64, &[("class", class.as_str()), ("kind", kind)]);
        }
    });
    look(&table::QUEUE_AGE, |picture, is| {
        for Backlog { class, kind, age, .. } in &picture.backlog {
            is(age.as_secs_f64(), &[("class", class.as_str()), ("kind", kind)]);
        }
    });
    look(&table::BOARDS, |picture, is| {
        for ((kind, state), n) in &picture.boards {
            is(*n as f64, &[("kind", kind), ("state", state)]);
        }
    });
    look(&table::BOARD_UTILIZATION, |picture, is| {
        for (kind, share) in utilization(&picture.boards) {
            is(share, &[("kind", kind)]);
        }
    });
    look(&table::WORKERS, |picture, is| {
        for (health, n) in &picture.workers {
            is(*n as f64, &[("health", health)]);
        }
    });
    look(&table::PHI, |picture, is| {
        for (worker, phi, _) in &picture.suspicion {
            is(*phi, &[("worker", worker)]);
        }
    });
    look(&table::SILENCE, |picture, is| {
        for (worker, _, silence) in &picture.suspicion {
            is(*silence, &[("worker", worker)]);
        }
    });
    look(&table::SESSIONS, |picture, is| is(picture.sessions as f64, &[]));
}

/// The busy share of the boards of each kind that can be used.
fn utilization<'a>(boards: &'a BTreeMap<(String, &'static str), usize>) -> BTreeMap<&'a str, f64> {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for ((kind, state), n) in boards {
        let (busy, usable) = kinds.entry(kind).or_default();
        *busy += if *state == "busy" { *n } else { 0 };
        *usable += if matches!(*state, "busy" | "idle") { *n } else { 0 };
    }
    kinds.retain(|_, (_, usable)| *usable > 0);
    kinds.into_iter().map(|(kind, (busy, usable))| (kind, busy as f64 / usable as f64)).collect()
}

/// Adds the classes in which nothing waits for a kind of board that is there.
fn fill(picture: &mut Picture) {
    let kinds: BTreeSet<_> = picture.boards.keys().map(|(kind, _)| kind.clone()).collect();
    for kind in kinds {
        for &class in Priority::ALL {
            let known = |one: &Backlog| one.class == class && one.kind == kind;
            if !picture.backlog.iter().any(known) {
                picture.backlog.push(Backlog { class, kind: kind.clone(), depth: 0, age: Duration::ZERO });
            }
        }
    }
}

fn state(board: &BoardView<'_>) -> &'static str {
    let kept = board.kept;
    match kept.and_then(|kept| kept.mark.as_ref()) {
        Some(Mark::Quarantined { .. }) => "quarantined",
        Some(Mark::Reserved { .. }) => "reserved",
        None if kept.is_some_and(|kept| kept.suspicion.is_some()) => "suspected",
        None if board.health != BoardHealth::Good => "unavailable",
        None if board.occupant.is_some() => "busy",
        None => "idle",
    }
}

impl Core {
    /// Leaves a picture, if anybody looks.
    pub(super) fn picture(&self) {
        if !is_on() {
            return;
        }
        let mut picture = Picture { backlog: self.scheduler.backlog(), ..Picture::default() };
        for board in self.scheduler.boards() {
            let key = (board.report.kind.clone(), state(&board));
            *picture.boards.entry(key).or_default() += 1;
        }
        for worker in self.scheduler.workers() {
            *picture.workers.entry(worker.health.to_string()).or_default() += 1;
            let silent = worker.silent_for.unwrap_or_default().as_secs_f64();
            if let Some(phi) = self.scheduler.suspicion(worker.id) {
                picture.suspicion.push((worker.id.to_string(), phi, silent));
            }
        }
        fill(&mut picture);
        picture.sessions = self.sessions.len();
        self.meters.picture.send_replace(Arc::new(picture));
    }

    /// A task that comes back to the queue waits for a board from now on.
    pub(super) fn clock_task(&mut self, task: TaskId, state: TaskState) {
        if is_on()
            && state == TaskState::Queued
            && let Some(open) = self.open.get_mut(&task)
        {
            open.clocks.runnable = Some(Instant::now());
        }
    }

    /// Measures what a step of a task's story ends.
    pub(super) fn measure(&mut self, task: TaskId, board: Option<&BoardId>, what: Step) {
        if !is_on() {
            return;
        }
        let Some(def) = self.defs.get(&task).cloned() else { return };
        let trace = self.submission(&def);
        let kind =
            board.and_then(|board| self.boards.get(board)).map_or("", |board| board.report.kind.as_str());
        let Some(open) = self.open.get_mut(&task) else { return };
        let (now, clocks, meters) = (Instant::now(), &mut open.clocks, &self.meters);
        let outcome = what.as_str();
        match what {
            Step::Prepared => clocks.runnable = Some(now),
            Step::Offered => {
                let class = self.jobs.get(&def.job).map_or("", |job| job.row.spec.priority.as_str());
                if let Some(since) = clocks.runnable.take() {
                    meters.queue_wait.took(now - since, &[("class", class)], trace.as_ref());
                }
                (clocks.offered, clocks.started) = (Some(now), None);
            }
            Step::Accepted => {
                if let Some(since) = clocks.offered.take() {
                    meters.dispatch.took(now - since, &[], trace.as_ref());
                }
            }
            Step::Started => clocks.started = Some(now),
            // An attempt that had failed is no second time.
            Step::Ended | Step::Submitted | Step::Backoff | Step::Judged => {}
            Step::Cancelled if board.is_none() => {}
            Step::Rejected
            | Step::Recalled
            | Step::Lost
            | Step::Failed
            | Step::Cancelled
            | Step::Overdue
            | Step::Succeeded => {
                let labels = [("kind", kind), ("outcome", outcome)];
                meters.attempts.one(&labels);
                if what == Step::Lost {
                    meters.leases_lost.one(&[("kind", kind)]);
                }
                if let Some(since) = clocks.started.take() {
                    meters.attempt_duration.took(now - since, &labels, trace.as_ref());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_is_a_figure() {
        let boards = [(("a".to_owned(), "idle"), 1), (("a".to_owned(), "busy"), 1)].into();
        let waits =
            Backlog { class: Priority::High, kind: "a".into(), depth: 2, age: Duration::from_secs(1) };
        let mut picture = Picture { boards, backlog: vec![waits], ..Picture::default() };
        fill(&mut picture);
        let depth = |class| {
            let mut found = picture.backlog.iter().filter(|one| one.class == class);
            (found.next().map(|one| one.depth), found.count())
        };
        assert_eq!(depth(Priority::High), (Some(2), 0));
        assert_eq!(depth(Priority::Low), (Some(0), 0));
    }

    #[test]
    fn boards_that_cannot_be_used_are_no_part_of_the_share() {
        let n = |kind: &str, state, n| ((kind.to_owned(), state), n);
        let boards = [n("a", "busy", 3), n("a", "idle", 1), n("a", "quarantined", 9), n("b", "reserved", 1)];
        assert_eq!(utilization(&boards.into()), [("a", 0.75)].into());
    }
}
