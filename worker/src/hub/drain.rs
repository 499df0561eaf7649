//! An orderly stop: nothing new, what waits goes back, what runs may finish, results are handed over.

use std::time::Duration;

use edgeprof_common::BoardId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::Hub;
use crate::roster::Reason;

/// How long results may wait for their acknowledgement once nothing runs. What is not acknowledged then stays
/// in the outbox, and is sent when the worker is started again.
const FLUSH: Duration = Duration::from_secs(10);

/// What is given up next, and when.
#[derive(Debug)]
pub(super) struct Drain {
    done: Option<oneshot::Sender<()>>,
    stage: Stage,
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What runs may finish.
    Finishing,
    /// What runs was told to end.
    Ending,
    /// Nothing is waited for any more.
    Over,
}

impl Drain {
    /// Waits until something is to be given up; for ever where nothing is.
    pub(super) async fn due(drain: Option<&Self>) {
        match drain {
            Some(drain) if drain.stage != Stage::Over => sleep_until(drain.until).await,
            _ => std::future::pending().await,
        }
    }
}

impl Hub {
    pub(super) fn begin_drain(&mut self, done: oneshot::Sender<()>) {
        let grace = self.limits.drain_grace;
        info!(grace = ?grace, "the worker takes no new work");
        let until = Instant::now() + grace;
        self.drain = Some(Drain { done: Some(done), stage: Stage::Finishing, until });
        self.beat();
        let boards: Vec<BoardId> = self.boards.keys().cloned().collect();
        for board in &boards {
            self.give_back(board, Reason::Draining, "the worker is about to stop");
        }
    }

    /// The time is over for what was waited for.
    pub(super) fn hurry(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        match drain.stage {
            Stage::Finishing => {
                drain.stage = Stage::Ending;
                drain.until = Instant::now() + self.limits.cancel_timeout + FLUSH;
                for taken in self.boards.values_mut().flat_map(|member| &mut member.slot.attempts) {
                    warn!(task = %taken.lease.task, "an attempt is ended: the worker stops");
                    taken.given_back = true;
                    taken.cancel.cancel();
                }
            }
            Stage::Ending => drain.stage = Stage::Over,
            Stage::Over => {}
        }
    }

    /// Says when a stop loses nothing any more.
    pub(super) fn drained(&mut self) {
        let running = self.boards.values().any(|member| !member.slot.attempts.is_empty());
        let unheard = self.session.is_some() && self.outbox.iter().next().is_some();
        let Some(drain) = &mut self.drain else { return };
        if !running && unheard && drain.stage == Stage::Finishing {
            // No one is to be ended any more: only acknowledgements are waited for.
            drain.stage = Stage::Ending;
            drain.until = drain.until.min(Instant::now() + FLUSH);
        }
        if ((!running && !unheard) || drain.stage == Stage::Over)
            && let Some(done) = drain.done.take()
        {
            let _ = done.send(());
        }
    }
}
