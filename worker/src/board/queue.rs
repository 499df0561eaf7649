//! Attempts that wait for a board.
//!
//! The hub adds them in the order of their tokens and may take them back; the board's task starts them.
//! Whoever comes first under the lock decides: an attempt is either given back or started, never both.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use edgeprof_common::Token;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::spec::{LeaseRef, Spec};

/// An attempt, as the hub hands it over.
#[derive(Debug)]
pub struct Attempt {
    /// Its names.
    pub lease: LeaseRef,
    /// What to do.
    pub spec: Spec,
    /// Fires when it was taken back, or is to end.
    pub cancel: CancellationToken,
}

/// Where the log tells of every start and end of an attempt on a board, at level debug. The time between an end
/// and the next start is what the board does nothing in.
const LOG: &str = "edgeprof_worker::attempts";

impl Attempt {
    /// Says in the log that it runs from now on.
    pub fn log_start(&self) {
        let LeaseRef { task, board, .. } = &self.lease;
        tracing::debug!(target: LOG, %task, %board, image = %self.spec.image, "started");
    }

    /// Says in the log that it has run.
    pub fn log_end(&self) {
        let LeaseRef { task, board, .. } = &self.lease;
        tracing::debug!(target: LOG, %task, %board, "ended");
    }
}

/// The attempts of a board that have not started. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<VecDeque<Arc<Attempt>>>,
    /// For the one task that waits for the first.
    changed: Notify,
}

impl Queue {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Attempt>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an attempt behind the others.
    pub fn push(&self, attempt: Attempt) {
        self.waiting().push_back(Arc::new(attempt));
        self.0.changed.notify_one();
    }

    /// Takes an attempt back unless it has started, and says whether.
    pub fn take_back(&self, token: Token) -> bool {
        let taken = {
            let mut waiting = self.waiting();
            let at = waiting.iter().position(|attempt| attempt.lease.token == token);
            at.and_then(|at| waiting.remove(at))
        };
        if let Some(attempt) = &taken {
            attempt.cancel.cancel();
        }
        taken.is_some()
    }

    /// Starts the first attempt if it is that one, and says whether.
    pub fn start(&self, token: Token) -> bool {
        let mut waiting = self.waiting();
        let first = waiting.front().is_some_and(|attempt| attempt.lease.token == token);
        if first {
            waiting.pop_front();
        }
        first
    }

    /// Waits for the first attempt, which stays. Cancel safe.
    pub async fn first(&self) -> Arc<Attempt> {
        loop {
            if let Some(attempt) = self.waiting().front() {
                return Arc::clone(attempt);
            }
            self.0.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use edgeprof_boards::catalogue;
    use edgeprof_common::{Epoch, TaskId};

    use super::*;
    use crate::spec::tests::good;

    fn token(counter: u64) -> Token {
        Token { epoch: Epoch(1), counter }
    }

    fn attempt(counter: u64) -> Attempt {
        Attempt {
            lease: LeaseRef {
                token: token(counter),
                task: TaskId::from_raw(counter.into()),
                board: "w/b".parse().unwrap(),
            },
            spec: Spec::check(&good(), catalogue().get("riscv32").unwrap()).unwrap(),
            cancel: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn an_attempt_starts_or_is_taken_back_and_never_both() {
        let queue = Queue::new();
        (1..=3).for_each(|n| queue.push(attempt(n)));
        let first = queue.first().await;
        assert!(!queue.start(token(2)), "the second while the first waits");
        assert!(queue.start(token(1)) && !queue.take_back(token(1)) && !queue.start(token(1)));
        assert!(!first.cancel.is_cancelled());
        let second = queue.first().await;
        assert!(queue.take_back(token(2)) && second.cancel.is_cancelled() && !queue.start(token(2)));
        assert_eq!(queue.first().await.lease.token, token(3));
    }
}
