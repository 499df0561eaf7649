//! Transcripts out, as committed.

use edgeprof_common::{RunId, TaskId};
use edgeprof_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, Api, job_id, results::broken, unknown_job};
use crate::{
    core::Command,
    store::{
        Store, StoreError,
        rows::{self, LogRow, TaskDef, key},
    },
};

/// The attempts of a job in the order of its cells, or of one task.
pub(super) async fn stream(api: &Api, id: &str) -> Result<Answers<v1::AttemptLog>, Status> {
    let tasks: Vec<TaskId> = if let Ok(run) = id.parse::<RunId>() {
        vec![run.into()]
    } else if let Ok(task) = id.parse::<TaskId>() {
        vec![task]
    } else {
        let job = job_id(id)?;
        api.ask(|reply| Command::Tasks(job, reply)).await?.ok_or_else(|| unknown_job(job))?
    };
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
