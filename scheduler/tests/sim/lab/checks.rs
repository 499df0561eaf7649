//! The promises, checked after every step against what truly happened.

mod idle;

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::{BoardId, ErrorClass, TaskId, TaskState, Token, WorkerId};
use edgeprof_scheduler::{
    BoardRow, BoardView, CANARY, Closed, Effects, LeaseRef, Mark, Order, Outcome, Past, Send, Standing,
    TaskRow, Verdict, Write,
};

use super::{
    disk::Claim,
    life::{Life, LifeId},
    log::{Violation, violation},
    store::Store,
    work::{Nature, Works},
    worker::Worker,
};

/// What truly happened, whatever anybody believes; and what each life has said.
#[derive(Default)]
pub(crate) struct Checks {
    /// Tasks whose submission was acknowledged.
    pub(crate) accepted: BTreeSet<TaskId>,
    /// Tasks whose jobs somebody cancelled.
    pub(crate) cancelled: BTreeSet<TaskId>,
    /// When an offer left first.
    offered: BTreeMap<LeaseRef, u64>,
    /// Attempts that a worker took.
    taken: BTreeSet<LeaseRef>,
    /// Attempts that a board began, with its worker.
    began: BTreeMap<LeaseRef, usize>,
    /// Those whose worker's process has died since; it may have ended them, but told nobody.
    died: BTreeSet<LeaseRef>,
    outcomes: BTreeMap<LeaseRef, Outcome>,
    /// The highest token that each board obeyed.
    obeyed: BTreeMap<BoardId, Token>,
    /// The highest claim that each worker obeyed.
    claims: BTreeMap<usize, Claim>,
    /// Durable results of each worker that nobody acknowledged.
    owed: BTreeMap<usize, BTreeSet<LeaseRef>>,
    /// What each life has handed in.
    said: BTreeMap<LifeId, Said>,
    idle: idle::Idle,
    /// Boards that deserve what an operator would call bad.
    pub(crate) guilty: BTreeSet<BoardId>,
    pub(crate) lost: u64,
    /// Attempts that workers turned away, and of these the ones that were not given back on command.
    pub(crate) rejected: u64,
    pub(crate) refused: u64,
    pub(crate) attempts: u64,
}

/// A life's word so far, committed or not.
#[derive(Default)]
struct Said {
    rows: BTreeMap<TaskId, TaskRow>,
    boards: BTreeMap<BoardId, BoardRow>,
    drained: BTreeSet<WorkerId>,
    ended: BTreeSet<TaskId>,
}

impl Checks {
    /// A life begins with what its store has.
    pub(crate) fn begins(&mut self, life: LifeId, store: &Store, now: u64) {
        let recovered = store.recovered(now);
        let said = Said {
            rows: recovered.tasks.into_iter().map(|row| (row.id, row)).collect(),
            boards: store.boards.clone(),
            drained: store.drained.clone(),
            ended: store.runs.keys().copied().collect(),
        };
        self.said.insert(life, said);
    }

    /// After a step: nothing is given that must not be, and nobody is charged for what he did not do.
    pub(crate) fn step(&mut self, now: u64, life: &Life, fx: &Effects) -> Result<(), Violation> {
        let mut said = self.said.remove(&life.id).unwrap_or_default();
        let checked = self.writes(now, life, fx, &mut said).and_then(|()| self.shape(life, &said, fx));
        self.said.insert(life.id, said);
        checked
    }

    fn writes(&mut self, now: u64, life: &Life, fx: &Effects, said: &mut Said) -> Result<(), Violation> {
        for write in &fx.writes {
            match write {
                Write::PutBoard(row) => {
                    if let Some(Mark::Quarantined { by, reason }) = &row.mark
                        && by == "edgeprof"
                        && !self.guilty.contains(&row.board)
                    {
                        let what = format!("{} is quarantined without a fault: {reason}", row.board);
                        return Err(violation(what, &row.board));
                    }
                    said.boards.insert(row.board.clone(), (**row).clone());
                }
                Write::PutDrained { worker, on: true } => {
                    said.drained.insert(worker.clone());
                }
                Write::PutDrained { worker, on: false } => {
                    said.drained.remove(worker);
                }
                Write::RecordRun { task, lease, verdict, .. } => {
                    said.ended.insert(*task);
                    let row = fx.writes.iter().find_map(|write| match write {
                        Write::PutTask(row) if row.id == *task => Some(row),
                        _ => None,
                    });
                    let Some(row) = row else {
                        return Err(violation(format!("{task} ends without its row"), task));
                    };
                    self.verdict(row, lease.as_ref(), verdict)?;
                }
                _ => {}
            }
        }
        for write in &fx.writes {
            let Write::PutTask(row) = write else { continue };
            self.charges(now, life, said.rows.get(&row.id), row)?;
            said.rows.insert(row.id, (**row).clone());
        }
        Ok(())
    }

    /// A task ends for a reason: what its attempts reported, what became of their workers, or a person's word.
    fn verdict(&self, row: &TaskRow, lease: Option<&LeaseRef>, verdict: &Verdict) -> Result<(), Violation> {
        let past = &row.standing.past;
        let run = |past: &Past| LeaseRef { token: past.token, task: row.id, board: past.board.clone() };
        let outcome = lease.and_then(|lease| self.outcomes.get(lease));
        let reason = match verdict {
            Verdict::Succeeded => outcome == Some(&Outcome::Succeeded),
            Verdict::Cancelled => self.cancelled.contains(&row.id),
            Verdict::Exhausted(_) => past.iter().filter(|past| self.died.contains(&run(past))).count() >= 2,
            Verdict::Failed(_) if row.standing.spent >= 8 => true,
            Verdict::Failed(_) => past.iter().any(|past| {
                let told =
                    matches!(self.outcomes.get(&run(past)), Some(Outcome::Failed(_) | Outcome::Cancelled));
                told || self.guilty.contains(&past.board)
            }),
        };
        if reason {
            Ok(())
        } else {
            let what =
                format!("{} is said to have {verdict:?}, and {outcome:?} was reported: {row:?}", row.id);
            Err(violation(what, &row.id))
        }
    }

    /// A charge has a cause.
    fn charges(
        &mut self,
        now: u64,
        life: &Life,
        before: Option<&TaskRow>,
        row: &TaskRow,
    ) -> Result<(), Violation> {
        let submitted = Standing::fresh(None);
        let (was, is) = (before.map_or(&submitted, |before| &before.standing), &row.standing);
        let deaths = |standing: &Standing| standing.deaths + standing.shared_deaths;
        let fresh = is.past.get(was.past.len()..).unwrap_or_default();
        self.lost += fresh.iter().filter(|past| past.closed == Closed::Lost).count() as u64;
        let run = |past: &Past| LeaseRef { token: past.token, task: row.id, board: past.board.clone() };
        let unanswered = |run: &LeaseRef| self.offered.get(run).is_some_and(|at| at + 15_000 <= now);
        let count = |which: &dyn Fn(&LeaseRef) -> bool| {
            is.past.iter().filter(|past| which(&run(past))).count() as u32
        };
        let wrong = |what: &str| {
            let what = format!("{} is charged for {what} at {}: {row:?} after {before:?}", row.id, life.id);
            Err(violation(what, &row.id))
        };
        if is.spent > was.spent
            && !fresh.iter().any(|past| {
                let run = run(past);
                past.closed == Closed::Failed || self.taken.contains(&run) || unanswered(&run)
            })
        {
            return wrong("an attempt that never began");
        }
        if is.failures > was.failures
            && !is.past.iter().any(|past| {
                matches!(self.outcomes.get(&run(past)), Some(Outcome::Failed(_) | Outcome::Cancelled))
            })
        {
            return wrong("a failure that nobody reported");
        }
        if deaths(is) > deaths(was) && deaths(is) > count(&|run| self.died.contains(run)) {
            return wrong("a death of a process that was not its");
        }
        if is.spent > 8 || is.failures > 3 || is.deaths > 2 || is.shared_deaths > 3 {
            return wrong("more than any task may be");
        }
        Ok(())
    }

    /// What is given goes to boards that may have it.
    fn shape(&mut self, life: &Life, said: &Said, fx: &Effects) -> Result<(), Violation> {
        for send in &fx.sends {
            let Send::Command { to, order, .. } = send else { continue };
            let (lease, canary) = match order {
                Order::Start { lease, .. } => (lease, false),
                Order::Canary { lease } => (lease, true),
                _ => continue,
            };
            if self.offered.contains_key(lease) {
                continue;
            }
            let about = |what: &str| {
                Err(violation(
                    format!("{} gives {} to {} {what}", life.id, lease.task, lease.board),
                    &lease.task,
                )
                .and(&lease.board))
            };
            let kept = said.boards.get(&lease.board);
            if !canary && said.ended.contains(&lease.task) {
                return about("which has ended");
            }
            if kept.is_some_and(|row| row.mark.is_some()) {
                return about("which is set aside");
            }
            if said.drained.contains(&to.worker) && !canary {
                return about("whose worker is drained");
            }
            let has = life.scheduler.boards().find(|board| board.report.id == lease.board);
            let room = |board: &BoardView<'_>| {
                board.waiting + usize::from(board.occupant.is_some()) <= 1 + board.report.queue as usize
            };
            if !has.as_ref().is_some_and(room) {
                return about("which has no room for it");
            }
            let suspected = kept.is_some_and(|row| row.suspicion.is_some());
            if suspected != canary {
                return about(if canary { "which nobody suspects" } else { "which has to prove itself" });
            }
        }
        let tasks = life.scheduler.jobs().flat_map(|(job, _)| life.scheduler.tasks_of(job));
        let mut waiting = 0;
        for task in tasks {
            let state = task.row.state();
            waiting += usize::from(matches!(state, TaskState::Queued | TaskState::Backoff));
            if task.attempt.is_some() != (state == TaskState::Leased) {
                return Err(violation(
                    format!("{} is {state} with {:?}", task.row.id, task.attempt),
                    &task.row.id,
                ));
            }
        }
        if life.scheduler.waiting() != waiting {
            let what = format!("{} counts {} waiting, not {waiting}", life.id, life.scheduler.waiting());
            return Err(violation(what, &life.id));
        }
        Ok(())
    }

    /// Before a command leaves: what justifies it is committed.
    pub(crate) fn leaves(&mut self, now: u64, store: &Store, order: &Order) -> Result<(), Violation> {
        let what = match order {
            Order::Start { lease, .. } | Order::Canary { lease } => {
                if !self.offered.contains_key(lease) {
                    self.offered.insert(lease.clone(), now);
                    self.attempts += 1;
                }
                let committed = store.tokens.get(&lease.board) >= Some(&lease.token);
                let known = lease.task == CANARY || store.submitted.contains_key(&lease.task);
                (!(committed && known)).then_some((lease, "is given before that is durable"))
            }
            Order::Ack { lease, .. } if lease.task != CANARY => {
                let succeeded = self.outcomes.get(lease) == Some(&Outcome::Succeeded);
                (succeeded && !store.settled(lease))
                    .then_some((lease, "is acknowledged before it is durable"))
            }
            _ => None,
        };
        match what {
            None => Ok(()),
            Some((lease, what)) => {
                let what = format!("{} under {} {what}", lease.task, lease.token);
                Err(violation(what, &lease.task).and(&lease.board))
            }
        }
    }

    /// A worker let somebody in. Its fence is the lab's own: that it is as strict as the real one, so that what follows
    /// from it for the scheduler is seen, is what this shows; the real one has tests of its own.
    pub(crate) fn admits(&mut self, index: usize, worker: &Worker, by: Claim) -> Result<(), Violation> {
        if let Some(held) = self.claims.insert(index, by) {
            let stale = held.cluster != by.cluster
                || held.epoch > by.epoch
                || (held.epoch == by.epoch && held.nonce != by.nonce);
            if stale {
                return Err(violation(format!("{} lets {by:?} in after {held:?}", worker.id), &worker.id));
            }
        }
        for LeaseRef { task, token, .. } in self.owed.get(&index).into_iter().flatten() {
            if !worker.disk.outbox.contains_key(&(*task, *token)) {
                let what = format!("{} has forgotten the result of {task} under {token}", worker.id);
                return Err(violation(what, task).and(&worker.id));
            }
        }
        Ok(())
    }

    pub(crate) fn takes(&mut self, lease: &LeaseRef) -> Result<(), Violation> {
        self.taken.insert(lease.clone());
        let before = self.obeyed.insert(lease.board.clone(), lease.token);
        if before >= Some(lease.token) {
            let what = format!("{} takes {} after {before:?}", lease.board, lease.token);
            return Err(violation(what, &lease.board).and(&lease.task));
        }
        Ok(())
    }

    /// A board begins an attempt.
    pub(crate) fn begins_on(
        &mut self,
        (index, worker): (usize, &Worker),
        lease: &LeaseRef,
    ) -> Result<(), Violation> {
        self.began.insert(lease.clone(), index);
        let board = worker.boards.iter().find(|board| board.id == lease.board);
        let running = board.map_or(0, |board| {
            board.held().filter(|h| h.state == edgeprof_scheduler::HeldState::Running).count()
        });
        if running == 1 {
            Ok(())
        } else {
            Err(violation(format!("{running} attempts run on {}", lease.board), &lease.board))
        }
    }

    /// An attempt ended on its worker.
    pub(crate) fn ends(&mut self, lease: &LeaseRef, outcome: &Outcome) {
        let infrastructure =
            matches!(outcome, Outcome::Failed(error) if error.class == ErrorClass::Infrastructure);
        if infrastructure && lease.task == CANARY {
            self.guilty.insert(lease.board.clone());
        }
        self.outcomes.insert(lease.clone(), outcome.clone());
    }

    /// A worker's process is gone, with what ran on it.
    pub(crate) fn dies(&mut self, index: usize, worker: &Worker, now: u64) {
        self.died.extend(self.began.iter().filter(|(_, on)| **on == index).map(|(run, _)| run.clone()));
        let durable = worker.disk.durable(now).cloned();
        self.owed.entry(index).or_default().extend(durable);
    }

    /// A worker's disk is an older one: whatever it had seen since, it does not know.
    pub(crate) fn restored(&mut self, index: usize, worker: &Worker) {
        self.owed.remove(&index);
        match worker.disk.claim {
            Some(claim) => self.claims.insert(index, claim),
            None => self.claims.remove(&index),
        };
        for board in &worker.boards {
            self.obeyed.remove(&board.id);
        }
    }

    /// A worker was told that a result is durable elsewhere.
    pub(crate) fn acknowledged(
        &mut self,
        index: usize,
        store: &Store,
        lease: &LeaseRef,
    ) -> Result<(), Violation> {
        if let Some(owed) = self.owed.get_mut(&index) {
            owed.remove(lease);
        }
        let outcome = self.outcomes.get(lease);
        if lease.task != CANARY && outcome == Some(&Outcome::Succeeded) && !store.settled(lease) {
            let what = format!("the result of {} under {} is lost", lease.task, lease.token);
            return Err(violation(what, &lease.task));
        }
        Ok(())
    }

    /// A worker stays away for good: nobody waits for what it owes.
    pub(crate) fn gone(&mut self, index: usize) {
        self.owed.remove(&index);
    }

    /// At the end: nothing accepted is missing, everything ended as it must, nothing is owed.
    /// Where nobody had a fault, nothing is given up and nothing turned away either.
    pub(crate) fn finally(&self, store: &Store, works: &Works, harmless: bool) -> Result<(), Violation> {
        if harmless && self.lost + self.refused > 0 {
            let what =
                format!("{} attempts are lost, {} turned away without a fault", self.lost, self.refused);
            return Err(Violation::new(&what, []));
        }
        for id in &self.accepted {
            let Some((row, work)) = store.tasks.get(id).zip(works.get(id)) else { continue };
            if !store.runs.contains_key(id) {
                return Err(violation(format!("{id} ended without a record: {row:?}"), id));
            }
            let never = matches!(
                work.nature,
                Nature::Wrong | Nature::Crasher | Nature::Hangs | Nature::Deaf | Nature::Deadly
            );
            let state = row.state();
            if (never && state == TaskState::Succeeded) || (harmless && state != TaskState::Succeeded) {
                return Err(violation(format!("{id}, which is {:?}, {state}: {row:?}", work.nature), id));
            }
        }
        let owed = self.owed.iter().find_map(|(worker, owed)| owed.first().map(|lease| (worker, lease.task)));
        match owed {
            None => Ok(()),
            Some((_, task)) => Err(violation(format!("a durable result of {task} was never taken"), &task)),
        }
    }
}
