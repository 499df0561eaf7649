//! The attempt machine: what a worker's frames and the passing of time do to an attempt.

use edgeprof_common::Token;

use crate::{
    AttemptPhase, CloseReason, Closed, Command, Effects, Frame, LeaseRef, Notice, Order, Outcome, Peer,
    RejectReason, Scheduler, Send, Verdict, Write,
    alarms::Alarm,
    attempt::Attempt,
    task::{Charge, deadline, lab_error},
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
            Frame::Heartbeat { boards, held, last_command, draining: _ } => {
                self.report_boards(fx, &from.worker, boards, true);
                self.reconcile(fx, &from.worker, &held, last_command);
            }
            Frame::Board(report) => {
                self.report_boards(fx, &from.worker, vec![report], false);
                self.refresh(&from.worker);
            }
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
    fn attempt_of(&self, worker: &edgeprof_common::WorkerId, lease: &LeaseRef) -> Option<&Attempt> {
        let attempt = self.attempts.get(lease.token)?;
        (attempt.task == lease.task && attempt.worker == *worker).then_some(attempt)
    }

    /// An accepted attempt's clock runs; a phase never goes back.
    pub(crate) fn advance(
        &mut self,
        fx: &mut Effects,
        worker: &edgeprof_common::WorkerId,
        lease: &LeaseRef,
        phase: AttemptPhase,
    ) {
        let Some(token) = self.attempt_of(worker, lease).map(|attempt| attempt.token) else { return };
        let Some(attempt) = self.attempts.get_mut(token) else { return };
        attempt.recovered = false;
        if attempt.phase >= phase {
            return;
        }
        attempt.phase = phase;
        let Some(row) = self.tasks.get(&attempt.task) else { return };
        if attempt.closed.is_none() {
            attempt.resend_at = None;
            let at = attempt.deadline.unwrap_or_else(|| deadline(self.now, &self.config, row));
            attempt.deadline = Some(at);
        }
        let word = if phase == AttemptPhase::Running { "started" } else { "accepted" };
        self.alarms.set(Alarm::Attempt(token), attempt.alarm());
        fx.notices.push(Notice::Attempt {
            task: attempt.task,
            job: row.job,
            board: attempt.board.clone(),
            phase: word.into(),
            done: 0,
            total: 0,
        });
    }

    fn progress(
        &mut self,
        fx: &mut Effects,
        worker: &edgeprof_common::WorkerId,
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
        if attempt.phase != AttemptPhase::Offered {
            return;
        }
        if let Some(worker) = self.workers.get_mut(&from.worker) {
            match reason {
                RejectReason::UnknownBoard => {
                    worker.boards.remove(&attempt.board);
                }
                _ => {
                    // Until the worker says otherwise: the board's next credit.
                    if let Some(board) = worker.boards.get_mut(&attempt.board) {
                        board.report.idle = false;
                    }
                }
            }
        }
        if attempt.closed.is_some() {
            self.settle(fx, &attempt);
        } else if reason == RejectReason::BadRequest {
            self.fail(fx, &attempt, lab_error("bad_request", message));
        } else {
            self.reject(fx, &attempt);
        }
    }

    /// A result frees its board at once, so that the next lease can share its commit.
    fn vacate(&mut self, from: &Peer, lease: &LeaseRef) {
        let Some(worker) = self.workers.get_mut(&from.worker) else { return };
        let Some(board) = worker.boards.get_mut(&lease.board) else { return };
        let held = board.held.remove(&lease.token).is_some();
        let ours = self.attempts.on_board(&lease.board).is_some_and(|attempt| attempt.token == lease.token);
        if held || ours {
            board.report.idle = true;
            self.refresh(&from.worker);
        }
    }

    fn result(&mut self, fx: &mut Effects, from: &Peer, lease: LeaseRef, outcome: Outcome) {
        let open = self.attempts.get(lease.token).filter(|attempt| attempt.task == lease.task).cloned();
        let Some(row) = self.tasks.get_mut(&lease.task) else {
            fx.writes.push(Write::SetAside { worker: from.worker.clone(), lease: lease.clone() });
            return self.ack(fx, from, lease, true);
        };
        if row.state().is_terminal() {
            if let Some(attempt) = open {
                self.settle(fx, &attempt);
            }
            return self.ack(fx, from, lease, true);
        }
        if let Some(attempt) = open {
            match outcome {
                Outcome::Succeeded => {
                    row.past.push(crate::Past {
                        attempt: attempt.number,
                        token: attempt.token,
                        board: attempt.board.clone(),
                        closed: Closed::Succeeded,
                    });
                    self.settle(fx, &attempt);
                    let by = Some((attempt.number, attempt.lease()));
                    self.finish(fx, attempt.task, Verdict::Succeeded, by);
                }
                Outcome::Failed(error) => self.fail(fx, &attempt, error),
                Outcome::Cancelled if attempt.answer_by.is_some() => {
                    self.fail(fx, &attempt, lab_error("deadline", "ran past its deadline and was stopped"));
                }
                Outcome::Cancelled => {
                    self.fail(fx, &attempt, lab_error("stopped", "stopped by its worker"));
                }
            }
            return self.ack(fx, from, lease, false);
        }
        let Some(past) = row.past.iter_mut().find(|past| past.token == lease.token) else {
            fx.writes.push(Write::SetAside { worker: from.worker.clone(), lease: lease.clone() });
            return self.ack(fx, from, lease, true);
        };
        let older = outcome == Outcome::Succeeded;
        if older {
            past.closed = Closed::Succeeded;
            let by = LeaseRef { token: past.token, task: lease.task, board: past.board.clone() };
            let by = Some((past.attempt, by));
            self.finish(fx, lease.task, Verdict::Succeeded, by);
        }
        self.ack(fx, from, lease, !older);
    }

    fn ack(&mut self, fx: &mut Effects, to: &Peer, lease: LeaseRef, duplicate: bool) {
        let worker = self.workers.get_mut(&to.worker);
        let command = worker.map_or(Command(0), crate::worker::Worker::next_command);
        fx.sends.push(Send::Command { to: to.clone(), command, order: Order::Ack { lease, duplicate } });
    }

    pub(crate) fn attempt_alarm(&mut self, fx: &mut Effects, token: Token) {
        let Some(mut attempt) = self.attempts.get(token).cloned() else { return };
        let due = |at: Option<crate::Now>| at.is_some_and(|at| at <= self.now);
        if attempt.answer_by.is_some() {
            return self.unanswered(fx, &attempt);
        }
        if due(attempt.deadline) {
            self.order(fx, &attempt.worker, Order::Cancel { lease: attempt.lease() });
            attempt.answer_by = Some(self.now.plus(self.config.cancel_answer));
        } else if self.workers.get(&attempt.worker).is_none_or(|worker| worker.session.is_none()) {
            // The next handshake or the worker's death decides.
            attempt.resend_at = None;
        } else if attempt.resends >= self.config.offer_resends {
            let error = lab_error("offer_unanswered", "its worker did not answer the offer");
            self.lose(fx, &attempt, Charge::Attempt, error);
            return self.close(fx, &attempt.worker, CloseReason::Unresponsive);
        } else {
            let start = Order::Start { lease: attempt.lease(), attempt: attempt.number };
            self.order(fx, &attempt.worker, start);
            attempt.resends += 1;
            attempt.resend_at = Some(self.now.plus(self.config.offer_resend));
        }
        self.alarms.set(Alarm::Attempt(token), attempt.alarm());
        if let Some(kept) = self.attempts.get_mut(token) {
            *kept = attempt;
        }
    }

    /// A cancel got no answer: the attempt is given up, and its board is not trusted.
    fn unanswered(&mut self, fx: &mut Effects, attempt: &Attempt) {
        self.condemn(fx, attempt);
        if attempt.closed.is_some() {
            self.settle(fx, attempt);
        } else {
            let error = lab_error("deadline", "ran past its deadline and did not answer a cancel");
            self.lose(fx, attempt, Charge::Attempt, error);
        }
    }
}
