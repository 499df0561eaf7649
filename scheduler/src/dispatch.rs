//! Giving leases: the queue's order meets what has room.

use std::collections::BTreeSet;

use edgeprof_common::{AttemptNo, BoardId, TaskId, Token, WorkerId};

use crate::{
    AttemptPhase, CANARY, Closed, Effects, Lease, Phase, Scheduler, Step, TaskRow, Write,
    alarms::Alarm,
    attempt::Attempt,
    config::Bug,
    placement::{Candidate, Chooser},
};

/// Board time that a task is charged for when nothing is known, in µs.
const UNKNOWN: u64 = 1_000_000;

impl Scheduler {
    /// Leases until nothing that waits finds room.
    pub(crate) fn dispatch(&mut self, fx: &mut Effects) {
        self.run_canaries(fx);
        self.place_alone(fx);
        while let Some(task) = {
            let boards = &self.boards;
            self.queue.next(|spot| boards.room_at(spot))
        } {
            let Some(board) = self.choose(task) else { break };
            self.lease(fx, task, &board);
        }
        // What outranked a task that must be alone may have its boards now.
        self.place_alone(fx);
        self.call_for_idle(fx);
    }

    fn choose(&self, task: TaskId) -> Option<BoardId> {
        let row = self.tasks.get(&task)?;
        let (shape, spots) = self.queue.needs(task)?;
        self.chooser().choose(&Candidate {
            image: shape.image.digest,
            work: row.work,
            tried: tried(row),
            spots,
        })
    }

    pub(crate) fn chooser(&self) -> Chooser<'_> {
        Chooser {
            boards: &self.boards,
            estimates: &self.estimates,
            config: &self.config,
            now: self.now,
            last: self.last_leased.as_ref().and_then(|board| self.boards.site(board)).map(|site| site.place),
        }
    }

    pub(crate) fn lease(&mut self, fx: &mut Effects, id: TaskId, board: &BoardId) {
        let (Some(site), Some(class)) = (self.boards.site(board), self.boards.class_of(board)) else {
            return;
        };
        let Some(row) = self.tasks.get_mut(&id) else { return };
        let Some(image) = row.standing.image.as_ref().map(|image| image.digest) else { return };
        let worker = site.worker.clone();
        let expected = self.estimates.expected(&image, &class.kind, row.work);
        let run = expected.map(|expected| expected.run);
        let load = expected.map_or(0, |expected| expected.load);
        let load = if site.state.image == Some(image) { 0 } else { load };
        let cost = run.or(self.estimates.usual()).unwrap_or(UNKNOWN);
        let alone = row.standing.alone();
        row.standing.attempt = AttemptNo(row.standing.attempt.0.saturating_add(1));
        let number = row.standing.attempt;

        let token = self.next_token(fx, board);
        let behind = self.attempts.line(board).is_some();
        let waits_as = if behind { self.queue.stage(id, token) } else { None };
        let charged = self.queue.serve(id, cost);
        self.leave(id);
        let lease = Lease { token, worker: worker.clone(), board: board.clone() };
        self.enter(fx, id, Phase::Leased(lease), Some(board.clone()));
        self.last_leased = Some(board.clone());
        self.story(fx, id, Some((number, board)), Step::Offered, Some(format!("token {token}")));
        self.offer(
            fx,
            Attempt {
                number,
                alone,
                image: Some(image),
                expected: run.map(|run| run.saturating_add(load)),
                charged,
                waits_as,
                ..self.attempt(id, token, &worker, board)
            },
        );
    }

    /// An attempt that was neither offered nor heard of.
    pub(crate) fn attempt(&self, task: TaskId, token: Token, worker: &WorkerId, board: &BoardId) -> Attempt {
        Attempt {
            task,
            token,
            number: AttemptNo(1),
            worker: worker.clone(),
            board: board.clone(),
            phase: AttemptPhase::Offered,
            recovered: false,
            alone: false,
            image: None,
            leased_at: self.now,
            started_at: None,
            timed: true,
            expected: None,
            load: None,
            charged: None,
            waits_as: None,
            command: None,
            resends: 0,
            resend_at: None,
            deadline: None,
            recalled: false,
            returns: false,
            answer_by: None,
            closed: None,
        }
    }

    /// A right that no attempt had before.
    pub(crate) fn next_token(&mut self, fx: &mut Effects, board: &BoardId) -> Token {
        if self.config.planted(Bug::TokenAgain)
            && let Some(last) = self.tokens.get(board).filter(|last| self.attempts.get(**last).is_none())
        {
            fx.writes.push(Write::PutLastToken { board: board.clone(), token: *last });
            return *last;
        }
        self.counter += 1;
        let token = Token { epoch: self.epoch, counter: self.counter };
        self.tokens.insert(board.clone(), token);
        fx.writes.push(Write::PutLastToken { board: board.clone(), token });
        token
    }

    /// Sends an attempt's first offer.
    pub(crate) fn offer(&mut self, fx: &mut Effects, mut attempt: Attempt) {
        let (worker, board, token) = (attempt.worker.clone(), attempt.board.clone(), attempt.token);
        attempt.command = self.order(fx, &worker, attempt.offer());
        attempt.resend_at = Some(self.now.plus(self.config.offer_resend));
        self.alarms.set(Alarm::Attempt(token), attempt.resend_at);
        let alone = attempt.alone;
        self.attempts.insert(attempt);
        if alone {
            self.refresh(&worker);
        } else {
            self.refresh_board(&worker, &board);
        }
    }

    /// Runs the canary on suspected boards that are idle now.
    fn run_canaries(&mut self, fx: &mut Effects) {
        for board in std::mem::take(&mut self.suspects) {
            let worker = self.boards.site(&board).map(|site| site.worker.clone());
            let Some(worker) = worker.filter(|_| self.awaits_canary(&board)) else { continue };
            let token = self.next_token(fx, &board);
            let attempt = self.attempt(CANARY, token, &worker, &board);
            self.offer(fx, attempt);
        }
    }
}

/// Boards on which a task failed or was lost.
pub(crate) fn tried(row: &TaskRow) -> BTreeSet<&BoardId> {
    let tried = row.standing.past.iter().filter(|past| matches!(past.closed, Closed::Failed | Closed::Lost));
    tried.map(|past| &past.board).collect()
}
