//! What every board is doing, and what may be asked of it. Pure.

use std::collections::{BTreeMap, VecDeque};

use edgeprof_common::{BoardHealth, BoardId, Digest, Token};
use edgeprof_proto::v1;
use edgeprof_service::telemetry::trace::SpanContext;
use tokio_util::sync::CancellationToken;

use crate::{
    outbox::Key,
    spec::{self, LeaseRef},
};

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Accepted; blobs or the board are not ready yet.
    Staged,
    /// Running.
    Running,
}

impl Held {
    /// Its word in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Running => "running",
        }
    }
}

/// An attempt that a board has.
#[derive(Debug)]
pub struct Taken {
    /// Its names.
    pub lease: LeaseRef,
    /// How far it is.
    pub held: Held,
    /// Blobs that it waits for.
    pub needs: Vec<Digest>,
    /// Ends it.
    pub cancel: CancellationToken,
    /// It was ended because the worker stops: somebody else is to run it.
    pub given_back: bool,
    /// Where its spans belong, if its trace is kept.
    pub trace: Option<SpanContext>,
}

impl Taken {
    /// One that was just accepted.
    pub fn new(lease: LeaseRef, cancel: CancellationToken) -> Self {
        Self { lease, held: Held::Staged, needs: Vec::new(), cancel, given_back: false, trace: None }
    }
}

/// One board.
#[derive(Debug)]
pub struct Slot {
    /// Its id.
    pub id: BoardId,
    /// Its kind's name.
    pub kind: String,
    /// For selecting it.
    pub labels: BTreeMap<String, String>,
    /// Attempts that it takes behind the one in work.
    pub depth: u32,
    /// No lower token is obeyed.
    pub fence: Option<Token>,
    /// The highest token whose attempt has ended.
    pub ended: Option<Token>,
    /// What it does and what waits for it, in the order of tokens.
    pub attempts: VecDeque<Taken>,
    /// How it is.
    pub health: BoardHealth,
    /// Why.
    pub reason: Option<String>,
    /// Loaded digest and version of the firmware that runs.
    pub firmware: Option<(Digest, String)>,
    /// The image that it has.
    pub image: Option<Digest>,
}

/// Why a `Start` is not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The board cannot take it now.
    Busy,
    /// A later token was issued, or this one is spent.
    Fenced,
    /// No such board here.
    UnknownBoard,
    /// It makes no sense.
    BadRequest,
    /// The worker is about to stop.
    Draining,
    /// The coordinator wanted it back.
    Recalled,
}

impl Reason {
    /// Its word in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Fenced => "fenced",
            Self::UnknownBoard => "unknown_board",
            Self::BadRequest => "bad_request",
            Self::Draining => "draining",
            Self::Recalled => "recalled",
        }
    }
}

/// What to do about a `Start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Take it.
    Take,
    /// It is held already: say so again.
    Again(Held),
    /// It has ended and its result waits: send that again.
    Resend(Key),
    /// Turn it away.
    Refuse(Reason, String),
}

/// Why no board of the worker takes anything, whatever the board is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Results cannot be kept, or too many wait.
    OutboxFull,
    /// The worker is about to stop.
    Draining,
}

impl Slot {
    /// A board that was not heard yet, which takes `depth` attempts behind the one in work.
    pub fn new(id: BoardId, kind: &str, labels: BTreeMap<String, String>, depth: u32) -> Self {
        Self {
            id,
            kind: kind.to_owned(),
            labels,
            depth,
            fence: None,
            ended: None,
            attempts: VecDeque::new(),
            health: BoardHealth::Unknown,
            reason: Some("not checked yet".into()),
            firmware: None,
            image: None,
        }
    }

    /// Raises the fence.
    pub fn raise(&mut self, token: Token) {
        self.fence = self.fence.max(Some(token));
    }

    /// Notes that an attempt has ended, and takes it out.
    pub fn end(&mut self, token: Token) -> Option<Taken> {
        self.ended = self.ended.max(Some(token));
        let at = self.attempts.iter().position(|taken| taken.lease.token == token)?;
        self.attempts.remove(at)
    }

    /// The attempt under that lease.
    pub fn taken(&mut self, lease: &LeaseRef) -> Option<&mut Taken> {
        self.attempts.iter_mut().find(|taken| taken.lease == *lease)
    }

    /// What to do about a `Start` of `lease`. `waiting`: its result is in the outbox. `closed`: why the worker
    /// takes nothing.
    pub fn decide(&self, lease: &LeaseRef, waiting: bool, closed: Option<Closed>) -> Decision {
        let refuse = Decision::Refuse;
        if waiting {
            return Decision::Resend((lease.task, lease.token));
        }
        if let Some(taken) = self.attempts.iter().find(|taken| taken.lease.token == lease.token) {
            return if taken.lease.task == lease.task {
                Decision::Again(taken.held)
            } else {
                refuse(Reason::Fenced, format!("token {} is another task's", lease.token))
            };
        }
        if let Some(fence) = self.fence.filter(|fence| lease.token < *fence) {
            return refuse(Reason::Fenced, format!("token {} is below {fence}", lease.token));
        }
        if self.ended.is_some_and(|ended| ended >= lease.token) {
            return refuse(Reason::Fenced, format!("token {} has ended and was acknowledged", lease.token));
        }
        match closed {
            Some(Closed::Draining) => return refuse(Reason::Draining, "the worker is about to stop".into()),
            Some(Closed::OutboxFull) => {
                return refuse(Reason::Busy, "too many results wait for a coordinator".into());
            }
            None => {}
        }
        if self.health != BoardHealth::Good {
            let reason = self.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            return refuse(Reason::Busy, format!("the board is {}{reason}", self.health));
        }
        if self.attempts.len() > self.depth as usize {
            let message = format!("the board has {} attempts, and takes no more", self.attempts.len());
            return refuse(Reason::Busy, message);
        }
        Decision::Take
    }

    /// The board as the coordinator hears of it.
    pub fn report(&self, closed: Option<Closed>) -> v1::BoardReport {
        let able = self.health == BoardHealth::Good && closed.is_none();
        v1::BoardReport {
            id: self.id.to_string(),
            kind: self.kind.clone(),
            uid: None,
            labels: self.labels.clone().into_iter().collect(),
            health: self.health.as_str().into(),
            reason: self.reason.clone(),
            idle: able && self.attempts.is_empty(),
            queue: if able { self.depth } else { 0 },
            firmware_digest: self.firmware.as_ref().map(|(digest, _)| digest.to_string()),
            firmware_version: self.firmware.as_ref().map(|(_, version)| version.clone()),
            image_digest: self.image.map(|digest| digest.to_string()),
        }
    }

    /// What it holds, as the coordinator hears of it.
    pub fn held(&self) -> impl Iterator<Item = v1::Held> {
        self.attempts.iter().map(|taken| v1::Held {
            lease: Some(spec::lease(taken.lease.token)),
            task_id: taken.lease.task.to_string(),
            board: self.id.to_string(),
            state: taken.held.as_str().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use edgeprof_common::{Epoch, TaskId};

    use super::*;

    fn token(epoch: u64, counter: u64) -> Token {
        Token { epoch: Epoch(epoch), counter }
    }

    fn lease(task: u128, token: Token) -> LeaseRef {
        LeaseRef { token, task: TaskId::from_raw(task), board: "w/b".parse().unwrap() }
    }

    fn slot(fence: Token) -> Slot {
        let mut slot = Slot::new("w/b".parse().unwrap(), "riscv32", BTreeMap::new(), 2);
        slot.raise(fence);
        slot.health = BoardHealth::Good;
        slot
    }

    /// Runs the first, holds the others.
    fn busy(with: &[LeaseRef], held: Held) -> Slot {
        let mut slot = slot(with.last().unwrap().token);
        slot.attempts =
            with.iter().map(|lease| Taken::new(lease.clone(), CancellationToken::new())).collect();
        slot.attempts[0].held = held;
        slot
    }

    fn word(decision: &Decision) -> String {
        match decision {
            Decision::Take => "take".into(),
            Decision::Again(held) => format!("again {}", held.as_str()),
            Decision::Resend(_) => "resend".into(),
            Decision::Refuse(reason, _) => reason.as_str().into(),
        }
    }

    #[test]
    fn starts_are_fenced_board_by_board() {
        let one = || lease(1, token(2, 5));
        let two = || lease(2, token(2, 7));
        let three = || lease(3, token(2, 8));
        let idle = || slot(token(2, 5));
        let running = || busy(&[one()], Held::Running);
        let ended = || Slot { ended: Some(token(2, 5)), ..slot(token(2, 5)) };
        let bad = || Slot { health: BoardHealth::Bad, ..slot(token(2, 5)) };
        let queued = || busy(&[one(), two()], Held::Running);
        let full = || busy(&[one(), two(), three()], Held::Running);
        let (open, outbox, draining) = (None, Some(Closed::OutboxFull), Some(Closed::Draining));
        for (name, slot, asked, waiting, closed, expected) in [
            ("a higher token", idle(), lease(1, token(2, 6)), false, open, "take"),
            ("the next epoch", idle(), lease(1, token(3, 1)), false, open, "take"),
            ("issued, but never seen here", idle(), one(), false, open, "take"),
            ("a lower token", idle(), lease(1, token(2, 4)), false, open, "fenced"),
            ("an older epoch", idle(), lease(1, token(1, 99)), false, open, "fenced"),
            ("the same again", running(), one(), false, open, "again running"),
            ("the same for another task", running(), lease(2, token(2, 5)), false, open, "fenced"),
            ("another while one runs", running(), two(), false, open, "take"),
            ("a lower one while one runs", running(), lease(2, token(2, 4)), false, open, "fenced"),
            ("staged", busy(&[one()], Held::Staged), one(), false, open, "again staged"),
            ("the running one while another waits", queued(), one(), false, open, "again running"),
            ("the waiting one again", queued(), two(), false, open, "again staged"),
            (
                "between the running and the waiting one",
                queued(),
                lease(9, token(2, 6)),
                false,
                open,
                "fenced",
            ),
            ("the last place", queued(), three(), false, open, "take"),
            ("no place left", full(), lease(4, token(2, 9)), false, open, "busy"),
            ("no place left, but held", full(), three(), false, open, "again staged"),
            ("ended, unacknowledged", ended(), one(), true, open, "resend"),
            ("ended before a restart", idle(), lease(1, token(2, 3)), true, open, "resend"),
            ("ended, acknowledged", ended(), one(), false, open, "fenced"),
            ("a bad board", bad(), lease(1, token(2, 6)), false, open, "busy"),
            ("a full outbox", idle(), lease(1, token(2, 6)), false, outbox, "busy"),
            ("a worker that stops", idle(), lease(1, token(2, 6)), false, draining, "draining"),
            ("held by a worker that stops", running(), one(), false, draining, "again running"),
            ("ended on a worker that stops", ended(), one(), true, draining, "resend"),
        ] {
            assert_eq!(word(&slot.decide(&asked, waiting, closed)), expected, "{name}");
        }
    }

    #[test]
    fn what_ends_out_of_order_does_not_come_back() {
        let mut slot = busy(&[lease(1, token(2, 5)), lease(2, token(2, 7))], Held::Running);
        assert!(slot.end(token(2, 7)).is_some() && slot.end(token(2, 5)).is_some());
        assert!(slot.end(token(2, 5)).is_none() && slot.attempts.is_empty());
        for ended in [lease(1, token(2, 5)), lease(2, token(2, 7))] {
            assert_eq!(word(&slot.decide(&ended, false, None)), "fenced");
        }
    }

    #[test]
    fn the_fence_never_sinks() {
        let mut slot = slot(token(2, 5));
        slot.raise(token(2, 3));
        slot.raise(token(1, 9));
        assert_eq!(slot.fence, Some(token(2, 5)));
        slot.raise(token(3, 0));
        assert_eq!(slot.fence, Some(token(3, 0)));
    }

    #[test]
    fn a_board_is_idle_only_if_it_can_take_work() {
        let able = |slot: &Slot, closed| (slot.report(closed).idle, slot.report(closed).queue);
        assert_eq!(able(&slot(token(1, 1)), None), (true, 2));
        assert_eq!(able(&slot(token(1, 1)), Some(Closed::OutboxFull)), (false, 0));
        assert_eq!(able(&slot(token(1, 1)), Some(Closed::Draining)), (false, 0));
        assert_eq!(able(&busy(&[lease(1, token(1, 1))], Held::Staged), None), (false, 2));
        let unknown = Slot { health: BoardHealth::Unknown, ..slot(token(1, 1)) };
        assert_eq!(able(&unknown, None), (false, 0));
    }
}
