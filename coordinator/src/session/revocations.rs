//! What the lab's authority has revoked, on its way to the worker of a session.

use std::{convert::Infallible, future::pending, time::Duration};

use edgeprof_proto::v1::{self, worker_client::WorkerClient};
use edgeprof_service::{channel::Channel, tls::Keeper};
use tokio::time::timeout;
use tonic::{Code, Status};

/// How long a worker may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// When a worker that has failed is asked again.
const AGAIN: Duration = Duration::from_secs(30);

/// Hands every list that is newer than the worker's own to it, for as long as the session stands.
pub(super) async fn hand_over(
    mut client: WorkerClient<Channel>,
    keeper: Option<&Keeper>,
    worker: &str,
) -> Infallible {
    let Some(keeper) = keeper else { return pending().await };
    let mut lists = keeper.revoked();
    // Of the worker's own, once it has said.
    let mut held = None;
    loop {
        let list = lists.borrow_and_update().clone();
        let newer = list.filter(|list| held.is_none_or(|held| held < list.number()));
        let outcome = match newer {
            None => Ok(()),
            Some(list) => {
                bring(&mut client, list.number(), list.der(), worker).await.map(|has| held = Some(has))
            }
        };
        let again = match outcome {
            Ok(()) => None,
            Err(status) if status.code() == Code::Unimplemented => {
                tracing::info!(worker, "an older worker: its list of what is revoked is copied by hand");
                return pending().await;
            }
            Err(status) => {
                let reason = status.message();
                tracing::warn!(worker, %reason, "the worker does not take the list of what is revoked");
                Some(AGAIN)
            }
        };
        let sooner = async {
            if lists.changed().await.is_err() {
                pending().await
            }
        };
        match again {
            Some(again) => drop(timeout(again, sooner).await),
            None => sooner.await,
        }
    }
}

/// Gives the number of the list that the worker has then. Most have this one: a number is less than a list.
async fn bring(
    client: &mut WorkerClient<Channel>,
    number: u64,
    list: &[u8],
    worker: &str,
) -> Result<u64, Status> {
    let has = put(client, Vec::new()).await?;
    if has >= number {
        return Ok(has);
    }
    let has = put(client, list.to_vec()).await?;
    tracing::info!(worker, number = has, "the worker knows what is revoked");
    Ok(has)
}

/// The number of the list that the worker has then; of an empty one, that of its own.
async fn put(client: &mut WorkerClient<Channel>, list: Vec<u8>) -> Result<u64, Status> {
    let answer = timeout(PATIENCE, client.put_revocations(v1::PutRevocationsRequest { list })).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("it does not answer"))??;
    Ok(answer.into_inner().number)
}
