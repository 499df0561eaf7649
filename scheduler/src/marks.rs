//! Boards that somebody sets aside: quarantined or reserved.

use edgeprof_common::BoardId;

use crate::{Effects, Mark, Now, Scheduler, Suspicion, alarms::Alarm};

/// What a board that is kept waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timer {
    /// When its reservation ends.
    pub(crate) reserved_until: Option<Now>,
    /// When it has to be good again after a restart.
    pub(crate) good_by: Option<Now>,
}

impl Scheduler {
    /// A person's word on a board.
    pub(crate) fn mark(&mut self, fx: &mut Effects, board: &BoardId, mark: Option<Mark>) {
        let mut row = self.kept_of(board);
        if self.boards.site(board).is_none() && !self.kept.contains_key(board) || row.mark == mark {
            return;
        }
        // A board that was not trusted proves itself before it gets work again, whoever takes it back.
        if matches!(row.mark, Some(Mark::Quarantined { .. }))
            && !matches!(mark, Some(Mark::Quarantined { .. }))
        {
            row.suspicion = Some(Suspicion { reason: "taken back from quarantine".into(), task: None });
        }
        let left = match &mark {
            Some(Mark::Reserved { left, .. }) => Some(*left),
            _ => None,
        };
        self.time(board, |timer, now| timer.reserved_until = left.map(|left| now.plus(left)));
        row.mark = mark;
        let aside = row.mark.is_some();
        self.keep(fx, row);
        if aside {
            self.recall_board(fx, board);
        }
    }

    /// Sets what a board waits for.
    pub(crate) fn time(&mut self, board: &BoardId, change: impl FnOnce(&mut Timer, Now)) {
        let timer = self.timers.entry(board.clone()).or_default();
        change(timer, self.now);
        let next = [timer.reserved_until, timer.good_by].into_iter().flatten().min();
        self.alarms.set(Alarm::Board(board.clone()), next);
        if next.is_none() {
            self.timers.remove(board);
        }
    }

    pub(crate) fn board_alarm(&mut self, fx: &mut Effects, board: &BoardId) {
        let timer = self.timers.get(board).copied().unwrap_or_default();
        let due = |at: Option<Now>| at.is_some_and(|at| at <= self.now);
        let (reservation, restart) = (due(timer.reserved_until), due(timer.good_by));
        self.time(board, |timer, _| {
            timer.reserved_until = timer.reserved_until.filter(|_| !reservation);
            timer.good_by = timer.good_by.filter(|_| !restart);
        });
        if reservation {
            let mut row = self.kept_of(board);
            row.mark = None;
            self.keep(fx, row);
        }
        if restart {
            self.not_back(fx, board);
        }
    }
}
