//! What every board is doing, and what may be asked of it. Pure.

use std::collections::BTreeMap;

use edgeprof_common::{BoardHealth, BoardId, Digest, Token};
use edgeprof_proto::v1;
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

/// The attempt that a board has.
#[derive(Debug)]
pub struct Current {
    /// Its names.
    pub lease: LeaseRef,
    /// How far it is.
    pub held: Held,
    /// Blobs that it waits for.
    pub needs: Vec<Digest>,
    /// Ends it.
    pub cancel: CancellationToken,
    /// Ends it unless it runs.
    pub recall: CancellationToken,
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
    /// No lower token is obeyed.
    pub fence: Option<Token>,
    /// The token whose attempt ended last.
    pub ended: Option<Token>,
    /// What it does.
    pub current: Option<Current>,
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
}

impl Reason {
    /// Its word in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Fenced => "fenced",
            Self::UnknownBoard => "unknown_board",
            Self::BadRequest => "bad_request",
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

impl Slot {
    /// A board that was not heard yet.
    pub fn new(id: BoardId, kind: &str, labels: BTreeMap<String, String>) -> Self {
        Self {
            id,
            kind: kind.to_owned(),
            labels,
            fence: None,
            ended: None,
            current: None,
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

    /// What to do about a `Start` of `lease`. `waiting`: its result is in the outbox. `room`: the outbox
    /// takes another.
    pub fn decide(&self, lease: &LeaseRef, waiting: bool, room: bool) -> Decision {
        let refuse = Decision::Refuse;
        if waiting {
            return Decision::Resend((lease.task, lease.token));
        }
        if let Some(current) = self.current.as_ref().filter(|current| current.lease.token == lease.token) {
            return if current.lease.task == lease.task {
                Decision::Again(current.held)
            } else {
                refuse(Reason::Fenced, format!("token {} is another task's", lease.token))
            };
        }
        if let Some(fence) = self.fence.filter(|fence| lease.token < *fence) {
            return refuse(Reason::Fenced, format!("token {} is below {fence}", lease.token));
        }
        if self.ended == Some(lease.token) {
            return refuse(Reason::Fenced, format!("token {} has ended and was acknowledged", lease.token));
        }
        if let Some(current) = &self.current {
            return refuse(Reason::Busy, format!("the board has task {}", current.lease.task));
        }
        if self.health != BoardHealth::Good {
            let reason = self.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            return refuse(Reason::Busy, format!("the board is {}{reason}", self.health));
        }
        if !room {
            return refuse(Reason::Busy, "too many results wait for a coordinator".into());
        }
        Decision::Take
    }

    /// The board as the coordinator hears of it.
    pub fn report(&self, room: bool) -> v1::BoardReport {
        v1::BoardReport {
            id: self.id.to_string(),
            kind: self.kind.clone(),
            uid: None,
            labels: self.labels.clone().into_iter().collect(),
            health: self.health.as_str().into(),
            reason: self.reason.clone(),
            idle: self.current.is_none() && self.health == BoardHealth::Good && room,
            queue: 0,
            firmware_digest: self.firmware.as_ref().map(|(digest, _)| digest.to_string()),
            firmware_version: self.firmware.as_ref().map(|(_, version)| version.clone()),
            image_digest: self.image.map(|digest| digest.to_string()),
        }
    }

    /// What it holds, as the coordinator hears of it.
    pub fn held(&self) -> Option<v1::Held> {
        let current = self.current.as_ref()?;
        Some(v1::Held {
            lease: Some(spec::lease(current.lease.token)),
            task_id: current.lease.task.to_string(),
            board: self.id.to_string(),
            state: current.held.as_str().into(),
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
        let mut slot = Slot::new("w/b".parse().unwrap(), "riscv32", BTreeMap::new());
        slot.raise(fence);
        slot.health = BoardHealth::Good;
        slot
    }

    fn busy(with: LeaseRef, held: Held) -> Slot {
        let mut slot = slot(with.token);
        let (cancel, recall) = (CancellationToken::new(), CancellationToken::new());
        slot.current = Some(Current { lease: with, held, needs: Vec::new(), cancel, recall });
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
        let idle = || slot(token(2, 5));
        let running = || busy(lease(1, token(2, 5)), Held::Running);
        let ended = || Slot { ended: Some(token(2, 5)), ..slot(token(2, 5)) };
        let bad = || Slot { health: BoardHealth::Bad, ..slot(token(2, 5)) };
        for (name, slot, asked, waiting, room, expected) in [
            ("a higher token", idle(), lease(1, token(2, 6)), false, true, "take"),
            ("the next epoch", idle(), lease(1, token(3, 1)), false, true, "take"),
            ("issued, but never seen here", idle(), lease(1, token(2, 5)), false, true, "take"),
            ("a lower token", idle(), lease(1, token(2, 4)), false, true, "fenced"),
            ("an older epoch", idle(), lease(1, token(1, 99)), false, true, "fenced"),
            ("the same again", running(), lease(1, token(2, 5)), false, true, "again running"),
            ("the same for another task", running(), lease(2, token(2, 5)), false, true, "fenced"),
            ("another while one runs", running(), lease(2, token(2, 6)), false, true, "busy"),
            ("a lower one while one runs", running(), lease(2, token(2, 4)), false, true, "fenced"),
            (
                "staged",
                busy(lease(1, token(2, 5)), Held::Staged),
                lease(1, token(2, 5)),
                false,
                true,
                "again staged",
            ),
            ("ended, unacknowledged", ended(), lease(1, token(2, 5)), true, true, "resend"),
            ("ended before a restart", idle(), lease(1, token(2, 3)), true, true, "resend"),
            ("ended, acknowledged", ended(), lease(1, token(2, 5)), false, true, "fenced"),
            ("a bad board", bad(), lease(1, token(2, 6)), false, true, "busy"),
            ("a full outbox", idle(), lease(1, token(2, 6)), false, false, "busy"),
        ] {
            assert_eq!(word(&slot.decide(&asked, waiting, room)), expected, "{name}");
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
        assert!(slot(token(1, 1)).report(true).idle);
        assert!(!slot(token(1, 1)).report(false).idle);
        assert!(!busy(lease(1, token(1, 1)), Held::Staged).report(true).idle);
        assert!(!Slot { health: BoardHealth::Unknown, ..slot(token(1, 1)) }.report(true).idle);
    }
}
