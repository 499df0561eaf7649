//! What leaves the process, held until the commit before it is durable.

use std::{collections::VecDeque, fmt, iter};

use edgeprof_proto::v1;
use edgeprof_scheduler::SessionId;
use tokio::sync::oneshot;

use super::{Core, Failed};
use crate::store::{
    Committed,
    rows::{self, key},
};

/// Something that leaves.
pub(super) enum Out {
    /// A frame to a worker.
    Frame(SessionId, Box<v1::ToWorker>),
    /// The end of a session.
    Close(SessionId),
    /// An answer, or news for watchers.
    Tell(Box<dyn FnOnce() + Send + Sync>),
    /// A line of the log, which nobody waits for.
    Log(Box<dyn FnOnce() + Send + Sync>),
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(session, frame) => f.debug_tuple("Frame").field(session).field(frame).finish(),
            Self::Close(session) => f.debug_tuple("Close").field(session).finish(),
            Self::Tell(_) => f.write_str("Tell"),
            Self::Log(_) => f.write_str("Log"),
        }
    }
}

/// In the order of the commits.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Number of the last transaction handed in.
    handed: u64,
    done: u64,
    waiting: VecDeque<(u64, Vec<Out>)>,
}

impl Outbox {
    /// Number of the last transaction handed in.
    pub(super) const fn handed(&self) -> u64 {
        self.handed
    }

    /// Number of the last that is durable.
    pub(super) const fn done(&self) -> u64 {
        self.done
    }
}

impl Core {
    /// Answers a client once everything that the answer shows is durable.
    pub(super) fn reply<T: Send + Sync + 'static>(&mut self, reply: oneshot::Sender<T>, answer: T) {
        self.outs.push(Out::Tell(Box::new(move || drop(reply.send(answer)))));
    }

    /// Ends the handling of the commands at hand: hands their changes in, and queues what waits for them.
    pub(super) async fn finish_step(&mut self) {
        self.put_tasks();
        let transaction = std::mem::take(&mut self.transaction);
        if !transaction.is_empty() {
            match self.parts.writer.hand_in(transaction).await {
                Some(number) => self.outbox.handed = number,
                // The writer says why through the other channel.
                None => return,
            }
        }
        // What they are shown is made while the disk writes.
        self.tell_submitters();
        self.tell_watchers();
        let outs = std::mem::take(&mut self.outs);
        if outs.is_empty() {
            return;
        }
        if self.outbox.done == self.outbox.handed {
            self.let_out(outs);
        } else {
            self.outbox.waiting.push_back((self.outbox.handed, outs));
        }
    }

    /// Puts the last tokens of boards into the transaction. Until then the rows of open leases have theirs.
    pub(super) fn put_tokens(&mut self) {
        for (board, token) in std::mem::take(&mut self.tokens) {
            self.transaction.put(key::token(&board), rows::encode(&token));
        }
    }

    /// Lets out what a commit justifies.
    pub(super) fn release(&mut self, state: &Committed) {
        match state {
            Committed::Nothing => {}
            Committed::Failed(error) => self.failed = Some(Failed::Store(error.clone())),
            Committed::UpTo(number) => {
                self.outbox.done = *number;
                let mut released = Vec::new();
                while self.outbox.waiting.front().is_some_and(|(at, _)| at <= number) {
                    released.extend(self.outbox.waiting.pop_front().into_iter().flat_map(|(_, outs)| outs));
                }
                self.let_out(released);
            }
        }
    }

    /// Frames of one session leave together.
    fn let_out(&mut self, outs: Vec<Out>) {
        let mut frames = Vec::new();
        let (mut closed, mut log) = (Vec::new(), Vec::new());
        for out in outs {
            match out {
                Out::Tell(tell) => tell(),
                Out::Log(line) => log.push(line),
                Out::Close(id) => closed.push(id),
                Out::Frame(id, frame) => frames.push((id, frame)),
            }
        }
        frames.sort_by_key(|(id, _)| *id);
        let mut frames = frames.into_iter().peekable();
        while let Some((id, first)) = frames.next() {
            let mut together = vec![*first];
            together.extend(iter::from_fn(|| Some(*frames.next_if(|(next, _)| *next == id)?.1)));
            let Some(session) = self.sessions.get(&id) else { continue };
            if let Err(error) = session.outgoing.send(together)
                && !session.stop.is_cancelled()
            {
                tracing::warn!(worker = %session.worker, %error, "the session is dropped");
                session.stop.cancel();
            }
        }
        for session in closed.iter().filter_map(|id| self.sessions.get(id)) {
            session.stop.cancel();
        }
        log.into_iter().for_each(|line| line());
    }
}
