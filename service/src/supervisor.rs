//! What the service manager is told (systemd's `sd_notify`): that the daemon serves, that it stops, and, as long
//! as its loop answers, that it is alive. Where no manager listens, nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;

/// It serves.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It ends, and may take a while.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Says that the daemon is alive each time `answers` comes back with true, twice within the manager's patience;
/// an answer that does not come keeps the word from being said. Without a watchdog it asks nothing, and never ends.
pub async fn watch<F: Future<Output = bool>>(answers: impl FnMut() -> F) {
    match sd_notify::watchdog_enabled() {
        Some(patience) => every(patience / 2, answers, || tell(&[NotifyState::Watchdog])).await,
        None => std::future::pending().await,
    }
}

async fn every<F: Future<Output = bool>>(
    period: Duration,
    mut answers: impl FnMut() -> F,
    mut alive: impl FnMut(),
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if answers().await {
            alive();
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager cannot be told how this daemon is");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A loop that hangs is as silent as one that says no.
    #[tokio::test(start_paused = true)]
    async fn the_word_is_said_only_for_answers() {
        let (asked, said) = (Cell::new(0), Cell::new(0));
        let answers = || {
            asked.set(asked.get() + 1);
            let round = asked.get();
            async move {
                match round {
                    1 | 2 => true,
                    3 => false,
                    _ => std::future::pending().await,
                }
            }
        };
        let watched = every(Duration::from_secs(30), answers, || said.set(said.get() + 1));
        let ended = tokio::time::timeout(Duration::from_secs(600), watched).await;
        assert!(ended.is_err());
        assert_eq!((asked.get(), said.get()), (4, 2));
    }
}
