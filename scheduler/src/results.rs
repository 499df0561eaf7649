//! Results: recorded once, acknowledged always.

use edgeprof_common::{ErrorClass, TaskError};

use crate::{
    CANARY, Closed, Command, Effects, LeaseRef, Order, Outcome, Past, Peer, Scheduler, Send, Step, Verdict,
    Write,
    attempt::Attempt,
    placement::{Seen, mean, span},
    task::{Charge, lab_error},
};

impl Scheduler {
    pub(crate) fn result(&mut self, fx: &mut Effects, from: &Peer, lease: LeaseRef, outcome: Outcome) {
        let open = self.attempts.get(lease.token).filter(|attempt| attempt.task == lease.task).cloned();
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

    /// The open attempt of a task that goes on ended.
    fn ended(&mut self, fx: &mut Effects, attempt: &Attempt, outcome: Outcome) {
        match outcome {
            Outcome::Succeeded => {
                if let Some(row) = self.tasks.get_mut(&attempt.task) {
                    row.past.push(Past {
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

    /// Time that an attempt has had its board, in µs; none if it has not started.
    pub(crate) fn board_time(&self, attempt: &Attempt) -> Option<u64> {
        let known = self.workers.get(&attempt.worker).and_then(|worker| worker.boards.get(&attempt.board));
        let started = attempt.started_at?;
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

    /// What the loss of an attempt costs its task: only what was in work is charged, and nothing that was leased
    /// in an earlier life and not heard of since.
    pub(crate) fn charge(&self, attempt: &Attempt, proven: bool) -> Charge {
        let innocent = attempt.recovered && !self.config.planted(crate::config::Bug::ChargeOnRestart);
        match attempt.phase {
            _ if innocent || attempt.recalled && attempt.phase != crate::AttemptPhase::Running => {
                Charge::Nothing
            }
            crate::AttemptPhase::Running if proven => Charge::Death,
            _ if self.attempts.in_work(attempt) => Charge::Attempt,
            _ => Charge::Nothing,
        }
    }
}
