//! The log of who did what: its entries, how many refusals it takes, and how much of it is kept.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Caller;
use crate::{
    clock,
    store::rows::{AuditRow, Outcome},
};

/// Refusals that are listed one after the other, and how often one more is.
const BURST: u32 = 100;
const EACH: Duration = Duration::from_millis(200);

/// How much of the log is kept. The configuration's section `[audit]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// Nothing older.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// At most so many entries.
    pub max_entries: u64,
}

impl Default for Keep {
    fn default() -> Self {
        // Three months, as the format of durations counts them.
        Self { keep: Duration::from_secs(3 * 2_630_016), max_entries: 100_000 }
    }
}

/// What `caller` does.
#[must_use]
pub fn entry(caller: &Caller, rpc: &'static str, target: impl ToString, detail: impl ToString) -> AuditRow {
    AuditRow {
        at: clock::now_ms(),
        who: caller.name.clone(),
        role: Some(caller.role),
        via: Some(caller.via.to_string()),
        from: caller.address.to_string(),
        rpc: rpc.to_owned(),
        target: target.to_string(),
        detail: detail.to_string(),
        outcome: Outcome::Done,
        unlisted: 0,
    }
}

/// How many refusals are listed: whoever asks a thousand times a second must not push out what was changed.
#[derive(Debug)]
pub(super) struct Room {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u32,
    filled: Instant,
    unlisted: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { state: Mutex::new(State { left: BURST, filled: Instant::now(), unlisted: 0 }) }
    }
}

impl Room {
    /// Whether there is room for one more: how many before it had none.
    pub(super) fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = now.saturating_duration_since(state.filled).as_millis() / EACH.as_millis();
        if let Ok(fresh) = u32::try_from(fresh)
            && fresh < BURST
        {
            state.left = (state.left + fresh).min(BURST);
            state.filled += EACH * fresh;
        } else {
            (state.left, state.filled) = (BURST, now);
        }
        if state.left == 0 {
            state.unlisted += 1;
            return None;
        }
        state.left -= 1;
        Some(std::mem::take(&mut state.unlisted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_is_counted_and_not_listed() {
        let room = Room::default();
        let listed = (0..1000).filter(|_| room.take(Instant::now()).is_some()).count();
        assert_eq!(listed, BURST as usize);
        tokio::time::advance(EACH * 2).await;
        assert_eq!(room.take(Instant::now()), Some(900));
        assert_eq!(room.take(Instant::now()), Some(0));
        assert_eq!(room.take(Instant::now()), None);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(room.take(Instant::now()), Some(1));
        assert_eq!((0..1000).filter(|_| room.take(Instant::now()).is_some()).count(), BURST as usize - 1);
    }
}
