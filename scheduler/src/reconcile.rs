//! Setting what a worker says it has against what is believed here.

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::{BoardId, TaskId, Token, WorkerId};

use crate::{
    AttemptPhase, CANARY, Command, Effects, Held, HeldState, LeaseRef, Order, Scheduler, Step, TaskRow,
    attempt::Attempt,
    boards::owns,
    config::Bug,
    table::Table,
    task::{Charge, lab_error},
    worker::{Holding, Process},
};

impl Scheduler {
    /// After a handshake: whatever the worker does not hold is gone, since older sessions are closed.
    pub(crate) fn reconcile_all(&mut self, fx: &mut Effects, id: &WorkerId, held: &[Held], process: Process) {
        for (attempt, charge) in self.missing(id, held, process == Process::New) {
            let never_began = attempt.phase == AttemptPhase::Offered && process == Process::Same;
            let planted = attempt.recovered && self.config.planted(Bug::ChargeOnRestart);
            if attempt.closed.is_some() || attempt.task == CANARY {
                self.settle(fx, &attempt);
            } else if !planted && (attempt.recovered || never_began || attempt.came_back()) {
                self.reject(fx, &attempt, Step::Rejected, "its worker does not have it");
            } else {
                let charge = if process == Process::Returned { Charge::Nothing } else { charge };
                self.lose(fx, &attempt, charge, lab_error("worker_restarted", "its worker lost it"));
            }
        }
        self.confirm(fx, id, held);
        for attempt in self.attempts.on_worker(id).cloned().collect::<Vec<_>>() {
            if attempt.answer_by.is_some() {
                self.order(fx, id, Order::Cancel { lease: attempt.lease() });
            } else if attempt.recalled && attempt.phase != AttemptPhase::Running {
                self.order(fx, id, Order::Recall { lease: attempt.lease() });
            }
        }
    }

    /// After a heartbeat: what is not held is gone only if the worker has processed its `Start`.
    pub(crate) fn reconcile(&mut self, fx: &mut Effects, id: &WorkerId, held: &[Held], last: Command) {
        for (attempt, charge) in self.missing(id, held, false) {
            if attempt.command.is_some_and(|command| command > last) {
                continue;
            }
            if attempt.closed.is_some() || attempt.task == CANARY {
                self.settle(fx, &attempt);
            } else if attempt.phase == AttemptPhase::Offered || attempt.came_back() {
                self.reject(fx, &attempt, Step::Rejected, "its worker does not have it");
            } else {
                let error = lab_error("attempt_vanished", "its worker took it and has it no longer");
                self.lose(fx, &attempt, charge, error);
            }
        }
        self.confirm(fx, id, held);
    }

    /// What a worker should have and does not, with what the loss of it costs.
    fn missing(&self, id: &WorkerId, held: &[Held], process_died: bool) -> Vec<(Attempt, Charge)> {
        let tokens: BTreeSet<Token> = held.iter().map(|held| held.lease.token).collect();
        let missing = self.attempts.on_worker(id).filter(|attempt| !tokens.contains(&attempt.token));
        missing.map(|attempt| (attempt.clone(), self.charge(attempt, process_died))).collect()
    }

    /// What is held goes on; what should not be is told to stop; boards are as occupied as they are said to be.
    fn confirm(&mut self, fx: &mut Effects, id: &WorkerId, held: &[Held]) {
        let mut strangers: BTreeMap<&BoardId, Vec<&Held>> = BTreeMap::new();
        for held in held {
            let phase = match held.state {
                HeldState::Staged => AttemptPhase::Staged,
                HeldState::Running | HeldState::Outbox => AttemptPhase::Running,
            };
            let open = self.attempts.get(held.lease.token);
            if open
                .is_some_and(|open| open.board == held.lease.board && open.phase >= phase && !open.recovered)
            {
                continue;
            }
            self.advance(fx, id, &held.lease, phase);
            if let Some(open) = self.attempts.get_mut(held.lease.token) {
                open.timed = false;
            }
            let ours = self.attempts.get(held.lease.token).is_some_and(|open| open.board == held.lease.board);
            if held.state != HeldState::Outbox && !ours && owns(id, &held.lease.board) {
                strangers.entry(&held.lease.board).or_default().push(held);
            }
        }
        let Some(worker) = self.workers.get_mut(id) else { return };
        let (mut stop, mut changed): (Vec<LeaseRef>, Vec<BoardId>) = (Vec::new(), Vec::new());
        let mut deaf: Vec<BoardId> = Vec::new();
        for (board_id, board) in &mut worker.boards {
            let here = strangers.remove(board_id).unwrap_or_default();
            if here.is_empty() && board.strangers.is_empty() {
                continue;
            }
            changed.push(board_id.clone());
            let before = std::mem::take(&mut board.strangers);
            for held in here {
                let (token, task) = (held.lease.token, held.lease.task);
                let mut holding = before.get(&token).copied().unwrap_or(Holding {
                    task,
                    state: held.state,
                    since: self.now,
                    told: None,
                    cancelled: None,
                });
                holding.state = held.state;
                let due = holding.cancelled.is_none_or(|at| at.plus(self.config.cancel_resend) <= self.now);
                // A lost attempt may still win, but not hold its board for ever.
                let spared = wanted(&self.tasks, task, token)
                    && holding.since.plus(self.config.deadline_min) > self.now;
                if due && !spared && self.attempts.get(token).is_none() {
                    holding.cancelled = Some(self.now);
                    let told = *holding.told.get_or_insert(self.now);
                    if told.plus(self.config.cancel_answer) <= self.now {
                        holding.told = None;
                        deaf.push(board_id.clone());
                    } else {
                        stop.push(held.lease.clone());
                    }
                }
                board.strangers.insert(token, holding);
            }
        }
        for lease in stop {
            self.order(fx, id, Order::Cancel { lease });
        }
        for board in changed {
            self.refresh_board(id, &board);
        }
        for board in deaf {
            self.restart(fx, id, &board, None);
        }
    }

    /// An attempt that is given up here without a sign that it ended there.
    pub(crate) fn still_there(&mut self, attempt: &Attempt) {
        let (task, state, now) = (attempt.task, HeldState::Running, self.now);
        let holding = Holding { task, state, since: now, told: Some(now), cancelled: Some(now) };
        if let Some(board) = self.board_mut(&attempt.worker, &attempt.board) {
            board.strangers.insert(attempt.token, holding);
        }
    }
}

impl Attempt {
    /// Whether its absence means that it was given back as it was asked.
    fn came_back(&self) -> bool {
        self.recalled && self.phase != AttemptPhase::Running
    }
}

/// Whether a success under this token would still count for the task.
fn wanted(tasks: &Table<TaskId, Box<TaskRow>>, task: TaskId, token: Token) -> bool {
    tasks.get(&task).is_some_and(|row| !row.state().is_terminal() && row.standing.ever_held(token))
}
