//! Boards looked at, restarted and talked to, through their workers.

use std::time::Duration;

use edgeprof_common::BoardId;
use edgeprof_proto::v1::{self, worker_client::WorkerClient};
use edgeprof_service::{channel::Channel, status::with_hint, tls::Demand};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use super::{Answers, Api, unknown_board};
use crate::{
    access::{Caller, Reason, Refusal},
    core::{Command, Reserved},
};

/// How long a worker may take to be reached.
const DIAL: Duration = Duration::from_secs(5);

/// How long a board may take to be looked at or restarted: an emulator is started for it.
const LOOK: Duration = Duration::from_secs(180);

/// How often is looked whether a board whose line is open is still reserved.
const LEFT: Duration = Duration::from_secs(2);

/// The same at most.
const LEAST: Duration = Duration::from_millis(100);

fn board_id(text: &str) -> Result<BoardId, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

fn unreachable(board: &str, why: impl std::fmt::Display) -> Status {
    let hint = Some("`edgeprof workers` says how the board's worker is");
    with_hint(Code::Unavailable, format!("the worker of {board} cannot be asked: {why}"), hint)
}

/// A worker's own words. That it is not there must not read as if the coordinator were not.
fn of_worker(board: &str, status: Status) -> Status {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled => unreachable(board, status.message()),
        _ => status,
    }
}

/// A connection of its own to the worker of a board.
async fn worker(
    api: &Api,
    board: &BoardId,
    address: Option<String>,
) -> Result<WorkerClient<Channel>, Status> {
    let name = board.as_str().split_once('/').map(|(worker, _)| worker.to_owned());
    let board = board.as_str();
    let address = address.ok_or_else(|| unreachable(board, "it is not known where it listens"))?;
    let dialer = api.dialer.demanding(Demand::Worker(name));
    let channel = dialer.connect(&address, DIAL).await.map_err(|error| unreachable(board, error))?;
    Ok(WorkerClient::new(channel))
}

async fn worker_of(api: &Api, board: &str) -> Result<WorkerClient<Channel>, Status> {
    let id = board_id(board)?;
    let reserved = api.ask(|reply| Command::Reserved(id.clone(), reply)).await?;
    worker(api, &id, reserved.ok_or_else(|| unknown_board(board))?.address).await
}

async fn patiently<T>(
    board: &str,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(LOOK, answer).await {
        Ok(answer) => answer.map(tonic::Response::into_inner).map_err(|status| of_worker(board, status)),
        Err(_) => Err(unreachable(board, format!("no answer came within {} s", LOOK.as_secs()))),
    }
}

/// Looks at a board.
pub(super) async fn check(api: &Api, caller: &Caller, board: &str) -> Result<v1::CheckBoardResponse, Status> {
    let mut worker = worker_of(api, board).await?;
    api.access.note_asked(caller, "CheckBoard", board).await?;
    patiently(board, worker.check_board(v1::CheckBoardRequest { board: board.to_owned() })).await
}

/// Restarts a board.
pub(super) async fn reset(api: &Api, caller: &Caller, board: &str) -> Result<v1::ResetBoardResponse, Status> {
    let mut worker = worker_of(api, board).await?;
    api.access.note_asked(caller, "ResetBoard", board).await?;
    patiently(board, worker.reset_board(v1::ResetBoardRequest { board: board.to_owned() })).await
}

/// The line of a board, for as long as it is reserved.
pub(super) async fn console(
    api: &Api,
    caller: &Caller,
    mut input: Streaming<v1::ConsoleInput>,
) -> Result<Answers<v1::ConsoleOutput>, Status> {
    let nothing = || Status::invalid_argument("the first message must name a board");
    let first = input.message().await?.ok_or_else(nothing)?;
    let board = first.board.clone();
    let id = board_id(&board)?;
    let Reserved { address, by } =
        api.ask(|reply| Command::Reserved(id.clone(), reply)).await?.ok_or_else(|| unknown_board(&board))?;
    let Some((by, _)) = by else { return Err(not_reserved(&board)) };
    if caller.is_proven() && by != caller.name {
        let what = format!("{board} is reserved by {by}, and {caller} has no part in it");
        let hint = format!("ask {by}, or `edgeprof board reserve {board} --release` and reserve it yourself");
        let refusal = Refusal::denied(Reason::Owner, what, hint);
        return Err(api.access.deny(caller, "Console", refusal));
    }
    let mut worker = worker(api, &id, address).await?;
    api.access.note_asked(caller, "Console", &board).await?;
    let (typed, line) = mpsc::channel(16);
    let refusals = api.refusals.clone();
    // Ends with either side: the sender fails once the worker's stream is gone.
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(message) = next {
            if typed.send(message).await.is_err() {
                return;
            }
            next = tokio::select! {
                message = input.message() => {
                    message.inspect_err(|status| refusals.count_message(status)).ok().flatten()
                }
                () = typed.closed() => None,
            };
        }
    });
    let output = worker.console(Request::new(ReceiverStream::new(line))).await;
    let output = output.map_err(|status| of_worker(&board, status))?.into_inner();
    let output = output.map(move |piece| piece.map_err(|status| of_worker(&board, status)));
    let over = reservation_ends(api.clone(), id);
    let stop = api.stop.clone().cancelled_owned();
    Ok(Box::pin(output.take_until(over).take_until(stop)))
}

/// Waits until nobody has reserved the board any more.
async fn reservation_ends(api: Api, board: BoardId) {
    loop {
        let id = board.clone();
        let Ok(Some(Reserved { by: Some((_, left)), .. })) =
            api.ask(|reply| Command::Reserved(id, reply)).await
        else {
            return;
        };
        // By another clock than its end: it may be over here, and not there yet.
        tokio::time::sleep(left.clamp(LEAST, LEFT)).await;
    }
}

fn not_reserved(board: &str) -> Status {
    let hint = format!("`edgeprof board reserve {board} --for 2h` keeps tasks away from it");
    let what = format!("{board} is not reserved: its line is for tasks");
    with_hint(Code::FailedPrecondition, what, Some(&hint))
}
