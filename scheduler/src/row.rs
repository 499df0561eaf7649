//! A task as it is stored: everything that must survive the process.

use std::{collections::BTreeSet, time::Duration};

use edgeprof_common::{
    AttemptNo, BoardId, Digest, JobId, Priority, TaskError, TaskId, TaskState, Token, WorkerId, is_default,
};
use serde::{Deserialize, Serialize};

use crate::{Image, Mark, NewTask, Requirement};

/// One task, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRow {
    /// The task.
    pub id: TaskId,
    /// The job that it is a cell of.
    pub job: JobId,
    /// Its class in the queue.
    pub priority: Priority,
    /// Place in the order of submission, over all jobs and lives.
    pub seq: u64,
    /// Which boards it may run on.
    pub requirement: Requirement,
    /// Who shares the boards with whom; equal names share one queue.
    pub submitter: String,
    /// How much it computes, in tokens over all repetitions.
    pub work: u64,
    /// What has become of it.
    pub standing: Standing,
}

/// What has become of a task since it was submitted: what is stored of it again and again. The store keeps the last one
/// written. What is as it was at first is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Goes before others of its class: an attempt of it was lost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub front: bool,
    /// Absent until the board image is prepared, such a task is not placed; and again once it has ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image: Option<Image>,
    /// Where it is.
    pub phase: Phase,
    /// Number of the last attempt that was made; 0 before the first.
    pub attempt: AttemptNo,
    /// Retryable failures so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// Attempts that failed or were lost so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spent: u32,
    /// Started attempts that ended with a proven death of the worker's process while nothing else ran there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deaths: u32,
    /// The same while others ran there too. Any of them may have been the cause, so such a death counts half: a host
    /// that loses its power must not leave all that it ran to be run one by one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shared_deaths: u32,
    /// Boards that passed a canary run after this task had failed on them: the fault is the task's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cleared: BTreeSet<BoardId>,
    /// Earlier attempts whose result may still come. Rejected ones are not kept: nothing runs under them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub past: Vec<Past>,
    /// The last error.
    #[serde(default, skip_serializing_if = "is_default")]
    pub error: Option<TaskError>,
}

/// What is kept of a board. One that says nothing is removed from the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardRow {
    /// The board.
    pub board: BoardId,
    /// Why it gets no tasks, by somebody's word.
    pub mark: Option<Mark>,
    /// It gets no task before it has passed a canary run: why, and for which tasks that failed there.
    pub suspicion: Option<Suspicion>,
}

/// Why a board has to prove itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// What happened.
    pub reason: String,
    /// The task that failed there, to be charged if the board passes.
    pub task: Option<TaskId>,
}

/// What was learned of the run times of one image on one kind of board.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The board image.
    pub image: Digest,
    /// The kind of board.
    pub kind: String,
    /// Time on the board for one token of work, in ns: an exponentially weighted mean.
    pub ns_per_work: f64,
    /// Time from a free board with another image to the start, in ns.
    pub load_ns: f64,
    /// Runs that it was learned from.
    pub runs: u32,
}

/// Where a task is, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for its image or for a board.
    Queued,
    /// An attempt holds a lease.
    Leased(Lease),
    /// Waiting before a retry. The wait starts anew after a restart.
    Backoff {
        /// How long.
        wait: Duration,
    },
    /// Recorded.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Cancelled by a person.
    Cancelled,
    /// Took its workers down with it.
    Exhausted,
}

impl Phase {
    /// The word for it.
    #[must_use]
    pub const fn state(&self) -> TaskState {
        match self {
            Self::Queued => TaskState::Queued,
            Self::Leased(_) => TaskState::Leased,
            Self::Backoff { .. } => TaskState::Backoff,
            Self::Succeeded => TaskState::Succeeded,
            Self::Failed => TaskState::Failed,
            Self::Cancelled => TaskState::Cancelled,
            Self::Exhausted => TaskState::Exhausted,
        }
    }
}

/// The right to run a task's current attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Never reused.
    pub token: Token,
    /// Who holds it.
    pub worker: WorkerId,
    /// Where it runs.
    pub board: BoardId,
}

/// A closed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Its number.
    pub attempt: AttemptNo,
    /// Its lease.
    pub token: Token,
    /// Where it ran.
    pub board: BoardId,
    /// How it ended, as far as the task is concerned.
    pub closed: Closed,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// Its result was recorded.
    Succeeded,
    /// It reported a failure.
    Failed,
    /// Its worker died, forgot it or did not answer.
    Lost,
    /// A person cancelled its task.
    Cancelled,
    /// Another attempt of its task was recorded first.
    Superseded,
}

impl Standing {
    /// Of a task that was just submitted, with its image if that is prepared already.
    #[must_use]
    pub const fn fresh(image: Option<Image>) -> Self {
        Self {
            front: false,
            image,
            phase: Phase::Queued,
            attempt: AttemptNo(0),
            failures: 0,
            spent: 0,
            deaths: 0,
            shared_deaths: 0,
            cleared: BTreeSet::new(),
            past: Vec::new(),
            error: None,
        }
    }

    /// The word for its state.
    #[must_use]
    pub const fn state(&self) -> TaskState {
        self.phase.state()
    }

    /// The current lease, if it has one.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether nothing has happened to it but that its image was prepared.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.phase == Phase::Queued && self.attempt == AttemptNo(0) && self.cleared.is_empty()
    }

    /// Whether it shares a worker with no other task, because it may be what kills workers.
    #[must_use]
    pub const fn alone(&self) -> bool {
        self.guilt() >= 2
    }

    /// Proven deaths of workers that may be its doing, in halves.
    #[must_use]
    pub const fn guilt(&self) -> u32 {
        self.deaths.saturating_mul(2).saturating_add(self.shared_deaths)
    }

    /// Whether a result under this token belongs to it.
    #[must_use]
    pub fn ever_held(&self, token: Token) -> bool {
        self.lease().is_some_and(|lease| lease.token == token)
            || self.past.iter().any(|past| past.token == token)
    }
}

impl TaskRow {
    /// A task as it is when it is submitted, in its place in the order of submission over all lives. Such a row is
    /// never handed out to be written: who keeps what was submitted can make it again.
    #[must_use]
    pub fn fresh(task: NewTask, seq: u64) -> Self {
        Self {
            id: task.id,
            job: task.job,
            priority: task.priority,
            seq,
            requirement: task.requirement,
            submitter: task.submitter,
            work: task.work,
            standing: Standing::fresh(task.image),
        }
    }

    /// The word for its state.
    #[must_use]
    pub const fn state(&self) -> TaskState {
        self.standing.state()
    }

    /// The current lease, if it has one.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        self.standing.lease()
    }
}
