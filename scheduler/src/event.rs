//! What happens to the scheduler.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use edgeprof_common::{
    BoardHealth, BoardId, Digest, Incarnation, JobId, Priority, TaskError, TaskId, Token, WorkerId,
};
use serde::{Deserialize, Serialize};

use crate::{BoardRow, Estimate, Image, Requirement, TaskRow};

/// One session with a worker, numbered by the caller; never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Number of a command to one worker. Rises within a coordinator's life, over all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command(pub u64);

/// One end of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The worker.
    pub worker: WorkerId,
    /// The session with it.
    pub session: SessionId,
}

/// A lease as it is named on the wire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseRef {
    /// The right.
    pub token: Token,
    /// To run this.
    pub task: TaskId,
    /// On this.
    pub board: BoardId,
}

/// Everything that can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A client submitted tasks. Ask [`crate::Scheduler::admits`] first. A known task id is ignored.
    Submitted {
        /// In the order in which they are to run.
        tasks: Vec<NewTask>,
    },
    /// The board image of tasks is prepared.
    Ready {
        /// The tasks.
        tasks: Vec<TaskId>,
        /// Their image.
        image: Image,
    },
    /// The board image of a task cannot be prepared.
    PrepareFailed {
        /// The task.
        task: TaskId,
        /// Why.
        error: TaskError,
    },
    /// A person cancelled a job.
    CancelJob {
        /// The job.
        job: JobId,
    },
    /// An ended job is asked of the store from now on; its tasks are unknown here.
    Forget {
        /// The job. Ignored while a task of it has not ended, or an attempt of it occupies a board.
        job: JobId,
    },
    /// A session's handshake is complete.
    WorkerUp {
        /// The new session.
        peer: Peer,
        /// The worker process's life.
        incarnation: Incarnation,
        /// Every board that the worker has.
        boards: Vec<BoardReport>,
        /// Every attempt that it holds.
        held: Vec<Held>,
        /// It takes no new work, because it is about to stop.
        draining: bool,
    },
    /// A worker's frame, in the order of its session.
    Frame {
        /// Who sent it.
        from: Peer,
        /// What it says.
        frame: Frame,
    },
    /// A session's stream ended or broke.
    SessionLost {
        /// The session that is gone.
        peer: Peer,
    },
    /// A dial to a worker was refused by its host: nothing listens there. A dial that timed out is not one.
    DialRefused {
        /// The worker.
        worker: WorkerId,
    },
    /// An operator takes a worker out of service, or back in. Known or not: the mark outlives sessions and restarts.
    Drain {
        /// The worker.
        worker: WorkerId,
        /// Whether it is to be drained.
        on: bool,
    },
    /// An operator sets a board aside, or takes it back with [`None`]; a board that was quarantined comes back
    /// through a canary run.
    Mark {
        /// The board; ignored if it is not known.
        board: BoardId,
        /// The mark.
        mark: Option<Mark>,
    },
    /// There is no canary for this board: it goes without.
    NoCanary {
        /// The board.
        board: BoardId,
    },
    /// The caller's loop stood still. Hand it in before anything that happened after the stall.
    LoopStalled {
        /// For how long.
        by: Duration,
    },
    /// Time passed.
    Tick,
}

/// A task that a client submitted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTask {
    /// The task.
    pub id: TaskId,
    /// The job that it is a cell of.
    pub job: JobId,
    /// Its class in the queue.
    pub priority: Priority,
    /// Which boards it may run on.
    pub requirement: Requirement,
    /// Its board image, if that is prepared already; else [`Event::Ready`] brings it.
    pub image: Option<Image>,
    /// Who shares the boards with whom; equal names share one queue.
    pub submitter: String,
    /// How much it computes, in tokens over all repetitions: what run times are learned for.
    pub work: u64,
}

/// Why a board gets no tasks, by somebody's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It is not trusted.
    Quarantined {
        /// A person's name, or `edgeprof` where a canary run decided.
        by: String,
        /// Why.
        reason: String,
    },
    /// A person works with it.
    Reserved {
        /// A person's name.
        by: String,
        /// For how long from now.
        left: Duration,
    },
}

/// What a worker says after the handshake.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Something that only shows that it lives.
    Heard,
    /// Its whole state, every second.
    Heartbeat {
        /// Every board that it has; mostly the same as a second before.
        boards: Arc<[BoardReport]>,
        /// Every attempt that it holds.
        held: Vec<Held>,
        /// The last command that it processed.
        last_command: Command,
        /// It takes no new work, because it is about to stop.
        draining: bool,
    },
    /// One board changed.
    Board(BoardReport),
    /// It took an offer and will start it.
    Accepted(LeaseRef),
    /// It did not take an offer.
    Rejected {
        /// The offer.
        lease: LeaseRef,
        /// Why not.
        reason: RejectReason,
        /// The same for a person.
        message: String,
    },
    /// The board runs it.
    Started(LeaseRef),
    /// How far it is.
    Progress {
        /// The attempt.
        lease: LeaseRef,
        /// `stage`, `start`, `warmup` or `run`.
        phase: String,
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
    },
    /// It ended. The worker keeps the result until it is acknowledged.
    Result {
        /// The attempt.
        lease: LeaseRef,
        /// How it ended; the measurement itself stays with the caller.
        outcome: Outcome,
    },
}

/// How an attempt ended on its worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a measurement.
    Succeeded,
    /// With an error.
    Failed(TaskError),
    /// On command.
    Cancelled,
}

/// Why a worker does not take an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The board runs something.
    Busy,
    /// The token is below the board's last.
    Fenced,
    /// It has no such board.
    UnknownBoard,
    /// It takes no new work; what it held comes back too, even if it was running.
    Draining,
    /// It gives back on command what it had not started.
    Recalled,
    /// It cannot do what the offer asks.
    BadRequest,
}

/// A board as its worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardReport {
    /// The board.
    pub id: BoardId,
    /// Its entry of the catalogue.
    pub kind: String,
    /// Chip UID or probe serial.
    pub uid: Option<String>,
    /// Its labels, which every copy of the report shares.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Whether it answers.
    pub health: BoardHealth,
    /// Why it does not.
    pub reason: Option<String>,
    /// Whether it has no attempt and would start one now.
    pub idle: bool,
    /// How many attempts it takes behind the one in work.
    pub queue: u32,
    /// Size of its model region; 0 if the kind is not known.
    pub model_bytes: u64,
    /// Size of its arena region; 0 if the kind is not known.
    pub arena_bytes: u64,
    /// The board image that it has loaded.
    pub image: Option<Digest>,
}

/// An attempt that a worker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The attempt.
    pub lease: LeaseRef,
    /// How far it is.
    pub state: HeldState,
}

/// How far a held attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldState {
    /// Taken, not started; occupies its board.
    Staged,
    /// On the board.
    Running,
    /// Ended; its result waits for an acknowledgement and its board is free.
    Outbox,
}

/// What a store gives back at the start of a process.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The last row of every task of a job that was not forgotten.
    pub tasks: Vec<TaskRow>,
    /// Above the place in the order of submission of every task of the others.
    pub next_seq: u64,
    /// The last token issued for each board.
    pub tokens: BTreeMap<BoardId, Token>,
    /// What is kept of boards. The spans in it are what is left of them.
    pub boards: Vec<BoardRow>,
    /// Workers that an operator drained.
    pub drained: BTreeSet<WorkerId>,
    /// What was learned of run times.
    pub estimates: Vec<Estimate>,
}
