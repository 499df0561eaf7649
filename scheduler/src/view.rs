//! What can be seen of the scheduler from outside. Serve it only after the commit of the last effects.

use std::time::Duration;

use edgeprof_common::{BoardHealth, Incarnation, JobState, TaskId, Token, WorkerHealth, WorkerId};

use crate::{BoardReport, BoardRow, SessionId, TaskRow};

/// A full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full: {queued} of at most {limit} tasks wait")]
pub struct QueueFull {
    /// Tasks that wait.
    pub queued: usize,
    /// Most that may.
    pub limit: usize,
    /// When to try again.
    pub retry_after: Duration,
}

/// An epoch that the store has seen already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("epoch {epoch} is not above the stored token {stored}")]
pub struct EpochNotNew {
    /// The epoch that was handed in.
    pub epoch: u64,
    /// A token of the store that is not below it.
    pub stored: Token,
}

/// How far an open attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptPhase {
    /// Sent, no answer yet.
    Offered,
    /// Taken, not started.
    Staged,
    /// On the board.
    Running,
}

/// A task.
#[derive(Clone, Copy, Debug)]
pub struct TaskView<'a> {
    /// As it is stored.
    pub row: &'a TaskRow,
    /// How far its attempt is, while it is leased.
    pub attempt: Option<AttemptPhase>,
}

/// A job, from its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobView {
    /// Where it is.
    pub state: JobState,
    /// Tasks in all.
    pub tasks: usize,
    /// Tasks that have ended.
    pub ended: usize,
}

/// A worker.
#[derive(Clone, Debug)]
pub struct WorkerView<'a> {
    /// Its id.
    pub id: &'a WorkerId,
    /// What is believed of it.
    pub health: WorkerHealth,
    /// Its process's life, once known.
    pub incarnation: Option<Incarnation>,
    /// The session with it, while there is one.
    pub session: Option<SessionId>,
    /// How long ago it was heard, if ever in this life.
    pub silent_for: Option<Duration>,
    /// Whether two machines claim its id.
    pub contested: bool,
    /// Whether it takes no new work: an operator drained it, or it is about to stop.
    pub draining: bool,
    /// Attempts on its boards, as far as is known here.
    pub attempts: usize,
    /// How many boards it has.
    pub boards: usize,
}

/// A board.
#[derive(Clone, Debug)]
pub struct BoardView<'a> {
    /// As its worker last reported it.
    pub report: &'a BoardReport,
    /// Its worker.
    pub worker: &'a WorkerId,
    /// Its health as the scheduler uses it.
    pub health: BoardHealth,
    /// What occupies it.
    pub occupant: Option<Occupant>,
    /// Attempts behind the one in work.
    pub waiting: usize,
    /// When it is likely to have done all that it has, from now.
    pub busy_for: Option<Duration>,
    /// What is kept of it.
    pub kept: Option<&'a BoardRow>,
}

/// What occupies a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// The task; its state may be another than leased.
    pub task: TaskId,
    /// The lease.
    pub token: Token,
    /// How far it is.
    pub phase: AttemptPhase,
}
