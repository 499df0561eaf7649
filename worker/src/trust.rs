//! Whether the coordinator can still be taken to mean what it said.
//!
//! A coordinator that hears nothing of a worker gives its attempts to others. A worker that hears nothing of
//! the coordinator, because the link or the worker itself stood still, must therefore start nothing more
//! until it was greeted anew.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// After so long a silence nothing is started. No coordinator gives a worker up sooner.
pub const SILENCE: Duration = Duration::from_secs(3);

/// The hub's side: when the coordinator was last heard; absent without a session.
#[derive(Debug, Default)]
pub struct Trust(watch::Sender<Option<Instant>>);

impl Trust {
    /// Nobody was heard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame came.
    pub fn heard(&self) {
        self.0.send_replace(Some(Instant::now()));
    }

    /// The session is over.
    pub fn lost(&self) {
        self.0.send_replace(None);
    }

    /// Whether there is a session whose coordinator was silent for too long.
    pub fn is_stale(&self) -> bool {
        self.0.borrow().is_some_and(|at| at.elapsed() >= SILENCE)
    }

    /// The boards' side.
    pub fn watch(&self) -> Trusted {
        Trusted(self.0.subscribe())
    }
}

/// The boards' side.
#[derive(Clone, Debug)]
pub struct Trusted(watch::Receiver<Option<Instant>>);

impl Trusted {
    /// Waits until the coordinator was heard lately. Cancel safe.
    pub async fn granted(&mut self) {
        let lately = |heard: &Option<Instant>| heard.is_some_and(|at| at.elapsed() < SILENCE);
        if self.0.wait_for(lately).await.is_err() {
            // The hub is gone: the worker is stopping.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_granted_without_a_fresh_word() {
        let trust = Trust::new();
        let mut board = trust.watch();
        let granted =
            async |board: &mut Trusted| timeout(Duration::from_secs(60), board.granted()).await.is_ok();
        assert!(!granted(&mut board).await && !trust.is_stale());
        trust.heard();
        assert!(granted(&mut board).await);
        advance(SILENCE).await;
        assert!(trust.is_stale() && !granted(&mut board).await);
        trust.heard();
        assert!(granted(&mut board).await && !trust.is_stale());
        trust.lost();
        assert!(!granted(&mut board).await && !trust.is_stale());
    }
}
