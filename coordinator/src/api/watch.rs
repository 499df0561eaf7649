//! A job's updates as a stream. A slow reader gets the newest state, not every one before.

use std::sync::Arc;

use edgeprof_proto::v1;
use futures::stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Answers;

enum At {
    First,
    Later,
    End,
}

/// The job as it is, unless the reader has seen that; then what becomes of it, to its end.
pub(super) fn stream(
    updates: watch::Receiver<Arc<v1::JobUpdate>>,
    after: u64,
    stop: CancellationToken,
) -> Answers<v1::JobUpdate> {
    Box::pin(stream::unfold((updates, stop, At::First), move |(mut updates, stop, at)| async move {
        let mut skip = false;
        match at {
            At::End => return None,
            At::First => skip = updates.borrow().sequence <= after && after > 0,
            At::Later => {}
        }
        if skip && over(&updates.borrow()) {
            return None;
        }
        if skip || matches!(at, At::Later) {
            if skip {
                updates.mark_unchanged();
            }
            tokio::select! {
                () = stop.cancelled() => {
                    let ended = Err(Status::unavailable("the coordinator is stopping"));
                    return Some((ended, (updates, stop, At::End)));
                }
                changed = updates.changed() => changed.ok()?,
            }
        }
        let update = updates.borrow_and_update().clone();
        let next = if over(&update) { At::End } else { At::Later };
        Some((Ok((*update).clone()), (updates, stop, next)))
    }))
}

fn over(update: &v1::JobUpdate) -> bool {
    update.job.as_ref().is_some_and(|job| !matches!(job.state.as_str(), "open" | "cancelling"))
}
