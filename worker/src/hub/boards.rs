//! What people ask of a board that has no attempt.

use edgeprof_common::{BoardHealth, BoardId};
use edgeprof_proto::v1;
use tokio::sync::{mpsc::error::TrySendError, oneshot};
use tonic::Status;

use super::{Hub, Member};
use crate::board::{
    actor::Order,
    check::Check,
    console::{self, Console},
};

fn gone(_: oneshot::error::RecvError) -> Status {
    Status::unavailable("the worker is stopping")
}

impl Hub {
    /// A board that has no attempt.
    fn free(&mut self, board: &BoardId, what: &str) -> Result<&mut Member, Status> {
        let worker = &self.worker;
        let member = self
            .boards
            .get_mut(board)
            .ok_or_else(|| Status::not_found(format!("{worker} has no board {board}")))?;
        match member.slot.attempts.front() {
            Some(taken) => Err(Status::failed_precondition(format!(
                "{board} is busy with task {}; {what} when it is idle",
                taken.lease.task
            ))),
            // The board itself would answer once the person leaves.
            None if member.slot.health == BoardHealth::Maintenance => Err(Status::failed_precondition(
                format!("{board} is in use: {}; {what} when it is idle", console::OPEN),
            )),
            None => Ok(member),
        }
    }

    /// Passes the question on to the board.
    pub(super) fn check(&mut self, board: &BoardId, reply: oneshot::Sender<Result<Vec<Check>, Status>>) {
        let (ask, answer) = oneshot::channel();
        let asked =
            self.free(board, "it is checked").and_then(|member| member.order(board, Order::Check(ask)));
        if let Err(refused) = asked {
            let _ = reply.send(Err(refused));
            return;
        }
        // Ends with the board's answer, or with the board.
        tokio::spawn(async move {
            let _ = reply.send(answer.await.map_err(gone));
        });
    }

    /// Restarts a board for a person.
    pub(super) fn reset(
        &mut self,
        board: &BoardId,
        reply: oneshot::Sender<Result<v1::ResetBoardResponse, Status>>,
    ) {
        let (ask, answer) = oneshot::channel();
        let asked = self.free(board, "it is reset").and_then(|member| member.order(board, Order::Reset(ask)));
        if let Err(refused) = asked {
            let _ = reply.send(Err(refused));
            return;
        }
        tokio::spawn(async move {
            let answer = answer.await.map(|outcome| v1::ResetBoardResponse {
                health: if outcome.is_ok() { BoardHealth::Good } else { BoardHealth::Bad }.as_str().into(),
                reason: outcome.err(),
            });
            let _ = reply.send(answer.map_err(gone));
        });
    }

    /// Gives the line of a board to a person.
    pub(super) fn console(
        &mut self,
        board: &BoardId,
        console: Console,
        reply: oneshot::Sender<Result<(), Status>>,
    ) {
        let given = self.free(board, "its console opens").and_then(|member| match member.slot.health {
            BoardHealth::Good => {
                member.order(board, Order::Console(console))?;
                // Before the board says so: no attempt may slip in between.
                member.slot.health = BoardHealth::Maintenance;
                member.slot.reason = Some(console::OPEN.into());
                Ok(())
            }
            health => {
                let why = member.slot.reason.as_deref().unwrap_or("no reason is known");
                Err(Status::failed_precondition(format!("{board} is {health}: {why}")))
            }
        });
        self.board_changed(board);
        let _ = reply.send(given);
    }

    /// Restarts a board for the coordinator, whatever it does.
    pub(super) fn reset_now(&mut self, board: &str) {
        let member = board.parse::<BoardId>().ok().and_then(|board| self.boards.get(&board));
        match member {
            Some(member) => member.reset.notify_one(),
            None => tracing::warn!(board, "a board is to be reset that is not here"),
        }
    }
}

impl Member {
    fn order(&self, board: &BoardId, order: Order) -> Result<(), Status> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => {
                Status::resource_exhausted(format!("{board} has too many questions to answer"))
            }
            TrySendError::Closed(_) => {
                let why = self.slot.reason.as_deref().unwrap_or("its task has ended; restart the worker");
                Status::unavailable(format!("{board} is {}: {why}", self.slot.health))
            }
        })
    }
}
