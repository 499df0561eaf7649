//! What the scheduler wants done.

use edgeprof_common::{
    AttemptNo, BoardHealth, BoardId, JobId, JobState, TaskError, TaskId, TaskState, Token, WorkerHealth,
    WorkerId,
};

use crate::{BoardRow, Command, Estimate, LeaseRef, Peer, TaskRow};

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
    /// Replaces the last token issued for a board. It may be written later than the lease, which has the token too: a
    /// later life's tokens are above all of this one's.
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
    /// Replaces what is kept of a board, or removes it where nothing is.
    PutBoard(Box<BoardRow>),
    /// Replaces an operator's word on a worker.
    PutDrained {
        /// The worker.
        worker: WorkerId,
        /// Whether it is drained.
        on: bool,
    },
    /// Replaces what was learned of run times; comes only when it changed by much.
    PutEstimate(Estimate),
    /// Keeps aside a result that is of no task that is known here. One of a forgotten job is not news: the store
    /// has its task.
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
    /// Run the canary of a board's kind, whose result the caller checks against the host's: same leases, same
    /// answers, [`CANARY`] for a task.
    Canary {
        /// The right to do so.
        lease: LeaseRef,
    },
    /// Give an attempt back unless it has started.
    Recall {
        /// The attempt.
        lease: LeaseRef,
    },
    /// Restart a board, whatever it does.
    Reset {
        /// The board.
        board: BoardId,
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
}

/// The task of every canary run.
pub const CANARY: TaskId = TaskId::from_raw(0);

/// What can happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A client submitted it.
    Submitted,
    /// Its board image is there.
    Prepared,
    /// A lease was given.
    Offered,
    /// The worker took it.
    Accepted,
    /// The board runs it.
    Started,
    /// The worker did not take it.
    Rejected,
    /// It was given back before it started, for another board.
    Recalled,
    /// Its worker died, forgot it, or did not answer.
    Lost,
    /// It reported a failure.
    Failed,
    /// It waits before a retry.
    Backoff,
    /// A board on which it failed passed a canary run, or did not.
    Judged,
    /// A person cancelled it.
    Cancelled,
    /// It was stopped: it ran past its deadline.
    Overdue,
    /// Its result was recorded.
    Succeeded,
    /// It ended for good without a measurement.
    Ended,
}

impl Step {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Prepared => "prepared",
            Self::Offered => "offered",
            Self::Accepted => "accepted",
            Self::Started => "started",
            Self::Rejected => "rejected",
            Self::Recalled => "recalled",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Backoff => "backoff",
            Self::Judged => "judged",
            Self::Cancelled => "cancelled",
            Self::Overdue => "overdue",
            Self::Succeeded => "succeeded",
            Self::Ended => "ended",
        }
    }
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
    /// A line of a task's story, for `show --events`; of all tasks but canaries.
    Story {
        /// The task.
        task: TaskId,
        /// Its job.
        job: JobId,
        /// Number of the attempt that it is about; 0 where it is about none.
        attempt: AttemptNo,
        /// Where that attempt is.
        board: Option<BoardId>,
        /// What happened.
        what: Step,
        /// Why, in words.
        why: Option<String>,
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
