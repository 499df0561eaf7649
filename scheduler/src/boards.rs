//! Boards: what their workers say of them, what is kept of them, and what they could take.

use std::collections::BTreeSet;

use edgeprof_common::{BoardHealth, BoardId, WorkerId};

use crate::{
    BoardReport, BoardRow, Effects, Mark, Notice, Scheduler, Write,
    attempt::Line,
    placement::{Moved, Room, State, order},
    queue::Spot,
    worker::{Board, Worker},
};

impl Scheduler {
    /// Takes in what a worker says of its boards; `whole` means that boards not named are gone.
    pub(crate) fn report_boards(
        &mut self,
        fx: &mut Effects,
        id: &WorkerId,
        reports: &[BoardReport],
        whole: bool,
    ) {
        let mut named = BTreeSet::new();
        for report in reports {
            if !owns(id, &report.id) {
                continue;
            }
            named.insert(report.id.clone());
            self.report_board(fx, id, report);
        }
        if whole {
            let boards = self.workers.get(id).into_iter().flat_map(|worker| worker.boards.keys());
            let gone: Vec<BoardId> = boards.filter(|board| !named.contains(*board)).cloned().collect();
            for board in gone {
                self.board_gone(fx, id, &board);
            }
        }
    }

    fn report_board(&mut self, fx: &mut Effects, id: &WorkerId, report: &BoardReport) {
        let board = report.id.clone();
        let Some(worker) = self.workers.get_mut(id) else { return };
        let known = worker.boards.get_mut(&board);
        if known.as_ref().is_some_and(|known| known.report == *report && !known.full) {
            return;
        }
        let before = known.as_ref().map(|known| known.report.health);
        let moved = self.boards.put(id, report);
        match known {
            Some(known) => {
                known.full = false;
                if known.report.image != report.image {
                    known.loaded = report.image;
                }
                known.report = report.clone();
            }
            None => {
                worker.boards.insert(board.clone(), Board::new(report.clone()));
            }
        }
        if let Some(moved) = moved {
            self.moved(&board, moved);
        }
        let known = self.workers.get(id).and_then(|worker| worker.boards.get(&board));
        if let Some(known) = known.filter(|known| before != Some(known.report.health)) {
            fx.notices.push(Notice::Board { board: board.clone(), health: Some(self.health_of(known)) });
        }
        self.refresh_board(id, &board);
    }

    /// A worker has a board no longer.
    pub(crate) fn board_gone(&mut self, fx: &mut Effects, id: &WorkerId, board: &BoardId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        if worker.boards.remove(board).is_none() {
            return;
        }
        let moved = self.boards.remove(board);
        self.moved(board, moved);
        fx.notices.push(Notice::Board { board: board.clone(), health: None });
    }

    fn moved(&mut self, board: &BoardId, moved: Moved) {
        if let Some(class) = moved.gone {
            self.queue.class_gone(class);
        }
        if let Some(id) = moved.came
            && let Some(pool) = self.boards.pool(id)
        {
            self.queue.class_came(id, &pool.class);
        }
        self.queue.board_is(board, self.boards.class_of(board));
    }

    /// A board's health as it is used and shown.
    pub(crate) fn health_of(&self, board: &Board) -> BoardHealth {
        match self.kept.get(&board.report.id).and_then(|row| row.mark.as_ref()) {
            Some(Mark::Quarantined { .. }) => BoardHealth::Bad,
            Some(Mark::Reserved { .. }) => BoardHealth::Maintenance,
            None => board.report.health,
        }
    }

    /// Keeps the index of what has room true for all boards of a worker.
    pub(crate) fn refresh(&mut self, id: &WorkerId) {
        let boards = self.workers.get(id).into_iter().flat_map(|worker| worker.boards.keys());
        for board in boards.cloned().collect::<Vec<_>>() {
            self.refresh_board(id, &board);
        }
    }

    /// Keeps the index of what has room true for one board.
    pub(crate) fn refresh_board(&mut self, id: &WorkerId, key: &BoardId) {
        let Some(worker) = self.workers.get(id) else { return };
        let Some(board) = worker.boards.get(key) else { return };
        let serving = worker.usable()
            && board.report.health == BoardHealth::Good
            && !self.kept.contains_key(key)
            && !self.attempts.taken_alone(id)
            && self.kept_for_alone.as_ref() != Some(id);
        let room = if serving { self.room(worker, board) } else { Room::None };
        let line = self.attempts.line(key);
        let last = line.and_then(|line| self.attempts.get(line.last()?));
        let state = State {
            room,
            key: order(self.config.policy, room),
            image: last.map_or(board.loaded, |last| last.image),
            serving,
            attempts: line.map_or(0, Line::len),
        };
        let serves_again = serving && !self.boards.site(key).is_some_and(|site| site.state.serving);
        self.alone_news |=
            serves_again || self.attempts.count_on(id) == 0 || self.kept_for_alone.as_ref() == Some(id);
        if self.awaits_canary(key) {
            self.suspects.insert(key.clone());
        }
        if !self.boards.set(key, state) {
            return;
        }
        if room == Room::Idle {
            self.idled.insert(key.clone());
        }
        if let Some(site) = self.boards.site(key) {
            self.queue.room_at(Spot::Class(site.class));
            self.queue.room_at(Spot::Board(key.clone()));
        }
    }

    /// What a board that gets tasks could take now.
    fn room(&self, worker: &Worker, board: &Board) -> Room {
        let Some(line) = self.attempts.line(&board.report.id) else {
            return if board.vacant() { Room::Idle } else { Room::None };
        };
        let number = |attempts: u32| usize::try_from(attempts).unwrap_or(usize::MAX);
        let takes = number(board.report.queue.min(self.config.max_prefetch));
        if board.full || line.halted() || !board.strangers.is_empty() || line.len() > takes {
            return Room::None;
        }
        let spare = line.len() > number(Self::prefetch(worker, board));
        Room::Behind { free: line.free_at(), attempts: line.len(), spare }
    }

    /// How many attempts have to wait on a board so that it never waits for one: as many as it ends while a
    /// new one is on its way.
    fn prefetch(worker: &Worker, board: &Board) -> u32 {
        let wanted = match (worker.refill, board.run) {
            (Some(refill), Some(run)) => u32::try_from(refill.div_ceil(run.max(1))).unwrap_or(u32::MAX),
            _ => 1,
        };
        wanted.max(1)
    }

    /// Changes what is kept of a board, and everything that hangs on it.
    pub(crate) fn keep(&mut self, fx: &mut Effects, row: BoardRow) {
        let board = row.board.clone();
        let owner = self.boards.site(&board).map(|site| site.worker.clone());
        let health = |scheduler: &Self| {
            let known = scheduler.workers.get(owner.as_ref()?)?.boards.get(&board)?;
            Some(scheduler.health_of(known))
        };
        let before = health(self);
        if row.mark.is_none() && row.suspicion.is_none() {
            self.kept.swap_remove(&board);
        } else {
            self.kept.insert(board.clone(), row.clone());
        }
        fx.writes.push(Write::PutBoard(Box::new(row)));
        let after = health(self);
        if after != before {
            fx.notices.push(Notice::Board { board: board.clone(), health: after });
        }
        if let Some(owner) = owner {
            self.refresh_board(&owner, &board);
        }
    }

    /// What is kept of a board, to be changed: of a reservation, what is left of it.
    pub(crate) fn kept_of(&self, board: &BoardId) -> BoardRow {
        let empty = || BoardRow { board: board.clone(), mark: None, suspicion: None };
        let mut row = self.kept.get(board).cloned().unwrap_or_else(empty);
        let until = self.timers.get(board).and_then(|timer| timer.reserved_until);
        if let (Some(Mark::Reserved { left, .. }), Some(until)) = (&mut row.mark, until) {
            *left = until.since(self.now);
        }
        row
    }
}

/// Whether a board's id is of this worker.
pub(crate) fn owns(worker: &WorkerId, board: &BoardId) -> bool {
    let rest = board.as_str().strip_prefix(worker.as_str());
    rest.is_some_and(|rest| rest.starts_with('/'))
}
