//! Transcripts out, as committed.

use edgeprof_common::TaskId;
use edgeprof_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, Api, broken, tasks_named};
use crate::store::{
    Store, StoreError,
    rows::{self, LogRow, TaskDef, key},
};

/// The attempts of a job in the order of its cells, or of one task.
pub(super) async fn stream(api: &Api, id: &str) -> Result<Answers<v1::AttemptLog>, Status> {
    let tasks = tasks_named(api, id).await?;
    let (sender, receiver) = mpsc::channel(4);
    let store = api.store.clone();
    // Ends when all are sent, or when the reader is gone.
    tokio::task::spawn_blocking(move || {
        for task in tasks {
            match read(&*store, task) {
                Ok(logs) => {
                    for log in logs {
                        if sender.blocking_send(Ok(log)).is_err() {
                            return;
                        }
                    }
                }
                Err(error) => {
                    let _ = sender.blocking_send(Err(broken(error)));
                    return;
                }
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn read(store: &dyn Store, task: TaskId) -> Result<Vec<v1::AttemptLog>, StoreError> {
    let def = rows::read::<TaskDef>(store, &key::def(task))?;
    let scenario = def.map(|def| def.scenario).unwrap_or_default();
    let mut logs = Vec::new();
    rows::for_each(store, &format!("log/{task}/"), |key, value| {
        let LogRow { board, outcome, text } = rows::unpack(key, value)?;
        logs.push(v1::AttemptLog {
            task_id: task.to_string(),
            scenario: scenario.clone(),
            board: board.to_string(),
            outcome,
            text,
        });
        Ok(())
    })?;
    Ok(logs)
}
