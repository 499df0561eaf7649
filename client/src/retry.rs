//! Trying again: a coordinator that restarts is back in a moment.

use std::time::Duration;

use edgeprof_service::{channel::Dialer, status};
use tokio::time::Instant;
use tonic::Status;

use crate::error::{ClientError, transport};

/// Waits between attempts, growing, until patience ends.
#[derive(Debug)]
pub(crate) struct Backoff {
    patience: Duration,
    since: Option<Instant>,
    next: Duration,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

impl Backoff {
    pub(crate) const fn new(patience: Duration) -> Self {
        Self { patience, since: None, next: FIRST }
    }

    /// It works again.
    pub(crate) fn reset(&mut self) {
        (self.since, self.next) = (None, FIRST);
    }

    /// Whether nothing has failed since the last success.
    pub(crate) const fn is_fresh(&self) -> bool {
        self.since.is_none()
    }

    /// How long to wait now, or `None` when patience has ended.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.patience {
            return None;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        Some(wait)
    }
}

/// Who is called, and how.
#[derive(Clone, Debug)]
pub(crate) struct Callee {
    pub(crate) address: String,
    pub(crate) dialer: Dialer,
}

impl Callee {
    /// What a status means that came instead of an answer: nothing where a broken connection may come back.
    pub(crate) fn lost(&self, status: &Status) -> Result<String, ClientError> {
        let Some(reason) = transport(status) else { return Err(ClientError::from_status(status)) };
        match self.dialer.refusal() {
            // With the same certificate it would be refused again.
            Some(why) => Err(ClientError::Untrusted { address: self.address.clone(), why }),
            None => Ok(reason),
        }
    }
}

/// Calls until there is an answer that no retry can better. The call must be safe to repeat. A broken
/// connection is tried again for `patience`, and what is full too where there is room again within `room`.
pub(crate) async fn calling<T, F>(
    callee: &Callee,
    patience: Duration,
    room: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut backoff = Backoff::new(patience);
    loop {
        let status = match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) => status,
        };
        let broken = match callee.lost(&status) {
            Ok(reason) => Some(reason),
            Err(error @ ClientError::Untrusted { .. }) => return Err(error),
            Err(_) => None,
        };
        let told = status::retry_after(&status);
        // Whoever says when trying again makes sense is believed: also when that is beyond our patience.
        let in_time = told.is_some_and(|told| told <= room && !room.is_zero());
        if broken.is_none() && !in_time {
            return Err(ClientError::from_status(&status));
        }
        let Some(wait) = backoff.wait() else {
            return Err(match broken {
                Some(reason) => ClientError::Lost { address: callee.address.clone(), reason },
                None => ClientError::from_status(&status),
            });
        };
        tokio::time::sleep(told.unwrap_or(wait).min(patience)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tonic::Code;

    use super::*;

    fn at(address: &str) -> &'static Callee {
        Box::leak(Box::new(Callee { address: address.to_owned(), dialer: Dialer::default() }))
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_broken_connection_is_tried_again_until_patience_ends() {
        let mut calls = 0;
        let answer = calling(at("a"), PATIENCE, PATIENCE, || {
            calls += 1;
            ready(if calls < 4 { Err(Status::unavailable("going away")) } else { Ok(calls) })
        });
        assert_eq!(answer.await.unwrap(), 4);
        let start = Instant::now();
        let error =
            calling::<(), _>(at("http://x"), PATIENCE, PATIENCE, || ready(Err(Status::unavailable("gone"))));
        assert_eq!(error.await.unwrap_err().to_string(), "lost the coordinator at http://x: gone");
        assert!((30..=34).contains(&start.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_coordinator_cannot_reach_is_no_broken_connection() {
        let mut calls = 0;
        let away = calling::<(), _>(at("a"), PATIENCE, PATIENCE, || {
            calls += 1;
            let hint = Some("edgeprof workers");
            ready(Err(status::with_hint(Code::Unavailable, "the worker of b cannot be asked", hint)))
        });
        let error = away.await.unwrap_err();
        assert!(matches!(error, ClientError::Away { .. }) && error.unreachable());
        assert_eq!(error.to_string(), "the worker of b cannot be asked");
        assert_eq!((calls, error.hint().as_deref()), (1, Some("edgeprof workers")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final_and_a_full_queue_is_not() {
        let mut calls = 0;
        let refused = calling::<(), _>(at("a"), PATIENCE, PATIENCE, || {
            calls += 1;
            ready(Err(Status::invalid_argument("no such board")))
        });
        assert_eq!(refused.await.unwrap_err().to_string(), "no such board");
        assert_eq!(calls, 1);
        let mut calls = 0;
        let full = calling(at("a"), PATIENCE, PATIENCE, || {
            calls += 1;
            ready(if calls == 1 { Err(status::exhausted("full", Duration::from_secs(5))) } else { Ok(()) })
        });
        let start = Instant::now();
        full.await.unwrap();
        assert!((5000..5100).contains(&start.elapsed().as_millis()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_full_for_longer_than_patience_is_said_at_once() {
        let start = Instant::now();
        let full = calling::<(), _>(at("a"), PATIENCE, PATIENCE, || {
            ready(Err(status::exhausted("the disk is full", Duration::from_secs(60))))
        });
        let error = full.await.unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
        assert_eq!(error.hint().as_deref(), Some("try again after 60 s"));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_room_who_did_not_say_so() {
        let mut calls = 0;
        let full = calling::<(), _>(at("a"), PATIENCE, Duration::ZERO, || {
            calls += 1;
            ready(Err(match calls {
                1 => Status::unavailable("going away"),
                _ => status::exhausted("the queue is full", Duration::from_secs(5)),
            }))
        });
        let error = full.await.unwrap_err();
        assert!(
            matches!(error, ClientError::Full { retry_after, .. } if retry_after == Duration::from_secs(5))
        );
        assert_eq!(calls, 2);
    }
}
