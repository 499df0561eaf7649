//! Commands on their way to one worker. What is released at once goes at once: a command alone costs a write to the socket
//! here, and a wake-up there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    vec,
};

use edgeprof_proto::v1::ToWorker;
use tokio::sync::mpsc;

/// Commands that may wait for a slow worker: every attempt that its boards take, and every acknowledgement
/// of what they had before, at once. A worker that reads none is dropped, and delays nobody.
const ROOM: usize = 1 << 14;

/// Where the loop puts them.
#[derive(Debug)]
pub struct Outgoing {
    batches: mpsc::UnboundedSender<Vec<ToWorker>>,
    waiting: Arc<AtomicUsize>,
}

/// The worker does not read its commands, or its session has ended.
#[derive(Debug, thiserror::Error)]
#[error("too slow for its commands")]
pub struct TooSlow;

/// Where its session takes them from.
#[derive(Debug)]
pub struct Commands {
    batches: mpsc::UnboundedReceiver<Vec<ToWorker>>,
    waiting: Arc<AtomicUsize>,
    batch: vec::IntoIter<ToWorker>,
}

/// Both ends.
pub(super) fn outgoing() -> (Outgoing, Commands) {
    let (sender, batches) = mpsc::unbounded_channel();
    let waiting = Arc::<AtomicUsize>::default();
    let outgoing = Outgoing { batches: sender, waiting: waiting.clone() };
    (outgoing, Commands { batches, waiting, batch: Vec::new().into_iter() })
}

impl Outgoing {
    /// Sends commands in this order.
    ///
    /// # Errors
    /// When too many wait already, or nobody takes them any more.
    pub fn send(&self, commands: Vec<ToWorker>) -> Result<(), TooSlow> {
        let count = commands.len();
        if self.waiting.load(Ordering::Relaxed).saturating_add(count) > ROOM {
            return Err(TooSlow);
        }
        // Before they can be taken, or fewer than none would wait.
        self.waiting.fetch_add(count, Ordering::Relaxed);
        self.batches.send(commands).map_err(|_| TooSlow)
    }
}

impl Commands {
    /// The next; nothing once the loop has dropped its end. No command is lost if this is not waited for to its end.
    pub async fn next(&mut self) -> Option<ToWorker> {
        loop {
            if let Some(command) = self.batch.next() {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return Some(command);
            }
            self.batch = self.batches.recv().await?.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(numbers: std::ops::Range<usize>) -> Vec<ToWorker> {
        numbers.map(|n| ToWorker { command: n as u64, frame: None }).collect()
    }

    #[tokio::test]
    async fn commands_come_in_order_and_make_room_one_by_one() {
        let (sender, mut receiver) = outgoing();
        sender.send(commands(0..ROOM - 1)).unwrap();
        sender.send(commands(ROOM - 1..ROOM)).unwrap();
        assert!(sender.send(commands(0..1)).is_err());
        for n in 0..ROOM {
            assert_eq!(receiver.next().await.unwrap().command, n as u64);
            assert!(sender.send(commands(0..n + 2)).is_err(), "{n}");
        }
        sender.send(commands(0..ROOM)).unwrap();
        drop(sender);
        for _ in 0..ROOM {
            receiver.next().await.unwrap();
        }
        assert!(receiver.next().await.is_none());
    }

    #[test]
    fn what_nobody_takes_is_an_error() {
        let (sender, receiver) = outgoing();
        drop(receiver);
        assert!(sender.send(commands(0..1)).is_err());
    }
}
