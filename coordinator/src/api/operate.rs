//! Operators' words on workers and boards.

use std::time::Duration;

use edgeprof_common::{BoardId, WorkerId};
use edgeprof_proto::v1::{self, mark_board_request::Mark as Asked};
use edgeprof_scheduler::Mark;
use edgeprof_service::status::with_hint;
use tonic::{Code, Status};

use super::{Api, name, unknown_board};
use crate::{
    access::{Caller, audit::entry},
    core::{Command, NotMarked, Wish},
};

/// Longest reservation.
const LONGEST: u64 = 30 * 24 * 3600;

/// Longest reason, in bytes.
const REASON: usize = 500;

/// Takes a worker out of service, or back in.
pub(super) async fn drain(
    api: &Api,
    caller: &Caller,
    request: v1::DrainWorkerRequest,
) -> Result<v1::WorkerStatus, Status> {
    let v1::DrainWorkerRequest { worker, undo } = request;
    let id: WorkerId = worker.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    let note = entry(caller, "DrainWorker", &id, if undo { "undone" } else { "" });
    let status = api.ask_as(note, |reply| Command::Drain(id, !undo, reply)).await?;
    status.ok_or_else(|| {
        let hint = Some("`edgeprof workers` lists the workers of this coordinator");
        with_hint(Code::NotFound, format!("there is no worker {worker}"), hint)
    })
}

/// Sets a board aside, or takes it back.
pub(super) async fn mark(
    api: &Api,
    caller: &Caller,
    request: v1::MarkBoardRequest,
) -> Result<v1::BoardStatus, Status> {
    let v1::MarkBoardRequest { board, mark, by } = request;
    let id: BoardId = board.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    name("by", &by)?;
    let by = caller.acting_as(&by, None).map_err(|refusal| api.access.deny(caller, "MarkBoard", refusal))?;
    let caller = caller.clone().called(&by);
    let by = if by.is_empty() { "somebody".to_owned() } else { by };
    let wish = match mark {
        Some(Asked::Quarantine(v1::Quarantine { reason })) => {
            if reason.len() > REASON {
                return Err(Status::invalid_argument(format!("a reason has at most {REASON} bytes")));
            }
            Wish::Set(Mark::Quarantined { by, reason })
        }
        Some(Asked::Reserve(v1::Reserve { seconds })) => {
            if !(1..=LONGEST).contains(&seconds) {
                let what = format!("a reservation lasts 1 s to 30 days, not {seconds} s");
                return Err(Status::invalid_argument(what));
            }
            Wish::Set(Mark::Reserved { by, left: Duration::from_secs(seconds) })
        }
        Some(Asked::Unmark(v1::Unmark { mark })) => match mark.as_str() {
            "quarantined" => Wish::Unquarantine,
            "reserved" => Wish::Release,
            _ => {
                let what = format!("a mark to take back is quarantined or reserved, not {mark:?}");
                return Err(Status::invalid_argument(what));
            }
        },
        None => return Err(Status::invalid_argument("the request names no mark")),
    };
    let asked = wish.clone();
    let note = entry(&caller, "MarkBoard", &id, said(&wish));
    match api.ask_as(note, |reply| Command::Mark(id, wish, reply)).await? {
        Ok(status) => Ok(status),
        Err(NotMarked::Unknown) => Err(unknown_board(&board)),
        Err(NotMarked::Is(mark)) => Err(otherwise(&board, &asked, mark.as_ref())),
    }
}

/// What is wanted, in words.
fn said(wish: &Wish) -> String {
    match wish {
        Wish::Set(Mark::Quarantined { reason, .. }) => format!("quarantine: {reason}"),
        Wish::Set(Mark::Reserved { left, .. }) => format!("reserve for {} s", left.as_secs()),
        Wish::Unquarantine => "unquarantine".into(),
        Wish::Release => "release".into(),
    }
}

/// Who means one mark does not get another.
fn otherwise(board: &str, wish: &Wish, mark: Option<&Mark>) -> Status {
    let release = format!("`edgeprof board reserve {board} --release` gives it back");
    let is = match mark {
        Some(Mark::Reserved { by, .. }) => Some(format!("it is reserved by {by}; {release}")),
        Some(Mark::Quarantined { by, reason }) => Some(format!(
            "it is quarantined by {by}: {reason}; `edgeprof unquarantine {board}` takes it back"
        )),
        None => None,
    };
    let (what, hint) = match wish {
        Wish::Set(_) => (format!("{board} is somebody else's"), is),
        Wish::Unquarantine => (format!("{board} is not quarantined"), is),
        Wish::Release => (format!("{board} is not reserved"), is),
    };
    with_hint(Code::FailedPrecondition, what, hint.as_deref())
}
