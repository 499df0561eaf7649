//! Setting what a worker says it has against what is believed here.

use std::collections::BTreeMap;

use edgeprof_common::{TaskId, Token, WorkerId};

use crate::{
    AttemptPhase, BoardReport, Command, Effects, Held, HeldState, LeaseRef, Notice, Order, Scheduler,
    TaskRow,
    attempt::Attempt,
    task::{Charge, deadline, lab_error},
    worker::{Board, Holding, Process},
};

impl Scheduler {
    /// After a handshake: whatever the worker does not hold is gone, since older sessions are closed.
    pub(crate) fn reconcile_all(&mut self, fx: &mut Effects, id: &WorkerId, held: &[Held], process: Process) {
        for attempt in self.missing(id, held) {
            let never_began = attempt.phase == AttemptPhase::Offered;
            if attempt.closed.is_some() {
                self.settle(fx, &attempt);
            } else if attempt.recovered || (never_began && process == Process::Same) {
                self.reject(fx, &attempt);
            } else {
                let charge = match (process, attempt.phase) {
                    (Process::Returned, _) => Charge::Nothing,
                    (Process::New, AttemptPhase::Running) => Charge::Death,
                    _ => Charge::Attempt,
                };
                self.lose(fx, &attempt, charge, lab_error("worker_restarted", "its worker lost it"));
            }
        }
        self.confirm(fx, id, held);
        for attempt in self.attempts.on_worker(id).cloned().collect::<Vec<_>>() {
            if attempt.answer_by.is_some() {
                self.order(fx, id, Order::Cancel { lease: attempt.lease() });
            }
        }
    }

    /// After a heartbeat: what is not held is gone only if the worker has processed its `Start`.
    pub(crate) fn reconcile(&mut self, fx: &mut Effects, id: &WorkerId, held: &[Held], last: Command) {
        for attempt in self.missing(id, held) {
            if attempt.command.is_some_and(|command| command > last) {
                continue;
            }
            if attempt.closed.is_some() {
                self.settle(fx, &attempt);
            } else if attempt.phase == AttemptPhase::Offered {
                self.reject(fx, &attempt);
            } else {
                let error = lab_error("attempt_vanished", "its worker took it and has it no longer");
                self.lose(fx, &attempt, Charge::Attempt, error);
            }
        }
        self.confirm(fx, id, held);
    }

    fn missing(&self, id: &WorkerId, held: &[Held]) -> Vec<Attempt> {
        let holds = |attempt: &&Attempt| held.iter().any(|held| held.lease.token == attempt.token);
        self.attempts.on_worker(id).filter(|attempt| !holds(attempt)).cloned().collect()
    }

    /// What is held goes on; what should not be is told to stop; boards are as occupied as they are said to be.
    fn confirm(&mut self, fx: &mut Effects, id: &WorkerId, held: &[Held]) {
        for held in held {
            let phase = match held.state {
                HeldState::Staged => AttemptPhase::Staged,
                HeldState::Running | HeldState::Outbox => AttemptPhase::Running,
            };
            self.advance(fx, id, &held.lease, phase);
        }
        let Some(worker) = self.workers.get_mut(id) else { return };
        let mut stop: Vec<LeaseRef> = Vec::new();
        for (board_id, board) in &mut worker.boards {
            let before = std::mem::take(&mut board.held);
            let here = held.iter().filter(|held| held.state != HeldState::Outbox);
            for held in here.filter(|held| held.lease.board == *board_id) {
                let token = held.lease.token;
                let mut holding = before.get(&token).copied().unwrap_or(Holding {
                    task: held.lease.task,
                    state: held.state,
                    since: self.now,
                    cancelled: None,
                });
                holding.state = held.state;
                let due = holding.cancelled.is_none_or(|at| at.plus(self.config.cancel_resend) <= self.now);
                // A lost attempt may still win, but not hold its board for ever.
                let until = wanted(&self.tasks, held.lease.task, token)
                    .map(|row| deadline(holding.since, &self.config, row));
                if due && self.attempts.get(token).is_none() && until.is_none_or(|until| until <= self.now) {
                    holding.cancelled = Some(self.now);
                    stop.push(held.lease.clone());
                }
                board.held.insert(token, holding);
            }
            let free =
                board.held.is_empty() && board.report.idle && self.attempts.on_board(board_id).is_none();
            if board.condemned && free {
                board.condemned = false;
                fx.notices.push(Notice::Board { board: board_id.clone(), health: Some(board.health()) });
            }
        }
        for lease in stop {
            self.order(fx, id, Order::Cancel { lease });
        }
        self.refresh(id);
    }

    /// Takes in what a worker says of its boards; `whole` means that boards not named are gone.
    pub(crate) fn report_boards(
        &mut self,
        fx: &mut Effects,
        id: &WorkerId,
        reports: Vec<BoardReport>,
        whole: bool,
    ) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let mut before = BTreeMap::new();
        if whole {
            before = std::mem::take(&mut worker.boards);
        }
        for report in reports {
            let rest = report.id.as_str().strip_prefix(id.as_str());
            if !rest.is_some_and(|rest| rest.starts_with('/')) {
                continue;
            }
            let key = report.id.clone();
            let known = before.remove(&key).or_else(|| worker.boards.remove(&key));
            let health = known.as_ref().map(Board::health);
            let board = match known {
                Some(board) => Board { report, ..board },
                None => Board::new(report),
            };
            if health != Some(board.health()) {
                fx.notices.push(Notice::Board { board: key.clone(), health: Some(board.health()) });
            }
            worker.boards.insert(key, board);
        }
        for (board, _) in before {
            fx.notices.push(Notice::Board { board, health: None });
        }
    }

    /// A board did not answer a cancel.
    pub(crate) fn condemn(&mut self, fx: &mut Effects, attempt: &Attempt) {
        let boards = self.workers.get_mut(&attempt.worker).map(|worker| &mut worker.boards);
        let Some(board) = boards.and_then(|boards| boards.get_mut(&attempt.board)) else { return };
        board.condemned = true;
        fx.notices.push(Notice::Board { board: attempt.board.clone(), health: Some(board.health()) });
        self.refresh(&attempt.worker);
    }
}

/// The task, if a success under this token would still count.
fn wanted(tasks: &BTreeMap<TaskId, TaskRow>, task: TaskId, token: Token) -> Option<&TaskRow> {
    tasks.get(&task).filter(|row| !row.state().is_terminal() && row.ever_held(token))
}
