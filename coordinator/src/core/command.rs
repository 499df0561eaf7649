//! What the loop is asked and told, and how it ends.

use std::sync::Arc;

use edgeprof_common::{BoardId, Digest, JobId, TaskId, WorkerId};
use edgeprof_proto::v1;
use edgeprof_scheduler::QueueFull;
use tokio::sync::{oneshot, watch};

use super::{Change, NotMarked, Reserved, Told, Wish};
use crate::{
    access::OverQuota,
    preparing::Outcome,
    session::SessionEvent,
    store::{
        StoreError,
        rows::{AuditRow, JobRow, Prepared, TaskDef},
    },
    submit::Present,
};

/// What happens to the coordinator. Of jobs only those are known here that have not ended, and some that have: the
/// others are in the store by the time that the answer says nothing of them.
#[derive(Debug)]
pub enum Command {
    /// A change that somebody asked for: both are written down in one commit.
    Audited(Box<AuditRow>, Box<Command>),
    /// Of who may do what.
    Access(Change),
    /// A client submitted a job that was planned.
    Submit {
        /// The job.
        job: Box<JobRow>,
        /// Its tasks, in order.
        tasks: Vec<Arc<TaskDef>>,
        /// Workloads of theirs that were made ready before.
        ready: Vec<(Digest, Prepared)>,
        /// [`Before::forgotten`] when its key was looked up in the store.
        forgotten: u64,
        /// The durable job.
        reply: oneshot::Sender<Result<v1::Job, Busy>>,
    },
    /// What has to be known before a job is planned.
    Before {
        /// The client's key for it.
        key: Option<String>,
        /// That.
        reply: oneshot::Sender<Before>,
    },
    /// A job with its tasks.
    Job(JobId, oneshot::Sender<Option<v1::Job>>),
    /// The newest jobs, without tasks, each with its place in the order of submission.
    Jobs(usize, oneshot::Sender<Vec<(u64, v1::Job)>>),
    /// The tasks of a job, in order.
    Tasks(JobId, oneshot::Sender<Option<Vec<TaskId>>>),
    /// Cancel a job.
    Cancel(JobId, oneshot::Sender<Option<v1::Job>>),
    /// A job and all that becomes of it.
    Watch(JobId, oneshot::Sender<Option<watch::Receiver<Arc<v1::JobUpdate>>>>),
    /// Boards, for clients.
    Boards(oneshot::Sender<Vec<v1::BoardStatus>>),
    /// Workers, for clients.
    Workers(oneshot::Sender<Vec<v1::WorkerStatus>>),
    /// What happened to tasks, in the order of these.
    Stories(Vec<TaskId>, oneshot::Sender<Vec<Told>>),
    /// Take a worker out of service, or back in; nothing where it is not known.
    Drain(WorkerId, bool, oneshot::Sender<Option<v1::WorkerStatus>>),
    /// Set a board aside, or take it back.
    Mark(BoardId, Wish, oneshot::Sender<Result<v1::BoardStatus, NotMarked>>),
    /// How a board is reserved; nothing where it is not known.
    Reserved(BoardId, oneshot::Sender<Option<Reserved>>),
    /// From a session.
    Session(SessionEvent),
    /// From a preparing child.
    Prepared(u64, Outcome),
    /// A preparing child ended.
    PrepareEnded(u64),
    /// Whether the loop goes on: it answers at once.
    Alive(oneshot::Sender<()>),
}

/// A job that was made before, and what was asked for it.
pub type Known = (v1::Job, JobRow);

/// What has to be known before a job is planned.
#[derive(Debug)]
pub struct Before {
    /// The job that the key made before.
    pub known: Option<Known>,
    /// The boards that are there.
    pub boards: Arc<[Present]>,
    /// How many jobs were forgotten so far: as long as that is so, a key that is not known here and not in the store
    /// has made no job.
    pub forgotten: u64,
}

/// Why a planned job is not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Busy {
    /// Too many tasks wait.
    #[error(transparent)]
    Full(#[from] QueueFull),
    /// Its submitter has too much.
    #[error(transparent)]
    Quota(#[from] OverQuota),
    /// Its idempotency key is taken.
    #[error("this idempotency key made job {0}, which asks for something else")]
    Other(JobId),
}

/// Why the loop ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The store cannot be used any more.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// Another life of this coordinator commands the workers.
    #[error("{0}")]
    Superseded(String),
}

impl Failed {
    /// The way out, where the words do not name it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => Some(error.hint()),
            Self::Superseded(_) => None,
        }
    }
}
