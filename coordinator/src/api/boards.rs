//! Boards looked at, through their workers.

use std::time::Duration;

use edgeprof_common::BoardId;
use edgeprof_proto::v1::{self, worker_client::WorkerClient};
use edgeprof_service::{channel::connect, status::with_hint};
use tonic::{Code, Status};

use super::Api;
use crate::core::Command;

/// How long a worker may take to be reached.
const DIAL: Duration = Duration::from_secs(5);

/// How long a board may take to be looked at: an emulator is started for it.
const LOOK: Duration = Duration::from_secs(180);

/// Asks the worker of a board, over a connection of its own.
pub(super) async fn check(api: &Api, board: &str) -> Result<v1::CheckBoardResponse, Status> {
    let id: BoardId = board.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    let address = api.ask(|reply| Command::AddressOf(id, reply)).await?.ok_or_else(|| {
        let hint = Some("`edgeprof boards` lists the boards of this coordinator");
        with_hint(Code::NotFound, format!("there is no board {board}"), hint)
    })?;
    let unreachable = |why: String| {
        let hint = Some("`edgeprof workers` says how the board's worker is");
        with_hint(Code::Unavailable, format!("the worker of {board} cannot be asked: {why}"), hint)
    };
    let channel = connect(&address, DIAL).await.map_err(|error| unreachable(error.to_string()))?;
    let request = v1::CheckBoardRequest { board: board.to_owned() };
    match tokio::time::timeout(LOOK, WorkerClient::new(channel).check_board(request)).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(unreachable(format!("no answer came within {} s", LOOK.as_secs()))),
    }
}
