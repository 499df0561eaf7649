//! The calls about workers and boards.

use std::time::Duration;

use edgeprof_proto::v1::{self, mark_board_request::Mark};

use crate::{Client, ClientError};

impl Client {
    /// Boards that carry all of these `KEY=VALUE` labels.
    ///
    /// # Errors
    /// When the coordinator refuses or is lost.
    pub async fn boards(&self, labels: &[String]) -> Result<Vec<v1::BoardStatus>, ClientError> {
        let request = v1::ListBoardsRequest { labels: labels.to_vec() };
        let answer = self.call(request, |mut p, q| async move { p.list_boards(q).await }).await?;
        Ok(answer.boards)
    }

    /// Workers that the coordinator knows.
    ///
    /// # Errors
    /// When the coordinator refuses or is lost.
    pub async fn workers(&self) -> Result<Vec<v1::WorkerStatus>, ClientError> {
        let request = v1::ListWorkersRequest {};
        let answer = self.call(request, |mut p, q| async move { p.list_workers(q).await }).await?;
        Ok(answer.workers)
    }

    /// Takes a worker out of service, or with `undo` back into it. What runs on its boards may end; the answer
    /// does not wait for that.
    ///
    /// # Errors
    /// When there is no such worker, or the coordinator is lost.
    pub async fn drain(&self, worker: &str, undo: bool) -> Result<v1::WorkerStatus, ClientError> {
        let request = v1::DrainWorkerRequest { worker: worker.to_owned(), undo };
        self.call(request, |mut p, q| async move { p.drain_worker(q).await }).await
    }

    /// Sets a board aside until [`Client::unquarantine`]; `by` is who asks.
    ///
    /// # Errors
    /// When there is no such board, or the coordinator is lost.
    pub async fn quarantine(
        &self,
        board: &str,
        reason: &str,
        by: &str,
    ) -> Result<v1::BoardStatus, ClientError> {
        self.mark(board, Mark::Quarantine(v1::Quarantine { reason: reason.to_owned() }), by).await
    }

    /// Keeps a board for `by`, in whole seconds. Asking again makes it that long from now on.
    ///
    /// # Errors
    /// When there is no such board, somebody else has it, or the coordinator is lost.
    pub async fn reserve(
        &self,
        board: &str,
        time: Duration,
        by: &str,
    ) -> Result<v1::BoardStatus, ClientError> {
        self.mark(board, Mark::Reserve(v1::Reserve { seconds: time.as_secs() }), by).await
    }

    /// Ends a quarantine: the board gets tasks again once it has passed a canary run. One that is not set aside
    /// stays so.
    ///
    /// # Errors
    /// When there is no such board, it is reserved, or the coordinator is lost.
    pub async fn unquarantine(&self, board: &str, by: &str) -> Result<v1::BoardStatus, ClientError> {
        self.mark(board, Mark::Unmark(v1::Unmark { mark: "quarantined".to_owned() }), by).await
    }

    /// Ends a reservation, whoever made it. A board that is not set aside stays so.
    ///
    /// # Errors
    /// When there is no such board, it is quarantined, or the coordinator is lost.
    pub async fn release(&self, board: &str, by: &str) -> Result<v1::BoardStatus, ClientError> {
        self.mark(board, Mark::Unmark(v1::Unmark { mark: "reserved".to_owned() }), by).await
    }

    async fn mark(&self, board: &str, mark: Mark, by: &str) -> Result<v1::BoardStatus, ClientError> {
        let request = v1::MarkBoardRequest { board: board.to_owned(), mark: Some(mark), by: by.to_owned() };
        self.call(request, |mut p, q| async move { p.mark_board(q).await }).await
    }

    /// What there is to say of a board that has no attempt.
    ///
    /// # Errors
    /// When there is no such board, it is busy, or its worker or the coordinator is out of reach.
    pub async fn check_board(&self, board: &str) -> Result<Vec<v1::Check>, ClientError> {
        let request = v1::CheckBoardRequest { board: board.to_owned() };
        let answer = self.call(request, |mut p, q| async move { p.check_board(q).await }).await?;
        Ok(answer.checks)
    }

    /// Restarts a board that has no attempt, and waits for what becomes of it. Asked once: a second restart might
    /// find the board at work.
    ///
    /// # Errors
    /// When there is no such board, it is busy, or its worker or the coordinator is out of reach.
    pub async fn reset_board(&self, board: &str) -> Result<v1::ResetBoardResponse, ClientError> {
        let request = v1::ResetBoardRequest { board: board.to_owned() };
        self.call_once(request, |mut p, q| async move { p.reset_board(q).await }).await
    }
}
