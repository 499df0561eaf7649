//! Whose fault a failure is: a board that fails a task runs a canary, and the one of the two that was at fault
//! bears it.

use edgeprof_common::{AttemptNo, BoardId, TaskId, WorkerId};

use crate::{
    BoardRow, CANARY, Closed, Effects, LeaseRef, Mark, Order, Outcome, Scheduler, Step, Suspicion, Verdict,
    attempt::Attempt, placement::Class, queue::Shape,
};

/// A task that failed on this many boards which pass their canary has failed for good.
const CLEARED: usize = 2;

/// In whose name a canary run quarantines.
pub const OURSELVES: &str = "edgeprof";

impl Scheduler {
    /// A board has to prove itself before it gets another task.
    pub(crate) fn suspect(
        &mut self,
        fx: &mut Effects,
        board: &BoardId,
        reason: String,
        task: Option<TaskId>,
    ) {
        let row = self.kept_of(board);
        if row.suspicion.is_some() || matches!(row.mark, Some(Mark::Quarantined { .. })) {
            return;
        }
        self.keep(fx, BoardRow { suspicion: Some(Suspicion { reason, task }), ..row });
        self.recall_board(fx, board);
    }

    /// Whether a suspected board could run its canary now.
    pub(crate) fn awaits_canary(&self, board: &BoardId) -> bool {
        let Some(row) = self.kept.get(board).filter(|row| row.mark.is_none() && row.suspicion.is_some())
        else {
            return false;
        };
        let owner = self.boards.site(&row.board).map(|site| &site.worker);
        let Some((id, worker)) = owner.and_then(|id| self.workers.get_key_value(id)) else { return false };
        worker.usable()
            && worker.boards.get(board).is_some_and(crate::worker::Board::vacant)
            && self.attempts.line(board).is_none()
            && !self.attempts.taken_alone(id)
            && self.kept_for_alone.as_ref() != Some(id)
    }

    /// A canary run ended.
    pub(crate) fn judge(&mut self, fx: &mut Effects, canary: &Attempt, outcome: &Outcome) {
        self.settle(fx, canary);
        match outcome {
            Outcome::Succeeded => self.acquit(fx, &canary.board, true),
            Outcome::Failed(error) => {
                let reason = format!("failed its canary run: {}", error.message);
                self.quarantine(fx, &canary.board, reason);
            }
            Outcome::Cancelled if canary.answer_by.is_some() && !canary.returns => {
                self.quarantine(fx, &canary.board, "its canary run took too long".into());
            }
            // Stopped by its worker: it runs again.
            Outcome::Cancelled => {}
        }
    }

    /// There is no canary for a board: it goes without, and the task is not judged by it.
    pub(crate) fn no_canary(&mut self, fx: &mut Effects, board: &BoardId) {
        let open = self.attempts.on_board(board).find(|attempt| attempt.task == CANARY).cloned();
        if let Some(attempt) = open {
            if let Some(known) = self.board_mut(&attempt.worker, board) {
                known.report.idle = true;
            }
            self.settle(fx, &attempt);
        }
        self.acquit(fx, board, false);
    }

    /// A board is trusted again. If that was shown, the task that failed there has to bear it.
    fn acquit(&mut self, fx: &mut Effects, board: &BoardId, shown: bool) {
        let mut row = self.kept_of(board);
        let Some(suspicion) = row.suspicion.take() else { return };
        self.time(board, |timer, _| timer.good_by = None);
        self.keep(fx, row);
        if let Some(task) = suspicion.task.filter(|_| shown) {
            self.clear(fx, task, board);
        }
    }

    fn clear(&mut self, fx: &mut Effects, id: TaskId, board: &BoardId) {
        let Some(row) = self.tasks.get_mut(&id).filter(|row| !row.state().is_terminal()) else { return };
        row.standing.cleared.insert(board.clone());
        let cleared = row.standing.cleared.len();
        let error = row.standing.error.clone();
        let by = self.last_begun(id);
        self.touched.insert(id);
        self.story(fx, id, None, Step::Judged, Some(format!("{board} passed its canary run")));
        if let Some(error) = error.filter(|_| cleared >= CLEARED) {
            let hint = format!(
                "{cleared} boards on which it failed passed their canary run after it: \
                look at the model"
            );
            self.finish(fx, id, Verdict::Failed(error.with_hint(hint)), by);
        }
    }

    /// A board has shown that it is at fault: the failure of the task there is taken back. What was lost there was
    /// not counted as one.
    pub(crate) fn quarantine(&mut self, fx: &mut Effects, board: &BoardId, reason: String) {
        let mut row = self.kept_of(board);
        let task = row.suspicion.take().and_then(|suspicion| suspicion.task);
        self.time(board, |timer, _| timer.good_by = None);
        // A person's reservation goes on; the board is not trusted after it.
        match row.mark {
            None => row.mark = Some(Mark::Quarantined { by: OURSELVES.into(), reason: reason.clone() }),
            Some(Mark::Reserved { .. }) => {
                row.suspicion = Some(Suspicion { reason: reason.clone(), task: None });
            }
            Some(Mark::Quarantined { .. }) => {}
        }
        self.keep(fx, row);
        self.recall_board(fx, board);
        let Some(id) = task else { return };
        let Some(row) = self.tasks.get_mut(&id).filter(|row| !row.state().is_terminal()) else { return };
        let last = row.standing.past.iter().rfind(|past| past.board == *board);
        let counted = last.is_some_and(|past| past.closed == Closed::Failed);
        row.standing.failures = row.standing.failures.saturating_sub(u32::from(counted));
        let error = row.standing.error.clone().filter(|_| row.lease().is_none());
        self.touched.insert(id);
        self.story(fx, id, None, Step::Judged, Some(format!("{board} {reason}")));
        if let Some(error) = error.filter(|_| !self.has_place(id)) {
            let hint = format!("{board} {reason}, and no other board can run it: see `edgeprof boards`");
            let by = self.last_begun(id);
            self.finish(fx, id, Verdict::Failed(error.with_hint(hint)), by);
        }
    }

    /// Whether a task has a board that is not quarantined, here or away. Looks at every board: for rare events.
    fn has_place(&self, id: TaskId) -> bool {
        let Some(row) = self.tasks.get(&id) else { return false };
        let Some(image) = row.standing.image.clone() else { return true };
        let shape = Shape { requirement: row.requirement.clone(), image };
        let mut boards = self.workers.values().flat_map(|worker| &worker.boards);
        boards.any(|(id, board)| {
            let mark = self.kept.get(id).and_then(|row| row.mark.as_ref());
            !matches!(mark, Some(Mark::Quarantined { .. })) && shape.able(id, &Class::of(&board.report))
        })
    }

    /// The attempt of a task that failed or was lost last.
    fn last_begun(&self, id: TaskId) -> Option<(AttemptNo, LeaseRef)> {
        let past = &self.tasks.get(&id)?.standing.past;
        let last = past.iter().rfind(|past| matches!(past.closed, Closed::Failed | Closed::Lost))?;
        Some((last.attempt, LeaseRef { token: last.token, task: id, board: last.board.clone() }))
    }

    /// A cancel got no answer: the attempt is given up, and its board restarted.
    pub(crate) fn unanswered(&mut self, fx: &mut Effects, attempt: &Attempt) {
        if attempt.task == CANARY {
            self.order(fx, &attempt.worker, Order::Reset { board: attempt.board.clone() });
            self.settle(fx, attempt);
            let reason = "did not answer a cancel of its canary run".into();
            return self.quarantine(fx, &attempt.board, reason);
        }
        self.still_there(attempt);
        let task = (attempt.closed.is_none() && !attempt.returns).then_some(attempt.task);
        self.give_up(fx, attempt);
        self.restart(fx, &attempt.worker, &attempt.board, task);
    }

    /// A board does not hear: it is restarted, and has to be good again in time and prove itself.
    pub(crate) fn restart(
        &mut self,
        fx: &mut Effects,
        worker: &WorkerId,
        board: &BoardId,
        task: Option<TaskId>,
    ) {
        self.order(fx, worker, Order::Reset { board: board.clone() });
        self.suspect(fx, board, "did not answer a cancel and was restarted".into(), task);
        let by = self.now.plus(self.config.reset_grace);
        self.time(board, |timer, _| timer.good_by = Some(by));
    }

    /// A board that was restarted has had its time to come back.
    pub(crate) fn not_back(&mut self, fx: &mut Effects, board: &BoardId) {
        let suspected = self.kept.get(board).is_some_and(|row| row.suspicion.is_some());
        let owner = self.boards.site(board).and_then(|site| self.workers.get(&site.worker));
        let known = owner.filter(|worker| worker.reachable()).and_then(|worker| worker.boards.get(board));
        // Of a worker that is away nothing is known: its board runs its canary when it is back.
        if let Some(known) = known
            && suspected
            && !known.vacant()
            && self.attempts.line(board).is_none()
        {
            self.quarantine(fx, board, "did not come back after a restart".into());
        }
    }
}
