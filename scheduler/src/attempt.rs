//! Open attempts: what each waits for, and the line that they form on a board.

use std::collections::BTreeSet;

use edgeprof_common::{AttemptNo, BoardId, Digest, TaskId, Token, WorkerId};

use crate::{
    AttemptPhase, CANARY, Closed, Command, LeaseRef, Now, Order,
    queue::{Charged, ShapeId},
    table::Table,
};

/// An attempt that occupies a board or a place in its line, as far as is known here.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) task: TaskId,
    pub(crate) token: Token,
    pub(crate) number: AttemptNo,
    pub(crate) worker: WorkerId,
    pub(crate) board: BoardId,
    pub(crate) phase: AttemptPhase,
    /// Leased in an earlier life and not heard of in this one: it is not charged.
    pub(crate) recovered: bool,
    /// Its task shares a worker with no other.
    pub(crate) alone: bool,
    /// What the board has loaded while it runs.
    pub(crate) image: Option<Digest>,
    pub(crate) leased_at: Now,
    pub(crate) started_at: Option<Now>,
    /// Its worker was heard all the time since it was leased, so that what is seen of it is when it happened.
    pub(crate) timed: bool,
    /// Time on the board that is expected of it, in µs.
    pub(crate) expected: Option<u64>,
    /// Time that loading took, in µs, where it can be told apart.
    pub(crate) load: Option<u64>,
    /// What its submitter was charged for it.
    pub(crate) charged: Option<Charged>,
    /// While it waits behind another: its needs, so that another board can ask for it.
    pub(crate) waits_as: Option<ShapeId>,
    /// Number of its first `Start` in this life; absent for one that was leased in an earlier life.
    pub(crate) command: Option<Command>,
    /// How often it was sent again.
    pub(crate) resends: u32,
    /// While it is offered: when it is sent again.
    pub(crate) resend_at: Option<Now>,
    /// Once it is first in line and accepted, or started: when it has taken too long.
    pub(crate) deadline: Option<Now>,
    /// Its worker was asked to give it back unless it has started.
    pub(crate) recalled: bool,
    /// It is stopped because its worker drains, not for what it did.
    pub(crate) returns: bool,
    /// Once a cancel was sent: when the answer is overdue. Set by [`Attempts::halt`].
    pub(crate) answer_by: Option<Now>,
    /// Its task has moved on; it only occupies its board until its worker shows that it ended.
    pub(crate) closed: Option<Closed>,
}

impl Attempt {
    /// When it next wants to be looked at.
    pub(crate) fn alarm(&self) -> Option<Now> {
        match self.answer_by {
            Some(at) => Some(at),
            None => [self.resend_at, self.deadline].into_iter().flatten().min(),
        }
    }

    pub(crate) fn lease(&self) -> LeaseRef {
        LeaseRef { token: self.token, task: self.task, board: self.board.clone() }
    }

    /// The order that begins it.
    pub(crate) fn offer(&self) -> Order {
        match self.task {
            CANARY => Order::Canary { lease: self.lease() },
            _ => Order::Start { lease: self.lease(), attempt: self.number },
        }
    }
}

/// The attempts of one board in the order of their tokens: the first is in work, the rest wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    tokens: BTreeSet<Token>,
    /// Sum of what is expected of them, in µs.
    expected: u64,
    /// How many of them nothing is expected of.
    unknown: usize,
    /// How many of them were told to stop.
    halted: usize,
    /// When the first of them began, as far as is known.
    since: Now,
}

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn first(&self) -> Option<Token> {
        self.tokens.first().copied()
    }

    pub(crate) fn last(&self) -> Option<Token> {
        self.tokens.last().copied()
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.tokens.iter().copied()
    }

    pub(crate) fn halted(&self) -> bool {
        self.halted > 0
    }

    pub(crate) const fn since(&self) -> Now {
        self.since
    }

    /// When all of it is likely to be done; it may be past.
    pub(crate) fn free_at(&self) -> Option<Now> {
        (self.unknown == 0).then(|| Now(self.since.0.saturating_add(self.expected.div_ceil(1000))))
    }
}

/// All open attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    by_token: Table<Token, Box<Attempt>>,
    by_board: Table<BoardId, Line>,
    by_worker: Table<WorkerId, BTreeSet<Token>>,
    alone: Table<WorkerId, usize>,
}

impl Attempts {
    pub(crate) fn insert(&mut self, attempt: Attempt) {
        let line = self.by_board.entry(attempt.board.clone()).or_default();
        if line.tokens.is_empty() {
            line.since = attempt.leased_at;
        }
        line.tokens.insert(attempt.token);
        line.expected = line.expected.saturating_add(attempt.expected.unwrap_or(0));
        line.unknown += usize::from(attempt.expected.is_none());
        line.halted += usize::from(attempt.answer_by.is_some());
        if attempt.alone {
            *self.alone.entry(attempt.worker.clone()).or_default() += 1;
        }
        self.by_worker.entry(attempt.worker.clone()).or_default().insert(attempt.token);
        self.by_token.insert(attempt.token, Box::new(attempt));
    }

    pub(crate) fn remove(&mut self, token: Token, now: Now) -> Option<Box<Attempt>> {
        let attempt = self.by_token.swap_remove(&token)?;
        if let Some(line) = self.by_board.get_mut(&attempt.board) {
            if line.first() == Some(token) {
                line.since = now;
            }
            line.tokens.remove(&token);
            line.expected = line.expected.saturating_sub(attempt.expected.unwrap_or(0));
            line.unknown -= usize::from(attempt.expected.is_none());
            line.halted -= usize::from(attempt.answer_by.is_some());
            if line.tokens.is_empty() {
                self.by_board.swap_remove(&attempt.board);
            }
        }
        if attempt.alone
            && let Some(count) = self.alone.get_mut(&attempt.worker)
        {
            *count -= 1;
            if *count == 0 {
                self.alone.swap_remove(&attempt.worker);
            }
        }
        if let Some(tokens) = self.by_worker.get_mut(&attempt.worker) {
            tokens.remove(&token);
            if tokens.is_empty() {
                self.by_worker.swap_remove(&attempt.worker);
            }
        }
        Some(attempt)
    }

    pub(crate) fn get(&self, token: Token) -> Option<&Attempt> {
        self.by_token.get(&token).map(|attempt| &**attempt)
    }

    /// What changes who occupies what goes through the functions here instead.
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut Attempt> {
        self.by_token.get_mut(&token).map(|attempt| &mut **attempt)
    }

    /// An attempt was told to stop, and is to answer by then.
    pub(crate) fn halt(&mut self, token: Token, answer_by: Now) {
        let Some(attempt) = self.by_token.get_mut(&token) else { return };
        if attempt.answer_by.replace(answer_by).is_none()
            && let Some(line) = self.by_board.get_mut(&attempt.board)
        {
            line.halted += 1;
        }
    }

    /// The first in line began to run.
    pub(crate) fn began(&mut self, token: Token, at: Now) {
        let Some(attempt) = self.by_token.get(&token) else { return };
        if let Some(line) = self.by_board.get_mut(&attempt.board).filter(|line| line.first() == Some(token)) {
            line.since = at;
        }
    }

    pub(crate) fn line(&self, board: &BoardId) -> Option<&Line> {
        self.by_board.get(board)
    }

    /// The attempt in work on a board.
    pub(crate) fn first_on(&self, board: &BoardId) -> Option<&Attempt> {
        self.get(self.line(board)?.first()?)
    }

    /// Whether an attempt is in work: first in its line, or known to run.
    pub(crate) fn in_work(&self, attempt: &Attempt) -> bool {
        attempt.phase == AttemptPhase::Running
            || self.line(&attempt.board).and_then(Line::first) == Some(attempt.token)
    }

    /// A worker was not heard for a while: nobody knows when what happened to its attempts did.
    pub(crate) fn lose_sight(&mut self, worker: &WorkerId) {
        for token in self.by_worker.get(worker).into_iter().flatten() {
            if let Some(attempt) = self.by_token.get_mut(token) {
                attempt.timed = false;
            }
        }
    }

    /// Attempts of a board, first in line first.
    pub(crate) fn on_board(&self, board: &BoardId) -> impl Iterator<Item = &Attempt> {
        self.line(board).into_iter().flat_map(Line::tokens).filter_map(|token| self.get(token))
    }

    /// Attempts of a worker in the order of their tokens.
    pub(crate) fn on_worker(&self, worker: &WorkerId) -> impl Iterator<Item = &Attempt> {
        self.by_worker.get(worker).into_iter().flatten().filter_map(|token| self.get(*token))
    }

    pub(crate) fn count_on(&self, worker: &WorkerId) -> usize {
        self.by_worker.get(worker).map_or(0, BTreeSet::len)
    }

    /// Whether a worker has a task that shares it with none.
    pub(crate) fn taken_alone(&self, worker: &WorkerId) -> bool {
        self.alone.contains_key(worker)
    }
}
