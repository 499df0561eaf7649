//! Open attempts: what one waits for, and which boards they occupy.

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::{AttemptNo, BoardId, TaskId, Token, WorkerId};

use crate::{AttemptPhase, Closed, Command, LeaseRef, Now};

/// An attempt that occupies a board, as far as is known here.
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
    /// Number of its first `Start` in this life; absent for one that was leased in an earlier life.
    pub(crate) command: Option<Command>,
    /// How often it was sent again.
    pub(crate) resends: u32,
    /// While it is offered: when it is sent again.
    pub(crate) resend_at: Option<Now>,
    /// Once it is accepted: when it has taken too long.
    pub(crate) deadline: Option<Now>,
    /// Once a cancel was sent: when the answer is overdue.
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
}

/// All open attempts, at most one a board.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    by_token: BTreeMap<Token, Attempt>,
    by_board: BTreeMap<BoardId, Token>,
    by_worker: BTreeMap<WorkerId, BTreeSet<Token>>,
}

impl Attempts {
    pub(crate) fn insert(&mut self, attempt: Attempt) {
        let before = self.by_board.insert(attempt.board.clone(), attempt.token);
        debug_assert_eq!(before, None, "{} has two attempts", attempt.board);
        self.by_worker.entry(attempt.worker.clone()).or_default().insert(attempt.token);
        self.by_token.insert(attempt.token, attempt);
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<Attempt> {
        let attempt = self.by_token.remove(&token)?;
        if self.by_board.get(&attempt.board) == Some(&token) {
            self.by_board.remove(&attempt.board);
        }
        if let Some(tokens) = self.by_worker.get_mut(&attempt.worker) {
            tokens.remove(&token);
            if tokens.is_empty() {
                self.by_worker.remove(&attempt.worker);
            }
        }
        Some(attempt)
    }

    pub(crate) fn get(&self, token: Token) -> Option<&Attempt> {
        self.by_token.get(&token)
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut Attempt> {
        self.by_token.get_mut(&token)
    }

    pub(crate) fn on_board(&self, board: &BoardId) -> Option<&Attempt> {
        self.by_token.get(self.by_board.get(board)?)
    }

    pub(crate) fn on_worker(&self, worker: &WorkerId) -> impl Iterator<Item = &Attempt> {
        self.by_worker.get(worker).into_iter().flatten().filter_map(|token| self.by_token.get(token))
    }

    /// The tokens on a worker, for loops that close some of them.
    pub(crate) fn tokens_on(&self, worker: &WorkerId) -> Vec<Token> {
        self.on_worker(worker).map(|attempt| attempt.token).collect()
    }
}
