//! Giving leases: the queue's order meets what is free.

use std::collections::BTreeSet;

use edgeprof_common::{AttemptNo, BoardId, TaskId, Token, WorkerId};

use crate::{
    AttemptPhase, Closed, Effects, Lease, LeaseRef, Order, Phase, Scheduler, Write, alarms::Alarm,
    attempt::Attempt, placement, queue::Shape,
};

impl Scheduler {
    /// Leases until no first task of any shape finds a board.
    pub(crate) fn dispatch(&mut self, fx: &mut Effects) {
        if !std::mem::take(&mut self.dirty) || self.queue.is_empty() || self.free.is_empty() {
            return;
        }
        let mut reserved: Option<WorkerId> = None;
        let mut heads = self.queue.heads();
        while let Some((rank, shape)) = heads.pop_first() {
            match self.pick(rank.task, &shape, reserved.as_ref()) {
                Some(board) => {
                    self.lease(fx, rank.task, board);
                    if let Some(next) = self.queue.head(&shape) {
                        heads.insert(next, shape);
                    }
                }
                // A worker is kept from new work until it is empty, or the task would starve.
                None if shape.alone && reserved.is_none() => reserved = self.emptiest(&shape),
                None => {}
            }
            if self.free.is_empty() {
                return;
            }
        }
    }

    fn pick(&self, task: TaskId, shape: &Shape, reserved: Option<&WorkerId>) -> Option<(WorkerId, BoardId)> {
        let row = self.tasks.get(&task)?;
        let tried = row.past.iter().filter(|past| matches!(past.closed, Closed::Failed | Closed::Lost));
        let tried: BTreeSet<&BoardId> = tried.map(|past| &past.board).collect();
        let workers = self.free.iter().filter(|(worker, _)| reserved != Some(*worker));
        let boards =
            workers.filter(|(worker, _)| self.shares(worker, shape.alone)).filter_map(|(id, free)| {
                let worker = self.workers.get(id)?;
                let reports = free.iter().filter_map(|board| worker.boards.get(board));
                placement::choose(shape, &tried, reports.map(|board| &board.report))
            });
        let board = placement::choose(shape, &tried, boards)?.id.clone();
        let (worker, _) = self.free.iter().find(|(_, free)| free.contains(&board))?;
        Some((worker.clone(), board))
    }

    /// Whether a worker may take one more task: one that must be alone needs it empty, and shares it with
    /// none.
    fn shares(&self, id: &WorkerId, alone: bool) -> bool {
        if alone {
            return self.occupied(id) == 0;
        }
        let deadly = |task| self.tasks.get(&task).is_some_and(|row| row.deaths > 0);
        !self.attempts.on_worker(id).any(|attempt| deadly(attempt.task))
    }

    fn occupied(&self, id: &WorkerId) -> usize {
        let boards = self.workers.get(id).into_iter().flat_map(|worker| &worker.boards);
        let occupied = |(board, state): &(&BoardId, &crate::worker::Board)| {
            !state.held.is_empty() || self.attempts.on_board(board).is_some()
        };
        boards.filter(occupied).count()
    }

    /// The worker on which a task that must be alone will soonest be: the one with fewest occupied boards.
    fn emptiest(&self, shape: &Shape) -> Option<WorkerId> {
        let fits = |id: &WorkerId, worker: &crate::worker::Worker| {
            let taken = |board| self.attempts.on_board(board).is_some();
            worker.usable()
                && worker.boards.iter().any(|(board, state)| {
                    placement::able(shape, &state.report)
                        && (state.vacant() || !state.held.is_empty() || taken(board))
                })
                && self.occupied(id) > 0
        };
        let candidates = self.workers.iter().filter(|(id, worker)| fits(id, worker));
        candidates.map(|(id, _)| id).min_by_key(|id| self.occupied(id)).cloned()
    }

    fn lease(&mut self, fx: &mut Effects, id: TaskId, (worker, board): (WorkerId, BoardId)) {
        self.leave(id);
        let Some(row) = self.tasks.get_mut(&id) else { return };
        row.attempt = AttemptNo(row.attempt.0 + 1);
        let number = row.attempt;
        self.counter += 1;
        let token = Token { epoch: self.epoch, counter: self.counter };
        self.tokens.insert(board.clone(), token);
        fx.writes.push(Write::PutLastToken { board: board.clone(), token });
        let lease = Lease { token, worker: worker.clone(), board: board.clone() };
        self.enter(fx, id, Phase::Leased(lease), Some(board.clone()));
        let start =
            Order::Start { lease: LeaseRef { token, task: id, board: board.clone() }, attempt: number };
        let command = self.order(fx, &worker, start);
        let resend_at = self.now.plus(self.config.offer_resend);
        self.attempts.insert(Attempt {
            task: id,
            token,
            number,
            worker: worker.clone(),
            board,
            phase: AttemptPhase::Offered,
            recovered: false,
            command,
            resends: 0,
            resend_at: Some(resend_at),
            deadline: None,
            answer_by: None,
            closed: None,
        });
        self.alarms.set(Alarm::Attempt(token), Some(resend_at));
        self.refresh(&worker);
    }
}
