//! The line of a board, in both directions.

use edgeprof_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{Client, ClientError, retry::Callee};

/// Pieces that may be on their way to the coordinator.
const QUEUE: usize = 16;

/// Where to write to the board. The console ends when it and [`Line`] are dropped.
#[derive(Clone, Debug)]
pub struct Typed {
    input: mpsc::Sender<v1::ConsoleInput>,
}

impl Typed {
    /// Writes to the board; waits while it takes nothing. Says whether the console is still there. May be
    /// dropped at any await: then nothing was written.
    pub async fn write(&self, data: &[u8]) -> bool {
        let Ok(place) = self.input.reserve().await else { return false };
        place.send(v1::ConsoleInput { board: String::new(), data: data.to_vec() });
        true
    }
}

/// What the board says.
#[derive(Debug)]
pub struct Line {
    output: Streaming<v1::ConsoleOutput>,
    callee: Callee,
}

impl Line {
    /// The next bytes; `None` when the coordinator has ended the console. May be dropped at any await.
    ///
    /// # Errors
    /// When the reservation has ended, or the board, its worker or the coordinator is lost.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        match self.output.message().await {
            Ok(message) => Ok(message.map(|output| output.data)),
            Err(status) => Err(broken(&status, &self.callee)),
        }
    }
}

impl Client {
    /// Opens the line of a board that is reserved.
    ///
    /// # Errors
    /// When there is no such board, it is not reserved, or its worker or the coordinator is out of reach.
    pub async fn console(&self, board: &str) -> Result<(Typed, Line), ClientError> {
        let (input, pieces) = mpsc::channel(QUEUE);
        // The queue has room: nothing was put into it yet.
        let _ = input.try_send(v1::ConsoleInput { board: board.to_owned(), data: Vec::new() });
        let opened = self.profiler().console(ReceiverStream::new(pieces)).await;
        let output = opened.map_err(|status| broken(&status, self.callee()))?.into_inner();
        Ok((Typed { input }, Line { output, callee: self.callee().clone() }))
    }
}

/// A console is not opened again by itself: what was on its way is lost, and somebody has to know.
fn broken(status: &Status, callee: &Callee) -> ClientError {
    match callee.lost(status) {
        Ok(reason) => ClientError::Lost { address: callee.address.clone(), reason },
        Err(error) => error,
    }
}
