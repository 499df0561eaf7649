//! Frames of the wire as the scheduler's, checked. Pure.

use std::sync::Arc;

use edgeprof_boards::catalogue;
use edgeprof_common::{Epoch, Token};
use edgeprof_proto::v1::{self, from_worker::Frame as From};
use edgeprof_scheduler::{BoardReport, Command, Frame, Held, HeldState, LeaseRef, RejectReason};

/// A token as a message.
pub const fn lease(token: Token) -> v1::Lease {
    v1::Lease { epoch: token.epoch.0, counter: token.counter }
}

/// The attempt that a message names.
pub fn lease_ref(lease: Option<&v1::Lease>, task: &str, board: &str) -> Option<LeaseRef> {
    let lease = lease?;
    let token = Token { epoch: Epoch(lease.epoch), counter: lease.counter };
    Some(LeaseRef { token, task: task.parse().ok()?, board: board.parse().ok()? })
}

/// A board as its worker sees it, with the regions of its kind.
///
/// # Errors
/// What cannot be read.
pub fn report(message: &v1::BoardReport) -> Result<BoardReport, String> {
    let kind = catalogue().get(&message.kind);
    Ok(BoardReport {
        id: message.id.parse().map_err(|error| format!("{error}"))?,
        kind: message.kind.clone(),
        uid: message.uid.clone(),
        labels: Arc::new(message.labels.clone()),
        health: message.health.parse().map_err(|error| format!("{error}"))?,
        reason: message.reason.clone(),
        idle: message.idle,
        queue: message.queue,
        model_bytes: kind.map_or(0, |kind| kind.memory.model.size),
        arena_bytes: kind.map_or(0, |kind| kind.memory.arena.size),
        image: message
            .image_digest
            .as_deref()
            .filter(|digest| !digest.is_empty())
            .map(str::parse)
            .transpose()
            .map_err(|error| format!("{error}"))?,
    })
}

/// Several of them.
///
/// # Errors
/// What cannot be read.
pub fn reports(messages: &[v1::BoardReport]) -> Result<Vec<BoardReport>, String> {
    messages.iter().map(report).collect()
}

/// The attempts that a worker holds.
///
/// # Errors
/// What cannot be read.
pub fn held(messages: &[v1::Held]) -> Result<Vec<Held>, String> {
    messages
        .iter()
        .map(|message| {
            let named = lease_ref(message.lease.as_ref(), &message.task_id, &message.board);
            let lease = named.ok_or_else(|| format!("it holds {:?} under no lease", message.task_id))?;
            let state = match message.state.as_str() {
                "staged" => HeldState::Staged,
                "running" => HeldState::Running,
                "outbox" => HeldState::Outbox,
                other => return Err(format!("an attempt is {other:?}")),
            };
            Ok(Held { lease, state })
        })
        .collect()
}

/// A heartbeat whose boards are read already.
///
/// # Errors
/// What cannot be read.
pub fn heartbeat(
    beat: &v1::Heartbeat,
    boards: Arc<[BoardReport]>,
    last_command: u64,
) -> Result<Frame, String> {
    Ok(Frame::Heartbeat {
        boards,
        held: held(&beat.held)?,
        last_command: Command(last_command),
        draining: beat.draining,
    })
}

/// Any frame but a greeting, a heartbeat, a board or a result.
///
/// # Errors
/// What cannot be read.
pub fn frame(frame: &From) -> Result<Frame, String> {
    let named = |lease: &Option<v1::Lease>, task: &str, board: &str| {
        lease_ref(lease.as_ref(), task, board).ok_or_else(|| format!("no lease for {task:?} on {board:?}"))
    };
    Ok(match frame {
        From::Accepted(m) => Frame::Accepted(named(&m.lease, &m.task_id, &m.board)?),
        From::Started(m) => Frame::Started(named(&m.lease, &m.task_id, &m.board)?),
        From::Rejected(m) => Frame::Rejected {
            lease: named(&m.lease, &m.task_id, &m.board)?,
            reason: match m.reason.as_str() {
                "busy" => RejectReason::Busy,
                "fenced" => RejectReason::Fenced,
                "unknown_board" => RejectReason::UnknownBoard,
                "draining" => RejectReason::Draining,
                "recalled" => RejectReason::Recalled,
                "bad_request" => RejectReason::BadRequest,
                other => return Err(format!("unknown reason {other:?}")),
            },
            message: m.message.clone(),
        },
        From::Progress(m) => Frame::Progress {
            lease: named(&m.lease, &m.task_id, &m.board)?,
            phase: m.phase.clone(),
            done: m.done,
            total: m.total,
        },
        From::Hello(_) | From::NeedBlob(_) | From::Heartbeat(_) | From::Board(_) | From::Result(_) => {
            Frame::Heard
        }
    })
}
