//! A board and the attempts that it has: what is done about an order, and what an attempt comes to.

use std::{collections::VecDeque, sync::Arc};

use edgeprof_common::{BoardHealth, BoardId, Digest, ErrorClass, TaskError, Token};
use edgeprof_scheduler::{BoardReport, CANARY, Held, HeldState, LeaseRef, Outcome, RejectReason};

use super::{
    rng::Rng,
    work::{Nature, Works, run_time},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Behind another, or not begun.
    Waits,
    /// The board is made ready for it.
    Loads,
    Runs,
}

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) lease: LeaseRef,
    pub(crate) step: Step,
}

/// What to do about a `Start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Take,
    /// It is there already.
    Again(Step),
    Refuse(RejectReason),
}

#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) id: BoardId,
    pub(crate) kind: &'static str,
    /// How many attempts wait behind the one in work.
    pub(crate) queue: u32,
    /// No lower token is obeyed.
    fence: Option<Token>,
    /// The highest that was obeyed: none is obeyed twice.
    taken: Option<Token>,
    pub(crate) line: VecDeque<Attempt>,
    pub(crate) image: Option<Digest>,
    /// Busy with itself: restarts, or recovers.
    pub(crate) down: bool,
    /// Fails everything.
    pub(crate) broken: bool,
}

impl Board {
    pub(crate) fn new(id: BoardId, kind: &'static str, queue: u32) -> Self {
        Self {
            id,
            kind,
            queue,
            fence: None,
            taken: None,
            line: VecDeque::new(),
            image: None,
            down: false,
            broken: false,
        }
    }

    /// The process is gone: what was in memory too.
    pub(crate) fn forget(&mut self) {
        self.line.clear();
        (self.fence, self.taken, self.image, self.down) = (None, None, None, false);
    }

    pub(crate) fn raise(&mut self, token: Token) {
        self.fence = self.fence.max(Some(token));
    }

    pub(crate) fn decide(&self, lease: &LeaseRef, draining: bool) -> Decision {
        if let Some(held) = self.find(lease.token) {
            return match held.lease.task == lease.task {
                true => Decision::Again(held.step),
                false => Decision::Refuse(RejectReason::Fenced),
            };
        }
        if self.fence > Some(lease.token) || self.taken >= Some(lease.token) {
            Decision::Refuse(RejectReason::Fenced)
        } else if draining {
            Decision::Refuse(RejectReason::Draining)
        } else if self.down || self.line.len() > self.queue as usize {
            Decision::Refuse(RejectReason::Busy)
        } else {
            Decision::Take
        }
    }

    pub(crate) fn take(&mut self, lease: LeaseRef) {
        self.raise(lease.token);
        self.taken = Some(lease.token);
        self.line.push_back(Attempt { lease, step: Step::Waits });
    }

    pub(crate) fn find(&self, token: Token) -> Option<&Attempt> {
        self.line.iter().find(|attempt| attempt.lease.token == token)
    }

    /// The attempt in work, if that is the one.
    pub(crate) fn in_work(&mut self, token: Token) -> Option<&mut Attempt> {
        self.line.front_mut().filter(|attempt| attempt.lease.token == token)
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<Attempt> {
        let at = self.line.iter().position(|attempt| attempt.lease.token == token)?;
        self.line.remove(at)
    }

    pub(crate) fn vacant(&self) -> bool {
        self.line.is_empty() && !self.down
    }

    pub(crate) fn report(&self, draining: bool) -> BoardReport {
        BoardReport {
            id: self.id.clone(),
            kind: self.kind.into(),
            uid: None,
            labels: Arc::default(),
            health: if self.down { BoardHealth::Unknown } else { BoardHealth::Good },
            reason: self.down.then(|| "it is being restarted".into()),
            idle: self.vacant() && !draining,
            queue: if self.down || draining { 0 } else { self.queue },
            model_bytes: 100,
            arena_bytes: 100,
            image: self.image,
        }
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Held> {
        self.line.iter().map(|attempt| Held {
            lease: attempt.lease.clone(),
            state: if attempt.step == Step::Runs { HeldState::Running } else { HeldState::Staged },
        })
    }
}

/// How an attempt goes on once it has started.
pub(crate) enum Course {
    Ends(u64, Outcome),
    /// It takes the process down.
    Kills(u64),
    /// Until somebody stops it.
    Never,
}

pub(crate) fn course(board: &Board, lease: &LeaseRef, works: &Works, rng: &mut Rng) -> Course {
    let run = run_time(works, lease.task, board.kind).max(1);
    let nature = works.get(&lease.task).map_or(Nature::Good, |work| work.nature);
    let soon = rng.between(1, run);
    if board.broken {
        return Course::Ends(soon, failed(ErrorClass::Infrastructure, "board_crashed"));
    }
    match nature {
        _ if lease.task == CANARY => Course::Ends(run, Outcome::Succeeded),
        Nature::Good => Course::Ends(run, Outcome::Succeeded),
        Nature::Wrong => Course::Ends(run, failed(ErrorClass::Model, "bad_logits")),
        Nature::Flaky if rng.chance(400) => Course::Ends(soon, failed(ErrorClass::Infrastructure, "flaky")),
        Nature::Flaky => Course::Ends(run, Outcome::Succeeded),
        Nature::Crasher => Course::Ends(soon, failed(ErrorClass::Infrastructure, "board_crashed")),
        Nature::Hangs | Nature::Deaf => Course::Never,
        Nature::Deadly => Course::Kills(soon),
    }
}

pub(crate) fn failed(class: ErrorClass, code: &str) -> Outcome {
    Outcome::Failed(TaskError::new(class, code, "as the simulation has it"))
}
