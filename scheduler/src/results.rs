//! Results: recorded once, acknowledged always.

use edgeprof_common::{ErrorClass, TaskError};

use crate::{
    AttemptPhase, CANARY, Closed, Command, Effects, LeaseRef, Order, Outcome, Past, Peer, Scheduler, Send,
    Step, Verdict, Write,
    attempt::Attempt,
    config::Bug,
    placement::{Seen, mean, span},
    task::{Charge, lab_error},
};

impl Scheduler {
    pub(crate) fn result(&mut self, fx: &mut Effects, from: &Peer, lease: LeaseRef, outcome: Outcome) {
        // Lives of two copies of a store may have given one token to two boards.
        let open = self.attempts.get(lease.token).filter(|attempt| attempt.lease() == lease).cloned();
        if lease.task == CANARY {
            let news = open.is_some();
            if let Some(attempt) = open {
                self.judge(fx, &attempt, &outcome);
            }
            return self.ack(fx, from, lease, !news);
        }
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
            self.ended(fx, &attempt, outcome);
            return self.ack(fx, from, lease, false);
        }
        if !row.standing.ever_held(lease.token) {
            fx.writes.push(Write::SetAside { worker: from.worker.clone(), lease: lease.clone() });
            return self.ack(fx, from, lease, true);
        }
        let older = outcome == Outcome::Succeeded;
        if older {
            let here = |past: &&mut Past| past.token == lease.token && past.board == lease.board;
            let past = row.standing.past.iter_mut().find(here);
            let attempt = past.map_or(row.standing.attempt, |past| {
                past.closed = Closed::Succeeded;
                past.attempt
            });
            self.finish(fx, lease.task, Verdict::Succeeded, Some((attempt, lease.clone())));
        }
        self.ack(fx, from, lease, !older);
    }

    /// The open attempt of a task that goes on ended.
    fn ended(&mut self, fx: &mut Effects, attempt: &Attempt, outcome: Outcome) {
        match outcome {
            Outcome::Succeeded => {
                if let Some(row) = self.tasks.get_mut(&attempt.task) {
                    row.standing.past.push(Past {
                        attempt: attempt.number,
                        token: attempt.token,
                        board: attempt.board.clone(),
                        closed: Closed::Succeeded,
                    });
                }
                self.learn(fx, attempt);
                self.settle(fx, attempt);
                self.finish(fx, attempt.task, Verdict::Succeeded, Some((attempt.number, attempt.lease())));
            }
            Outcome::Failed(_) | Outcome::Cancelled if attempt.returns => {
                self.reject(fx, attempt, Step::Recalled, "its worker drains");
            }
            Outcome::Failed(error) => self.failed_there(fx, attempt, error),
            Outcome::Cancelled if attempt.answer_by.is_some() => {
                let error = lab_error("deadline", "ran past its deadline and was stopped");
                self.failed_there(fx, attempt, error);
            }
            Outcome::Cancelled => {
                self.fail(fx, attempt, lab_error("stopped", "stopped by its worker"));
            }
        }
    }

    /// A failure that may be the board's fault makes it prove itself.
    fn failed_there(&mut self, fx: &mut Effects, attempt: &Attempt, error: TaskError) {
        let reason = format!("failed {}: {}", attempt.task, error.message);
        let board_may_be_at_fault = error.class == ErrorClass::Infrastructure;
        self.fail(fx, attempt, error);
        if board_may_be_at_fault {
            self.suspect(fx, &attempt.board, reason, Some(attempt.task));
        }
    }

    /// Time that an attempt has had its board, in µs; none if it has not started, or nobody knows when.
    pub(crate) fn board_time(&self, attempt: &Attempt) -> Option<u64> {
        let known = self.workers.get(&attempt.worker).and_then(|worker| worker.boards.get(&attempt.board));
        let started = attempt.started_at.filter(|_| attempt.timed)?;
        // A board's next attempt may be called started before the result of the one before it is in.
        let from = known.and_then(|board| board.ended_at).map_or(started, |ended| ended.max(started));
        Some(span(self.now.0 - from.0))
    }

    fn learn(&mut self, fx: &mut Effects, attempt: &Attempt) {
        let (Some(run), Some(image)) = (self.board_time(attempt), attempt.image) else { return };
        let Some(class) = self.boards.class_of(&attempt.board) else { return };
        let work = self.tasks.get(&attempt.task).map_or(1, |row| row.work);
        let seen = Seen { image, kind: &class.kind, work, run, load: attempt.load };
        if let Some(estimate) = self.estimates.learn(&seen) {
            fx.writes.push(Write::PutEstimate(estimate));
        }
        if let Some(board) = self.board_mut(&attempt.worker, &attempt.board) {
            board.run = Some(mean(board.run, run));
        }
    }

    fn ack(&mut self, fx: &mut Effects, to: &Peer, lease: LeaseRef, duplicate: bool) {
        let worker = self.workers.get_mut(&to.worker);
        let command = worker.map_or(Command(0), crate::worker::Worker::next_command);
        fx.sends.push(Send::Command { to: to.clone(), command, order: Order::Ack { lease, duplicate } });
    }

    /// What the loss of an attempt with its worker costs its task: only what had started is charged, and nothing that
    /// was leased in an earlier life and not heard of since. An offer that a living worker does not answer is charged
    /// too, where it is given up.
    pub(crate) fn charge(&self, attempt: &Attempt, proven: bool) -> Charge {
        let planted = attempt.recovered && self.config.planted(Bug::ChargeOnRestart);
        match attempt.phase {
            _ if planted => Charge::Attempt,
            AttemptPhase::Running if attempt.recovered => Charge::Nothing,
            AttemptPhase::Running if proven && self.has_company(attempt) => Charge::SharedDeath,
            AttemptPhase::Running if proven => Charge::Death,
            AttemptPhase::Running => Charge::Attempt,
            AttemptPhase::Offered | AttemptPhase::Staged => Charge::Nothing,
        }
    }

    /// Whether its worker runs something else too.
    fn has_company(&self, attempt: &Attempt) -> bool {
        let others = self.attempts.on_worker(&attempt.worker).filter(|other| other.token != attempt.token);
        others.into_iter().any(|other| other.phase == AttemptPhase::Running)
    }
}
