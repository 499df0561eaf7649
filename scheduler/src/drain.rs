//! Taking a worker out of service: what waits comes back, what runs may end, and nothing is charged.

use edgeprof_common::{BoardId, Token, WorkerId};

use crate::{
    AttemptPhase, CANARY, Effects, Notice, Order, Scheduler, Write, alarms::Alarm, attempt::Attempt,
    worker::Drain,
};

impl Scheduler {
    /// An operator's word, which outlives everything.
    pub(crate) fn drain(&mut self, fx: &mut Effects, id: WorkerId, on: bool) {
        let news = if on { self.drained.insert(id.clone()) } else { self.drained.remove(&id) };
        if news {
            self.see_drain(fx, &id);
            fx.writes.push(Write::PutDrained { worker: id, on });
        }
    }

    /// A worker's own word, for this session.
    pub(crate) fn stopping(&mut self, fx: &mut Effects, id: &WorkerId, on: bool) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.stopping = on;
        }
        self.see_drain(fx, id);
    }

    /// Begins or ends a drain as the two words want it.
    fn see_drain(&mut self, fx: &mut Effects, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let wanted = worker.stopping || self.drained.contains(id);
        if wanted == worker.drain.is_some() {
            return;
        }
        let before = worker.health();
        worker.drain = wanted.then(|| Drain { stop_at: Some(self.now.plus(self.config.drain_grace)) });
        self.alarms.set(Alarm::Worker(id.clone()), worker.alarm(&self.config));
        let health = worker.health();
        if health != before {
            let reason = if wanted { "draining" } else { "back in service" };
            fx.notices.push(Notice::Worker { worker: id.clone(), health, reason: reason.into() });
        }
        if wanted {
            let waits: Vec<_> = self.attempts.on_worker(id).map(|attempt| attempt.token).collect();
            for token in waits {
                self.recall(fx, token);
            }
        }
        self.refresh(id);
    }

    /// What still runs on a drained worker has had its time.
    pub(crate) fn drain_over(&mut self, fx: &mut Effects, id: &WorkerId) {
        if let Some(drain) = self.workers.get_mut(id).and_then(|worker| worker.drain.as_mut()) {
            drain.stop_at = None;
        }
        let open = |attempt: &&Attempt| attempt.closed.is_none() && attempt.answer_by.is_none();
        let open: Vec<_> = self.attempts.on_worker(id).filter(open).map(|attempt| attempt.token).collect();
        for token in open {
            if let Some(attempt) = self.attempts.get_mut(token) {
                attempt.returns = true;
            }
            self.stop(fx, token);
        }
    }

    /// Asks for an attempt back unless it has started. A canary ends by itself.
    pub(crate) fn recall(&mut self, fx: &mut Effects, token: Token) {
        let Some(attempt) = self.attempts.get_mut(token) else { return };
        let waits = attempt.phase != AttemptPhase::Running
            && attempt.task != CANARY
            && attempt.closed.is_none()
            && attempt.answer_by.is_none();
        if waits && !attempt.recalled {
            attempt.recalled = true;
            let (worker, lease) = (attempt.worker.clone(), attempt.lease());
            self.order(fx, &worker, Order::Recall { lease });
        }
    }

    /// Asks for everything on a board back that has not started.
    pub(crate) fn recall_board(&mut self, fx: &mut Effects, board: &BoardId) {
        let waits: Vec<_> = self.attempts.on_board(board).map(|attempt| attempt.token).collect();
        for token in waits {
            self.recall(fx, token);
        }
    }

    /// Tells an attempt to stop, and waits for the answer.
    pub(crate) fn stop(&mut self, fx: &mut Effects, token: Token) {
        let Some(attempt) = self.attempts.get(token) else { return };
        let (worker, board, lease) = (attempt.worker.clone(), attempt.board.clone(), attempt.lease());
        let answer_by = self.now.plus(self.config.cancel_answer);
        self.attempts.halt(token, answer_by);
        self.alarms.set(Alarm::Attempt(token), Some(answer_by));
        self.order(fx, &worker, Order::Cancel { lease });
        self.refresh_board(&worker, &board);
    }
}
