//! What a coordinator keeps: exactly what was committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edgeprof_common::{BoardId, Digest, TaskId, Token, WorkerId};
use edgeprof_scheduler::{BoardRow, Estimate, LeaseRef, Mark, NewTask, Recovered, TaskRow, Verdict, Write};

use super::{life::LifeId, log::Violation, log::violation};

/// Between two writes of the last tokens, in ms; what was issued since is lost with the life.
const TOKENS: u64 = 10_000;

/// A store. It belongs to the life that opened it last: whoever held it before gets an error from the next
/// commit, as from a disk that was moved to another host.
#[derive(Clone, Default)]
pub(crate) struct Store {
    pub(crate) epoch: u64,
    pub(crate) owner: Option<LifeId>,
    /// Tasks as they were submitted, each with its place in the order of submission.
    pub(crate) submitted: BTreeMap<TaskId, (NewTask, u64)>,
    pub(crate) tasks: BTreeMap<TaskId, TaskRow>,
    /// Every token that was issued in a committed transaction.
    pub(crate) tokens: BTreeMap<BoardId, Token>,
    /// The same as they are written, now and then, and when.
    told: (u64, BTreeMap<BoardId, Token>),
    pub(crate) runs: BTreeMap<TaskId, Verdict>,
    pub(crate) aside: BTreeSet<(TaskId, Token)>,
    pub(crate) boards: BTreeMap<BoardId, BoardRow>,
    /// When the reservations among them end.
    reserved_until: BTreeMap<BoardId, u64>,
    pub(crate) drained: BTreeSet<WorkerId>,
    estimates: BTreeMap<(Digest, String), Estimate>,
}

/// One transaction.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) submitted: Vec<(NewTask, u64)>,
    pub(crate) writes: Vec<Write>,
}

impl Store {
    /// Commits a transaction, and checks that it breaks no promise.
    pub(crate) fn commit(&mut self, now: u64, transaction: Transaction) -> Result<(), Violation> {
        for (task, seq) in transaction.submitted {
            self.submitted.entry(task.id).or_insert((task, seq));
        }
        let mut ended = Vec::new();
        for write in transaction.writes {
            match write {
                Write::PutTask(row) => self.put(*row)?,
                Write::PutLastToken { board, token } => {
                    let before = self.tokens.insert(board.clone(), token);
                    if before >= Some(token) {
                        return Err(violation(
                            format!("token {token} of {board} comes after {before:?}"),
                            &board,
                        ));
                    }
                }
                Write::RecordRun { task, verdict, .. } => {
                    if let Some(before) = self.runs.insert(task, verdict) {
                        return Err(violation(
                            format!("{task} is recorded twice, first as {before:?}"),
                            &task,
                        ));
                    }
                    ended.push(task);
                }
                Write::SetAside { lease, .. } => {
                    self.aside.insert((lease.task, lease.token));
                }
                Write::PutBoard(row) if row.mark.is_none() && row.suspicion.is_none() => {
                    self.boards.remove(&row.board);
                }
                Write::PutBoard(row) => {
                    if let Some(Mark::Reserved { left, .. }) = row.mark {
                        self.reserved_until.insert(row.board.clone(), now + left.as_millis() as u64);
                    }
                    self.boards.insert(row.board.clone(), *row);
                }
                Write::PutDrained { worker, on: true } => {
                    self.drained.insert(worker);
                }
                Write::PutDrained { worker, on: false } => {
                    self.drained.remove(&worker);
                }
                Write::PutEstimate(estimate) => {
                    self.estimates.insert((estimate.image, estimate.kind.clone()), estimate);
                }
            }
        }
        if now >= self.told.0 + TOKENS {
            self.told = (now, self.tokens.clone());
        }
        for task in ended {
            if !self.tasks.get(&task).is_some_and(|row| row.state().is_terminal()) {
                return Err(violation(format!("{task} has a run and goes on"), &task));
            }
        }
        Ok(())
    }

    fn put(&mut self, row: TaskRow) -> Result<(), Violation> {
        if let Some(before) = self.tasks.get(&row.id) {
            if before.state().is_terminal() && before.standing.phase != row.standing.phase {
                return Err(violation(format!("{} leaves its end: {row:?}", row.id), &row.id));
            }
            if before.seq != row.seq || before.standing.attempt > row.standing.attempt {
                return Err(violation(format!("{} goes backward: {before:?} {row:?}", row.id), &row.id));
            }
        }
        if let Some(lease) = row.lease()
            && self.tasks.values().any(|other| {
                other.id != row.id && other.lease().is_some_and(|other| other.token == lease.token)
            })
        {
            return Err(violation(
                format!("{} shares token {} with another task", row.id, lease.token),
                &row.id,
            ));
        }
        self.tasks.insert(row.id, row);
        Ok(())
    }

    /// Every accepted task: as it was last written, or else as it was submitted. Of reservations, what is left.
    pub(crate) fn recovered(&self, now: u64) -> Recovered {
        let board = |row: &BoardRow| {
            let mut row = row.clone();
            if let Some(Mark::Reserved { left, .. }) = &mut row.mark {
                *left = Duration::from_millis(self.reserved_until[&row.board].saturating_sub(now));
            }
            row
        };
        let row = |(id, (task, seq)): (&TaskId, &(NewTask, u64))| {
            self.tasks.get(id).cloned().unwrap_or_else(|| TaskRow::fresh(task.clone(), *seq))
        };
        Recovered {
            tasks: self.submitted.iter().map(row).collect(),
            next_seq: 0,
            tokens: self.told.1.clone(),
            boards: self.boards.values().map(board).collect(),
            drained: self.drained.clone(),
            estimates: self.estimates.values().cloned().collect(),
        }
    }

    pub(crate) fn ended(&self, task: &TaskId) -> bool {
        self.tasks.get(task).is_some_and(|row| row.state().is_terminal())
    }

    /// Whether a result is durable, or needs not be.
    pub(crate) fn settled(&self, lease: &LeaseRef) -> bool {
        self.ended(&lease.task) || self.aside.contains(&(lease.task, lease.token))
    }
}
