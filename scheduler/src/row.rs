//! A task as it is stored: everything that must survive the process.

use std::time::Duration;

use edgeprof_common::{AttemptNo, BoardId, JobId, Priority, TaskError, TaskId, TaskState, Token, WorkerId};
use serde::{Deserialize, Serialize};

use crate::{Image, Requirement};

/// One task, whole. The store keeps the last one written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// The task.
    pub id: TaskId,
    /// The job that it is a cell of.
    pub job: JobId,
    /// Its class in the queue.
    pub priority: Priority,
    /// Place in the order of submission, over all jobs and lives.
    pub seq: u64,
    /// Goes before others of its class: an attempt of it was lost.
    pub front: bool,
    /// Which boards it may run on.
    pub requirement: Requirement,
    /// Absent until the board image is prepared; such a task is not placed.
    pub image: Option<Image>,
    /// Expected run time, where history gives one.
    pub predicted: Option<Duration>,
    /// Where it is.
    pub phase: Phase,
    /// Number of the last attempt that was made; 0 before the first.
    pub attempt: AttemptNo,
    /// Retryable failures so far.
    pub failures: u32,
    /// Attempts that failed or were lost so far.
    pub spent: u32,
    /// Started attempts that ended with a proven death of the worker's process.
    pub deaths: u32,
    /// Earlier attempts whose result may still come. Rejected ones are not kept: nothing runs under them.
    pub past: Vec<Past>,
    /// The last error.
    pub error: Option<TaskError>,
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
    /// It never began.
    Rejected,
    /// Its worker died, forgot it or did not answer.
    Lost,
    /// A person cancelled its task.
    Cancelled,
    /// Another attempt of its task was recorded first.
    Superseded,
}

impl TaskRow {
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

    /// Whether a result under this token belongs to it.
    #[must_use]
    pub fn ever_held(&self, token: Token) -> bool {
        self.lease().is_some_and(|lease| lease.token == token)
            || self.past.iter().any(|past| past.token == token)
    }
}
