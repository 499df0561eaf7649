//! A board that does nothing: it takes any attempt, lets a time pass, and gives no figures.

use std::time::Duration;

use edgeprof_boards::NOOP;
use edgeprof_common::{BoardHealth, BoardId};
use edgeprof_proto::v1;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    actor::{Event, Inbox, Order, Outcome},
    check::Check,
    error::BoardError,
    queue::Attempt,
    usage::{Phase, Usage},
};

/// Why there are no figures.
const REASON: &str = "a board of kind noop does nothing: there are no figures";

/// The task of such a board.
#[derive(Debug)]
pub struct Noop {
    /// Its id.
    pub id: BoardId,
    /// What every attempt takes.
    pub run: Duration,
    /// From the hub.
    pub inbox: Inbox,
    /// To the hub.
    pub events: mpsc::Sender<(BoardId, Event)>,
    /// Of its time.
    pub usage: Usage,
}

impl Noop {
    /// Serves attempts until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
    }

    async fn serve(&mut self) {
        self.tell(Event::Health(BoardHealth::Good, None)).await;
        loop {
            tokio::select! {
                attempt = self.inbox.queue.first() => self.attempt(&attempt).await,
                order = self.inbox.orders.recv() => match order {
                    Some(order) => self.order(order).await,
                    None => return,
                },
                () = self.inbox.reset.notified() => {}
            }
        }
    }

    async fn tell(&self, event: Event) {
        let _ = self.events.send((self.id.clone(), event)).await;
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Check(reply) => {
                let _ = reply.send(vec![Check::ok("board", "there is none: it does nothing")]);
            }
            Order::Reset(reply) => {
                let _ = reply.send(Ok(()));
            }
            Order::Console(console) => {
                console.refuse("a board of kind noop has no line".into());
                self.tell(Event::Health(BoardHealth::Good, None)).await;
            }
        }
    }

    async fn attempt(&mut self, attempt: &Attempt) {
        tokio::select! {
            biased;
            () = attempt.cancel.cancelled() => return,
            () = self.inbox.trusted.granted() => {}
        }
        if !self.inbox.queue.start(attempt.lease.token) {
            return;
        }
        self.usage.begin(attempt);
        self.tell(Event::Started(attempt.lease.clone())).await;
        let phase = Phase::begin("run", NOOP, attempt);
        let outcome = tokio::select! {
            biased;
            () = attempt.cancel.cancelled() => Outcome::Cancelled,
            () = self.inbox.reset.notified() => Outcome::Failed(BoardError::Reset.task_error()),
            () = pass(self.run) => Outcome::Measured(Box::new(nothing())),
        };
        phase.end();
        self.usage.end(attempt);
        self.tell(Event::Finished(attempt.lease.clone(), outcome, String::new())).await;
    }
}

async fn pass(time: Duration) {
    // The timer has ticks of a millisecond.
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn nothing() -> v1::Measurement {
    v1::Measurement {
        stop_reason: "length".into(),
        reasons: vec![REASON.into()],
        ..v1::Measurement::default()
    }
}
