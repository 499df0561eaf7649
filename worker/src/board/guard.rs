//! A board's task that ends by a fault of this program takes no neighbour along, and leaves nobody waiting.

use edgeprof_common::{BoardId, ErrorClass, TaskError};
use tokio::{sync::mpsc, task::JoinHandle};

use super::actor::Event;

/// Tells the hub if a board's task ends in any way but by being told to.
pub async fn guard(board: BoardId, task: JoinHandle<()>, events: mpsc::Sender<(BoardId, Event)>) {
    if let Err(fault) = task.await {
        tracing::error!(%board, %fault, "the board's task has ended");
        let _ = events.send((board, Event::Broken(fault.to_string()))).await;
    }
}

/// What becomes of an attempt that such a task had begun.
pub fn broken(fault: &str) -> TaskError {
    TaskError::new(ErrorClass::Infrastructure, "board_task", format!("the worker has a fault: {fault}"))
        .with_hint("restart the worker, and report this with its log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_of_and_one_that_ends_is_not() {
        let (events, mut told) = mpsc::channel(1);
        let board: BoardId = "w/noop.0".parse().unwrap();
        guard(board.clone(), tokio::spawn(async {}), events.clone()).await;
        assert!(told.try_recv().is_err());
        guard(board.clone(), tokio::spawn(async { panic!("on purpose") }), events).await;
        match told.recv().await {
            Some((of, Event::Broken(fault))) if of == board => {
                assert!(fault.contains("on purpose"), "{fault}")
            }
            other => panic!("{other:?}"),
        }
    }
}
