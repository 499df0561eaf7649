//! Records out, as committed.

use edgeprof_common::{RunId, run::RunRecord};
use edgeprof_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, Api, broken, tasks_named};
use crate::store::{Store, rows};

/// The runs of a job in the order of its cells, or one run.
pub(super) async fn stream(api: &Api, id: &str) -> Result<Answers<v1::Run>, Status> {
    let runs: Vec<RunId> = if let Ok(run) = id.parse::<RunId>() {
        if api.store.get(&rows::key::run(run)).map_err(broken)?.is_none() {
            return Err(Status::not_found(format!("there is no run {run}")));
        }
        vec![run]
    } else {
        tasks_named(api, id).await?.into_iter().map(RunId::from).collect()
    };
    let (sender, receiver) = mpsc::channel(4);
    let store = api.store.clone();
    // Ends when all are sent, or when the reader is gone.
    tokio::task::spawn_blocking(move || {
        for run in runs {
            let answer = match read(&*store, run) {
                Ok(Some(record)) => Ok(record),
                Ok(None) => continue,
                Err(status) => Err(status),
            };
            if sender.blocking_send(answer).is_err() {
                return;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn read(store: &dyn Store, run: RunId) -> Result<Option<v1::Run>, Status> {
    let key = rows::key::run(run);
    let Some(value) = store.get(&key).map_err(broken)? else { return Ok(None) };
    let record: RunRecord = rows::unpack(&key, &value).map_err(broken)?;
    edgeprof_proto::bridge("run", &record).map(Some).map_err(|error| Status::internal(error.to_string()))
}
