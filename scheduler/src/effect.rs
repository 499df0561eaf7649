//! What the scheduler wants done.

use edgeprof_common::{
    AttemptNo, BoardHealth, BoardId, JobId, JobState, TaskError, TaskId, TaskState, Token, WorkerHealth,
    WorkerId,
};

use crate::{Command, LeaseRef, Peer, TaskRow};

/// The answer to one event.
///
/// The order is a contract: all `writes` are durable before one of `sends` or `notices` leaves the
/// process, and before the event's sender gets an answer. Effects of several events may share a commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// To be committed in one transaction.
    pub writes: Vec<Write>,
    /// To be sent after the commit, in this order; dropped if the session is gone.
    pub sends: Vec<Send>,
    /// To be published after the commit, in this order.
    pub notices: Vec<Notice>,
}

impl Effects {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.sends.is_empty() && self.notices.is_empty()
    }

    /// Puts the effects of a later event behind these, for one commit.
    pub fn append(&mut self, mut later: Self) {
        self.writes.append(&mut later.writes);
        self.sends.append(&mut later.sends);
        self.notices.append(&mut later.notices);
    }
}

/// A change of the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Replaces a task's row.
    PutTask(Box<TaskRow>),
    /// Replaces the last token issued for a board.
    PutLastToken {
        /// The board.
        board: BoardId,
        /// Higher than every one before.
        token: Token,
    },
    /// Records how a task ended; comes once a task, with its terminal row. For `Verdict::Succeeded` the
    /// measurement is the payload of the very event that this answers.
    RecordRun {
        /// The task.
        task: TaskId,
        /// Its job.
        job: JobId,
        /// Number of the attempt that ended it; 0 if there was none.
        attempt: AttemptNo,
        /// The lease of that attempt.
        lease: Option<LeaseRef>,
        /// How it ended.
        verdict: Verdict,
    },
    /// Keeps aside a result of a task that is not known here.
    SetAside {
        /// Who sent it.
        worker: WorkerId,
        /// What it claims to be of.
        lease: LeaseRef,
    },
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// With a measurement.
    Succeeded,
    /// With an error that no retry helps, or after the last retry.
    Failed(TaskError),
    /// By a person's word.
    Cancelled,
    /// It took its workers down with it.
    Exhausted(TaskError),
}

/// Something that leaves for a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Send {
    /// A command. Frames that are not the scheduler's, such as beats, repeat the last number.
    Command {
        /// To whom.
        to: Peer,
        /// Its number.
        command: Command,
        /// What.
        order: Order,
    },
    /// End the session; the caller dials again.
    Close {
        /// The session.
        peer: Peer,
        /// Why.
        reason: CloseReason,
    },
}

/// A command to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Run a task. The same lease may come again: the worker then answers with its state.
    Start {
        /// The right to do so.
        lease: LeaseRef,
        /// Its number among the task's attempts.
        attempt: AttemptNo,
    },
    /// Stop an attempt.
    Cancel {
        /// The attempt.
        lease: LeaseRef,
    },
    /// The result is durable and may be forgotten.
    Ack {
        /// The attempt.
        lease: LeaseRef,
        /// It changed nothing: the task had ended, or an attempt after it is what counts.
        duplicate: bool,
    },
}

/// Why a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A newer session with the same worker took its place.
    Superseded,
    /// The worker was silent for too long.
    Silent,
    /// The worker beats, but answers no offer.
    Unresponsive,
    /// An operator dropped the worker.
    Dropped,
}

/// Something that happened, for watchers and metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A task changed its state.
    Task {
        /// The task.
        task: TaskId,
        /// Its job.
        job: JobId,
        /// The new state.
        state: TaskState,
        /// Number of its last attempt.
        attempt: AttemptNo,
        /// The board of the attempt that this is about.
        board: Option<BoardId>,
        /// Why, where it is not what was hoped for.
        error: Option<TaskError>,
    },
    /// A job ended.
    Job {
        /// The job.
        job: JobId,
        /// How.
        state: JobState,
    },
    /// An attempt moved on without its task changing.
    Attempt {
        /// The task.
        task: TaskId,
        /// Its job.
        job: JobId,
        /// The board.
        board: BoardId,
        /// `accepted`, `started`, or the phase that the worker named.
        phase: String,
        /// Steps done.
        done: u64,
        /// Steps in all; 0 where there are none.
        total: u64,
    },
    /// A worker's health changed.
    Worker {
        /// The worker.
        worker: WorkerId,
        /// The new health.
        health: WorkerHealth,
        /// Why.
        reason: String,
    },
    /// A board came, went or changed its health.
    Board {
        /// The board.
        board: BoardId,
        /// The new health; absent if it is gone.
        health: Option<BoardHealth>,
    },
    /// Two machines claim one worker id; neither gets work.
    Contested {
        /// The id.
        worker: WorkerId,
    },
}
