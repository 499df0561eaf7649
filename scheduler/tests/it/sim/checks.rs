//! The promises, checked after every step.

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::{BoardId, Epoch, TaskId, TaskState, Token};
use edgeprof_scheduler::{LeaseRef, NewTask, Order, Outcome, Scheduler, TaskRow};

use super::{
    coordinator::Store,
    worker::{Nature, SimWorker},
};

/// Seconds for which a board may be idle though a task waits that it could run.
const IDLE_SECONDS: u32 = 5;

#[derive(Default)]
pub(crate) struct Checks {
    /// Tasks whose submission was acknowledged.
    pub(crate) accepted: BTreeSet<TaskId>,
    sent: BTreeSet<Token>,
    highest: BTreeMap<BoardId, Token>,
    idle: BTreeMap<BoardId, u32>,
    tick: Option<(Epoch, u64)>,
}

impl Checks {
    /// Whether a tick at this time is news.
    pub(crate) fn tick_wanted(&mut self, epoch: Epoch, at: u64, now: u64) -> bool {
        if let Some((of, planned)) = self.tick
            && of == epoch
            && planned > now
            && planned <= at
        {
            return false;
        }
        self.tick = Some((epoch, at));
        true
    }

    /// After every step: what the scheduler says of itself hangs together.
    pub(crate) fn step(&mut self, scheduler: &Scheduler) {
        let (mut waiting, mut shy, mut queued) = (0, false, Vec::new());
        for task in scheduler.jobs().flat_map(|(job, _)| scheduler.tasks_of(job)) {
            let row = task.row;
            waiting += usize::from(matches!(row.state(), TaskState::Queued | TaskState::Backoff));
            assert_eq!(task.attempt.is_some(), row.state() == TaskState::Leased, "{row:?}");
            assert!(row.spent <= 8 && row.failures <= 3 && row.deaths <= 2, "{row:?}");
            shy |= row.deaths > 0 && !row.state().is_terminal();
            if row.state() == TaskState::Queued && row.image.is_some() {
                queued.push(row);
            }
        }
        assert_eq!(scheduler.waiting(), waiting);
        // A task that must be alone may keep boards from others.
        let occupants = scheduler.boards().filter_map(|board| scheduler.task(board.occupant?.task));
        if shy || occupants.into_iter().any(|task| task.row.deaths > 0) {
            return;
        }
        for board in scheduler.boards().filter(|board| board.free) {
            let waits = queued.iter().find(|row| able(row, &board.report.id, &board.report.kind));
            assert!(waits.is_none(), "{} is free and {waits:?} waits", board.report.id);
        }
    }

    /// Before a command leaves: what justifies it is committed, and tokens only rise.
    pub(crate) fn leaves(&mut self, store: &Store, order: &Order) {
        let Order::Start { lease, .. } = order else { return };
        assert!(store.tasks[&lease.task].ever_held(lease.token), "{lease:?} leaves uncommitted");
        assert!(store.tokens[&lease.board] >= lease.token);
        if self.sent.insert(lease.token) {
            let before = self.highest.insert(lease.board.clone(), lease.token);
            assert!(before < Some(lease.token), "{:?} after {before:?}", lease.token);
        }
    }

    /// When an acknowledgement arrives: what it was for is durable.
    pub(crate) fn acknowledged(&self, store: &Store, lease: &LeaseRef, outcome: Option<&Outcome>) {
        if outcome == Some(&Outcome::Succeeded) {
            let ended = store.tasks.get(&lease.task).is_some_and(|row| row.state().is_terminal());
            assert!(ended || store.aside.contains(lease), "a result was lost: {lease:?}");
        }
    }

    /// Once faults are over: no board idles while a task waits that it could run.
    pub(crate) fn sample(&mut self, scheduler: &Scheduler, workers: &[&SimWorker]) {
        let tasks = || scheduler.jobs().flat_map(|(job, _)| scheduler.tasks_of(job)).map(|task| task.row);
        let shy = tasks().any(|row| row.deaths > 0 && !row.state().is_terminal());
        let queued: Vec<_> =
            tasks().filter(|row| row.state() == TaskState::Queued && row.image.is_some()).collect();
        for board in workers.iter().flat_map(|worker| &worker.boards) {
            let wanted = queued.iter().any(|row| able(row, &board.id, board.kind));
            let idle = board.job.is_none() && !board.resetting;
            let seconds = self.idle.entry(board.id.clone()).or_default();
            *seconds = if idle && wanted && !shy { *seconds + 1 } else { 0 };
            assert!(*seconds < IDLE_SECONDS, "{} idles while work waits", board.id);
        }
    }

    /// At the end: nothing accepted is missing, and everything ended as it must.
    pub(crate) fn finally(
        &self,
        store: &Store,
        tasks: &BTreeMap<TaskId, NewTask>,
        natures: &BTreeMap<TaskId, Nature>,
    ) {
        assert_eq!(self.accepted.len(), tasks.len());
        for id in &self.accepted {
            let row = &store.tasks[id];
            assert!(store.runs.contains_key(id), "{row:?} ended without a record");
            let may_succeed = matches!(natures[id], Nature::Good | Nature::Flaky);
            assert!(may_succeed || row.state() != TaskState::Succeeded, "{:?} {row:?}", natures[id]);
        }
    }
}

fn able(row: &TaskRow, board: &BoardId, kind: &str) -> bool {
    row.requirement.meets(board, kind, &BTreeMap::new())
}
