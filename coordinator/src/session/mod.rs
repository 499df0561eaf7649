//! Sessions with workers: one task each, which dials, greets, and carries frames both ways.

mod blobs;
mod dial;
pub mod frames;
mod outgoing;
mod refusal;
mod revocations;
mod serve;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use edgeprof_common::{BoardId, Token, WorkerId};
use edgeprof_proto::v1;
use edgeprof_scheduler::SessionId;
use edgeprof_service::channel::Dialer;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use dial::{Target, keep};
pub use outgoing::{Commands, Outgoing, TooSlow};

use crate::{artifacts::Artifacts, core::Command, store::rows::Identity};

/// How a worker was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// It announced itself.
    Mdns,
    /// It is in the configuration.
    Static,
}

impl FoundBy {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mdns => "mdns",
            Self::Static => "static",
        }
    }
}

/// What every session needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// To the loop.
    pub commands: mpsc::Sender<Command>,
    /// Who greets.
    pub identity: Identity,
    /// The lab.
    pub site: Arc<str>,
    /// Where the store is, for the words of a refusal.
    pub data: Arc<Path>,
    /// How workers are reached.
    pub dialer: Dialer,
    /// Seeds the jitter of the pauses between dials.
    pub jitter: u64,
    /// Where blobs are.
    pub artifacts: Artifacts,
    /// Number of the next session.
    pub sessions: Arc<AtomicU64>,
    /// Ends every session.
    pub stop: CancellationToken,
}

/// What a greeting says that only the loop knows.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    /// The last token issued for each board.
    pub issued: BTreeMap<BoardId, Token>,
    /// The last command number.
    pub last_command: u64,
}

/// From a session to the loop.
#[derive(Debug)]
pub enum SessionEvent {
    /// About to dial; no answer means that another session serves this worker.
    Greet {
        /// The target's key.
        key: String,
        /// The worker, once known.
        worker: Option<WorkerId>,
        /// What to say.
        reply: oneshot::Sender<Option<Greeting>>,
    },
    /// How dialling goes.
    Dialled {
        /// The target's key.
        key: String,
        /// How it was found.
        found_by: FoundBy,
        /// The address tried last.
        address: String,
        /// The worker, once known.
        worker: Option<WorkerId>,
        /// Why there is no session.
        reason: Option<String>,
        /// The worker's host answered that nothing listens.
        refused: bool,
    },
    /// The target is dialled no more; no session with it is up.
    Gone {
        /// The target's key.
        key: String,
    },
    /// The handshake is complete.
    Up(Box<Up>),
    /// Frames came.
    Frames {
        /// From which session.
        session: SessionId,
        /// What they say, in their order.
        frames: Vec<v1::FromWorker>,
        /// When they were read from the socket, however long they wait for the loop.
        read_at: Instant,
    },
    /// The stream ended.
    Lost(SessionId),
    /// The worker has seen a newer life of this coordinator.
    Superseded(String),
}

/// A new session.
#[derive(Debug)]
pub struct Up {
    /// Its number.
    pub session: SessionId,
    /// The target's key.
    pub key: String,
    /// How it was found.
    pub found_by: FoundBy,
    /// Where it is.
    pub address: String,
    /// What the worker said.
    pub hello: Box<v1::WorkerHello>,
    /// To the worker; full means that it is too slow.
    pub outgoing: Outgoing,
    /// Ends the session.
    pub stop: CancellationToken,
}
