//! A job's updates as a stream. A slow reader gets the newest state, not every one before.

use std::sync::Arc;

use edgeprof_proto::v1;
use futures::stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Answers;

/// The last update of a job that nothing happens to any more.
pub(super) fn at_its_end(update: v1::JobUpdate) -> watch::Receiver<Arc<v1::JobUpdate>> {
    watch::channel(Arc::new(update)).1
}

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
        let mut wait = matches!(at, At::Later);
        match at {
            At::End => return None,
            At::First => {
                // Looked at once: what comes a moment later is news, and ends the wait.
                let now = updates.borrow_and_update();
                wait = now.sequence <= after && after > 0;
                if wait && over(&now) {
                    return None;
                }
            }
            At::Later => {}
        }
        if wait {
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

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn update(sequence: u64, state: &str) -> Arc<v1::JobUpdate> {
        let job = v1::Job { state: state.into(), ..v1::Job::default() };
        Arc::new(v1::JobUpdate { sequence, job: Some(job) })
    }

    #[tokio::test]
    async fn a_reader_that_is_up_to_date_gets_the_next_change_and_the_end() {
        let (sender, receiver) = watch::channel(update(5, "open"));
        let mut seen = stream(receiver, 5, CancellationToken::new());
        assert!(futures::poll!(seen.next()).is_pending());
        sender.send_replace(update(6, "succeeded"));
        assert_eq!(seen.next().await.unwrap().unwrap().sequence, 6);
        assert!(seen.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_has_seen_the_end_gets_nothing_and_one_that_has_not_gets_it() {
        for (after, count) in [(6, 0), (5, 1), (0, 1)] {
            let (_sender, receiver) = watch::channel(update(6, "failed"));
            let seen = stream(receiver, after, CancellationToken::new());
            assert_eq!(seen.count().await, count, "after {after}");
        }
    }
}
