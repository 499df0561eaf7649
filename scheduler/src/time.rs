//! Time as the scheduler sees it: handed in, never read.

use std::time::Duration;

/// Milliseconds of a monotonic clock since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub u64);

impl Now {
    /// This much later.
    #[must_use]
    pub fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// How long ago `earlier` was; zero if it was not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// The scheduler's own time: the caller's without the spans in which the caller's loop stood still.
///
/// Every deadline is kept in this time, so a stall shifts all of them at once. It never runs backward.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    stalled: u64,
    last: Now,
}

impl Clock {
    /// Own time at the caller's `now`.
    pub(crate) fn advance(&mut self, now: Now) -> Now {
        self.last = self.last.max(Now(now.0.saturating_sub(self.stalled)));
        self.last
    }

    /// Takes a span out of time.
    pub(crate) fn stall(&mut self, by: Duration) {
        self.stalled = self.stalled.saturating_add(millis(by));
    }

    /// The caller's time at own time `at`.
    pub(crate) const fn outside(&self, at: Now) -> Now {
        Now(at.0.saturating_add(self.stalled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_shifts_every_deadline_and_time_never_runs_backward() {
        let mut clock = Clock::default();
        let deadline = clock.advance(Now(1000)).plus(Duration::from_secs(5));
        assert_eq!(clock.outside(deadline), Now(6000));
        clock.stall(Duration::from_secs(9));
        assert_eq!(clock.advance(Now(9500)), Now(1000));
        assert_eq!(clock.outside(deadline), Now(15_000));
        assert_eq!(clock.advance(Now(15_000)), deadline);
    }
}
