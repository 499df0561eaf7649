//! An idle board that nothing is queued for asks for what waits behind others elsewhere.

use std::time::Duration;

use edgeprof_common::{BoardId, Token};

use crate::{
    Effects, Now, Scheduler, alarms::Alarm, attempt::Attempt, dispatch::tried, placement::Room, queue::Spot,
};

/// A wait this short is not worth a recall.
const SHORT: Duration = Duration::from_millis(250);

/// Nor is one of fewer times what it takes to get an attempt to a board.
const REFILLS: u64 = 4;

/// How many of those that wait are looked at.
const LOOKED_AT: usize = 16;

/// Whether an idle board asks for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Now,
    /// Unless it has started by then.
    At(Now),
    Never,
}

impl Scheduler {
    /// Looks for each board that became idle whether something waits elsewhere that it should have.
    pub(crate) fn call_for_idle(&mut self, fx: &mut Effects) {
        while let Some(board) = self.idled.pop_first() {
            if let Some(at) = self.call_for(fx, &board) {
                self.alarms.set(Alarm::Idle(board), Some(at));
            }
        }
    }

    /// Recalls an attempt for an idle board. Gives when to look again, if something waits and may yet start.
    fn call_for(&mut self, fx: &mut Effects, board: &BoardId) -> Option<Now> {
        let site = self.boards.site(board).filter(|site| site.state.room == Room::Idle)?;
        if self.callers.contains(board) {
            return None;
        }
        let (mut later, mut found) = (None, None);
        for spot in [Spot::Class(site.class), Spot::Board(board.clone())] {
            for token in self.queue.staged(&spot).take(LOOKED_AT) {
                match self.calls(board, token) {
                    Call::Now => found = found.max(Some(token)),
                    Call::At(at) => later = Some(later.map_or(at, |later: Now| later.min(at))),
                    Call::Never => {}
                }
            }
        }
        let Some(token) = found else { return later };
        self.called.insert(token, board.clone());
        self.callers.insert(board.clone());
        if let Some(task) = self.attempts.get(token).map(|attempt| attempt.task) {
            self.moved.insert(task);
        }
        self.recall(fx, token);
        None
    }

    fn calls(&self, board: &BoardId, token: Token) -> Call {
        let Some(attempt) = self.attempts.get(token) else { return Call::Never };
        let Some(row) = self.tasks.get(&attempt.task) else { return Call::Never };
        // Once and not again, or two boards could play with it.
        let settled = attempt.recalled || attempt.answer_by.is_some() || self.moved.contains(&attempt.task);
        if settled || tried(row).contains(board) {
            return Call::Never;
        }
        let refill = self.workers.get(&attempt.worker).and_then(|worker| worker.refill).unwrap_or(0);
        let patience = Duration::from_micros(refill.saturating_mul(REFILLS)).max(SHORT);
        let Some(starts) = self.starts_at(attempt) else { return Call::Now };
        if starts <= self.now {
            // It is late, and nobody knows by how much more.
            let late = starts.plus(patience);
            return if late <= self.now { Call::Now } else { Call::At(late) };
        }
        let there = attempt.expected.map(|run| micros(starts.since(self.now)).saturating_add(run));
        let here = attempt.image.and_then(|image| self.chooser().completion(&image, row.work, board));
        let sooner = here.zip(there).is_none_or(|(here, there)| here < there);
        if starts.since(self.now) > patience && sooner { Call::Now } else { Call::At(starts.plus(patience)) }
    }

    /// When an attempt that waits is likely to start; it may be past.
    pub(crate) fn starts_at(&self, attempt: &Attempt) -> Option<Now> {
        let line = self.attempts.line(&attempt.board)?;
        let mut ahead = 0_u64;
        for token in line.tokens().take_while(|token| *token < attempt.token) {
            let Some(before) = self.attempts.get(token) else { continue };
            ahead = ahead.saturating_add(before.expected?);
        }
        Some(line.since().plus(Duration::from_micros(ahead)))
    }

    /// An attempt started or is over: the board that asked for it asks for another if it is still idle.
    pub(crate) fn called_for(&mut self, token: Token) {
        if let Some(board) = self.called.remove(&token) {
            self.callers.remove(&board);
            self.idled.insert(board);
        }
    }
}

pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
