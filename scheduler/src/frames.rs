//! The attempt machine: what a worker's frames and the passing of time do to an attempt.

use edgeprof_common::{BoardId, Token, WorkerId};

use crate::{
    AttemptPhase, CANARY, CloseReason, Effects, Frame, LeaseRef, Notice, Now, Peer, RejectReason, Scheduler,
    Step,
    alarms::Alarm,
    attempt::Attempt,
    placement::{mean, span},
    task::{Charge, lab_error},
    worker::Board,
};

impl Scheduler {
    pub(crate) fn frame(&mut self, fx: &mut Effects, from: &Peer, frame: Frame) {
        let current =
            self.workers.get(&from.worker).is_some_and(|worker| worker.session == Some(from.session));
        // A result is true whatever session it comes by; everything else is settled by the newer handshake.
        if !current {
            if let Frame::Result { lease, outcome } = frame {
                self.result(fx, from, lease, outcome);
            }
            return;
        }
        self.heard(fx, &from.worker, matches!(frame, Frame::Heartbeat { .. }));
        match frame {
            Frame::Heard => {}
            Frame::Heartbeat { boards, held, last_command, draining } => {
                self.report_boards(fx, &from.worker, &boards, true);
                self.reconcile(fx, &from.worker, &held, last_command);
                self.stopping(fx, &from.worker, draining);
            }
            Frame::Board(report) => self.report_boards(fx, &from.worker, &[report], false),
            Frame::Accepted(lease) => self.advance(fx, &from.worker, &lease, AttemptPhase::Staged),
            Frame::Started(lease) => self.advance(fx, &from.worker, &lease, AttemptPhase::Running),
            Frame::Rejected { lease, reason, message } => self.rejected(fx, from, &lease, reason, message),
            Frame::Progress { lease, phase, done, total } => {
                self.progress(fx, &from.worker, &lease, phase, done, total);
            }
            Frame::Result { lease, outcome } => {
                self.vacate(from, &lease);
                self.result(fx, from, lease, outcome);
            }
        }
    }

    /// The open attempt that a worker's frame is about, if the worker holds it.
    fn attempt_of(&self, worker: &WorkerId, lease: &LeaseRef) -> Option<&Attempt> {
        let attempt = self.attempts.get(lease.token)?;
        (attempt.worker == *worker && attempt.lease() == *lease).then_some(attempt)
    }

    pub(crate) fn board_mut(&mut self, worker: &WorkerId, board: &BoardId) -> Option<&mut Board> {
        self.workers.get_mut(worker)?.boards.get_mut(board)
    }

    /// A phase never goes back.
    pub(crate) fn advance(
        &mut self,
        fx: &mut Effects,
        worker: &WorkerId,
        lease: &LeaseRef,
        phase: AttemptPhase,
    ) {
        let Some(token) = self.attempt_of(worker, lease).map(|attempt| attempt.token) else { return };
        let Some(attempt) = self.attempts.get_mut(token) else { return };
        attempt.recovered = false;
        if attempt.phase >= phase {
            return;
        }
        let before = std::mem::replace(&mut attempt.phase, phase);
        let (task, number, board) = (attempt.task, attempt.number, attempt.board.clone());
        attempt.resend_at = None;
        if before == AttemptPhase::Offered && attempt.resends == 0 && attempt.timed {
            let took = span(self.now.0 - attempt.leased_at.0);
            if let Some(worker) = self.workers.get_mut(worker) {
                worker.refill = Some(mean(worker.refill, took));
            }
        }
        if phase == AttemptPhase::Running {
            self.began(token);
        }
        self.time_in_work(token);
        self.refresh_board(worker, &board);
        let (word, step) = match phase {
            AttemptPhase::Running => ("started", Step::Started),
            AttemptPhase::Offered | AttemptPhase::Staged => ("accepted", Step::Accepted),
        };
        let Some(job) = self.tasks.get(&task).map(|row| row.job) else { return };
        self.story(fx, task, Some((number, &board)), step, None);
        fx.notices.push(Notice::Attempt { task, job, board, phase: word.into(), done: 0, total: 0 });
    }

    /// A board runs an attempt now.
    fn began(&mut self, token: Token) {
        let Some(attempt) = self.attempts.get_mut(token) else { return };
        attempt.started_at = Some(self.now);
        let (worker, board, image) = (attempt.worker.clone(), attempt.board.clone(), attempt.image);
        if let Some(shape) = attempt.waits_as.take() {
            self.queue.unstage(shape, token);
        }
        let known = self.workers.get_mut(&worker).and_then(|worker| worker.boards.get_mut(&board));
        if let Some(known) = known {
            if known.loaded != image {
                let free = known.ended_at.map_or(attempt.leased_at, |ended| ended.max(attempt.leased_at));
                attempt.load = Some(span(self.now.0 - free.0));
            }
            known.loaded = image;
        }
        self.moved.remove(&attempt.task);
        self.attempts.began(token, self.now);
        self.called_for(token);
    }

    /// The clock of an attempt runs while it is in work; what waits behind it has time.
    pub(crate) fn time_in_work(&mut self, token: Token) {
        let Some(attempt) = self.attempts.get(token) else { return };
        let accepted = attempt.phase != AttemptPhase::Offered;
        let limit = match attempt.task {
            CANARY => self.config.canary_deadline,
            _ => self.limit(attempt.expected),
        };
        let begins = accepted && attempt.deadline.is_none() && self.attempts.in_work(attempt);
        let Some(attempt) = self.attempts.get_mut(token) else { return };
        if begins && attempt.closed.is_none() {
            attempt.deadline = Some(self.now.plus(limit));
        }
        self.alarms.set(Alarm::Attempt(token), attempt.alarm());
    }

    /// How long an attempt may take of which this many µs are expected.
    pub(crate) fn limit(&self, expected: Option<u64>) -> std::time::Duration {
        let long = expected.unwrap_or(0).saturating_mul(self.config.deadline_factor.into());
        self.config.deadline_min.max(std::time::Duration::from_micros(long))
    }

    fn progress(
        &mut self,
        fx: &mut Effects,
        worker: &WorkerId,
        lease: &LeaseRef,
        phase: String,
        done: u64,
        total: u64,
    ) {
        self.advance(fx, worker, lease, AttemptPhase::Staged);
        let Some(attempt) = self.attempt_of(worker, lease).filter(|attempt| attempt.closed.is_none()) else {
            return;
        };
        let Some(row) = self.tasks.get(&attempt.task) else { return };
        let (task, job, board) = (attempt.task, row.job, attempt.board.clone());
        fx.notices.push(Notice::Attempt { task, job, board, phase, done, total });
    }

    fn rejected(
        &mut self,
        fx: &mut Effects,
        from: &Peer,
        lease: &LeaseRef,
        reason: RejectReason,
        message: String,
    ) {
        let Some(attempt) = self.attempt_of(&from.worker, lease).cloned() else { return };
        if attempt.phase == AttemptPhase::Running && reason != RejectReason::Draining {
            return;
        }
        match reason {
            RejectReason::UnknownBoard => self.board_gone(fx, &from.worker, &attempt.board),
            RejectReason::Recalled => {}
            // Until the worker says otherwise: the board's next credit.
            _ => {
                if let Some(board) = self.board_mut(&from.worker, &attempt.board) {
                    board.report.idle = false;
                    board.full = true;
                }
            }
        }
        let unfit = reason == RejectReason::BadRequest;
        if attempt.task == CANARY {
            self.settle(fx, &attempt);
            if unfit {
                self.no_canary(fx, &attempt.board);
            }
        } else if attempt.closed.is_some() {
            self.settle(fx, &attempt);
        } else if unfit {
            self.fail(fx, &attempt, lab_error("bad_request", message));
        } else {
            let step = if reason == RejectReason::Recalled { Step::Recalled } else { Step::Rejected };
            self.reject(fx, &attempt, step, &message);
        }
    }

    /// A result frees its board at once, so that the next lease can share its commit.
    fn vacate(&mut self, from: &Peer, lease: &LeaseRef) {
        let ours = self.attempts.first_on(&lease.board).is_some_and(|first| first.token == lease.token);
        let Some(board) = self.board_mut(&from.worker, &lease.board) else { return };
        if board.strangers.remove(&lease.token).is_some() || ours {
            board.report.idle = true;
            board.full = false;
            self.refresh_board(&from.worker, &lease.board);
        }
    }

    pub(crate) fn attempt_alarm(&mut self, fx: &mut Effects, token: Token) {
        let Some(mut attempt) = self.attempts.get(token).cloned() else { return };
        let due = |at: Option<Now>| at.is_some_and(|at| at <= self.now);
        if attempt.answer_by.is_some() {
            return self.unanswered(fx, &attempt);
        }
        if due(attempt.deadline) {
            let number = attempt.number;
            self.story(fx, attempt.task, Some((number, &attempt.board)), Step::Overdue, None);
            return self.stop(fx, token);
        }
        if self.workers.get(&attempt.worker).is_none_or(|worker| worker.session.is_none()) {
            // The next handshake or the worker's death decides.
            attempt.resend_at = None;
        } else if attempt.resends >= self.config.offer_resends {
            let error = lab_error("offer_unanswered", "its worker did not answer the offer");
            if attempt.task == CANARY {
                self.settle(fx, &attempt);
            } else {
                self.lose(fx, &attempt, Charge::Attempt, error);
            }
            return self.close(fx, &attempt.worker, CloseReason::Unresponsive);
        } else {
            self.order(fx, &attempt.worker, attempt.offer());
            attempt.resends += 1;
            attempt.resend_at = Some(self.now.plus(self.config.offer_resend));
        }
        self.alarms.set(Alarm::Attempt(token), attempt.alarm());
        if let Some(kept) = self.attempts.get_mut(token) {
            (kept.resends, kept.resend_at) = (attempt.resends, attempt.resend_at);
        }
    }

    /// An attempt that did not answer a cancel.
    pub(crate) fn give_up(&mut self, fx: &mut Effects, attempt: &Attempt) {
        if attempt.closed.is_some() {
            self.settle(fx, attempt);
        } else {
            let error = lab_error("deadline", "ran past its deadline and did not answer a cancel");
            let charge = if attempt.returns { Charge::Nothing } else { Charge::Attempt };
            self.lose(fx, attempt, charge, error);
        }
    }
}
