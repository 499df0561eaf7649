//! Operators' words on workers and boards.

use std::time::Duration;

use edgeprof_common::{BoardId, WorkerId};
use edgeprof_proto::v1::{self, mark_board_request::Mark as Asked};
use edgeprof_scheduler::Mark;
use edgeprof_service::status::with_hint;
use tonic::{Code, Status};

use super::{Api, name, unknown_board};
use crate::core::Command;

/// Longest reservation.
const LONGEST: u64 = 30 * 24 * 3600;

/// Longest reason, in bytes.
const REASON: usize = 500;

/// Takes a worker out of service, or back in.
pub(super) async fn drain(api: &Api, request: v1::DrainWorkerRequest) -> Result<v1::WorkerStatus, Status> {
    let v1::DrainWorkerRequest { worker, undo } = request;
    let id: WorkerId = worker.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    let status = api.ask(|reply| Command::Drain(id, !undo, reply)).await?;
    status.ok_or_else(|| {
        let hint = Some("`edgeprof workers` lists the workers of this coordinator");
        with_hint(Code::NotFound, format!("there is no worker {worker}"), hint)
    })
}

/// Sets a board aside, or takes it back.
pub(super) async fn mark(api: &Api, request: v1::MarkBoardRequest) -> Result<v1::BoardStatus, Status> {
    let v1::MarkBoardRequest { board, mark, by } = request;
    let id: BoardId = board.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    name("by", &by)?;
    let by = if by.is_empty() { "somebody".to_owned() } else { by };
    let mark = match mark {
        Some(Asked::Quarantine(v1::Quarantine { reason })) => {
            if reason.len() > REASON {
                return Err(Status::invalid_argument(format!("a reason has at most {REASON} bytes")));
            }
            Some(Mark::Quarantined { by, reason })
        }
        Some(Asked::Reserve(v1::Reserve { seconds })) => {
            if !(1..=LONGEST).contains(&seconds) {
                let what = format!("a reservation lasts 1 s to 30 days, not {seconds} s");
                return Err(Status::invalid_argument(what));
            }
            Some(Mark::Reserved { by, left: Duration::from_secs(seconds) })
        }
        Some(Asked::Unmark(v1::Unmark {})) => None,
        None => return Err(Status::invalid_argument("the request names no mark")),
    };
    let status = api.ask(|reply| Command::Mark(id, mark, reply)).await?;
    status.ok_or_else(|| unknown_board(&board))
}
