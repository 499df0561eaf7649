//! A worker: its boards, its fence and outbox, which survive a crash, and what it does with commands.

use std::collections::BTreeMap;

use edgeprof_common::{
    BoardHealth, BoardId, Digest, Epoch, ErrorClass, Incarnation, TaskError, TaskId, Token, WorkerId,
};
use edgeprof_scheduler::{
    BoardReport, Command, Frame, Held, HeldState, LeaseRef, Order, Outcome, RejectReason, SessionId,
};

use super::rng::Rng;

/// What a task does to the board that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Good,
    /// Fails for the model's fault.
    Wrong,
    /// Fails for the lab's fault, mostly.
    Flaky,
    /// Never ends, but obeys a cancel.
    Hangs,
    /// Never ends and hears nothing until its worker restarts, or for two minutes.
    Deaf,
    /// Kills its worker's process.
    Deadly,
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) lease: LeaseRef,
    pub(crate) started: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SimBoard {
    pub(crate) id: BoardId,
    pub(crate) kind: &'static str,
    pub(crate) job: Option<Job>,
    /// Busy with itself after a job.
    pub(crate) resetting: bool,
    image: Option<Digest>,
}

/// Something that a worker does later; stale ones find nothing to do.
#[derive(Clone, Debug)]
pub(crate) enum Later {
    Start(Token),
    End(Token, Outcome),
    Die(Token),
    Reset(BoardId),
}

pub(crate) struct SimWorker {
    pub(crate) id: WorkerId,
    pub(crate) up: bool,
    pub(crate) frozen_until: u64,
    pub(crate) cut_until: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) session: Option<SessionId>,
    pub(crate) boards: Vec<SimBoard>,
    /// Boards sometimes need a while for themselves after a job.
    resets: bool,
    fence: BTreeMap<BoardId, Token>,
    epoch: Epoch,
    outbox: BTreeMap<Token, (LeaseRef, Outcome)>,
    pub(crate) last_command: Command,
}

impl SimWorker {
    pub(crate) fn new(index: usize, resets: bool, rng: &mut Rng) -> Self {
        let id: WorkerId = format!("w{index}").parse().unwrap();
        let board = |n: u64| SimBoard {
            id: BoardId::on(&id, &format!("b{n}")).unwrap(),
            kind: if n.is_multiple_of(2) { "m4" } else { "m3" },
            job: None,
            resetting: false,
            image: None,
        };
        let boards = (0..rng.between(1, 3)).map(board).collect();
        Self {
            id,
            up: true,
            frozen_until: 0,
            cut_until: 0,
            incarnation: Incarnation::from_raw(rng.next()),
            session: None,
            boards,
            resets,
            fence: BTreeMap::new(),
            epoch: Epoch(0),
            outbox: BTreeMap::new(),
            last_command: Command(0),
        }
    }

    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.session = None;
        self.last_command = Command(0);
        for board in &mut self.boards {
            board.job = None;
            board.resetting = false;
            board.image = None;
        }
    }

    /// The handshake: raises the fence, closes older sessions, tells everything.
    pub(crate) fn hello(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        issued: &BTreeMap<BoardId, Token>,
    ) -> Option<(Vec<BoardReport>, Vec<Held>)> {
        if epoch < self.epoch {
            return None;
        }
        if epoch > self.epoch {
            self.epoch = epoch;
            self.last_command = Command(0);
        }
        for (board, token) in issued {
            let fence = self.fence.entry(board.clone()).or_insert(*token);
            *fence = (*fence).max(*token);
        }
        self.session = Some(session);
        Some((self.reports(), self.held()))
    }

    fn reports(&self) -> Vec<BoardReport> {
        self.boards.iter().map(|board| self.report(board)).collect()
    }

    fn report(&self, board: &SimBoard) -> BoardReport {
        BoardReport {
            id: board.id.clone(),
            kind: board.kind.into(),
            uid: None,
            labels: BTreeMap::new(),
            health: BoardHealth::Good,
            reason: None,
            idle: board.job.is_none() && !board.resetting,
            queue: 0,
            model_bytes: 100,
            arena_bytes: 100,
            image: board.image,
        }
    }

    fn held(&self) -> Vec<Held> {
        let jobs = self.boards.iter().filter_map(|board| board.job.as_ref()).map(|job| Held {
            lease: job.lease.clone(),
            state: if job.started { HeldState::Running } else { HeldState::Staged },
        });
        let kept = self.outbox.values();
        jobs.chain(kept.map(|(lease, _)| Held { lease: lease.clone(), state: HeldState::Outbox })).collect()
    }

    pub(crate) fn heartbeat(&self) -> Frame {
        Frame::Heartbeat {
            boards: self.reports(),
            held: self.held(),
            last_command: self.last_command,
            draining: false,
        }
    }

    pub(crate) fn outbox(&self) -> Vec<Frame> {
        let frame = |(lease, outcome): &(LeaseRef, Outcome)| Frame::Result {
            lease: lease.clone(),
            outcome: outcome.clone(),
        };
        self.outbox.values().map(frame).collect()
    }

    pub(crate) fn has_outcome(&self, token: Token) -> Option<&Outcome> {
        self.outbox.get(&token).map(|(_, outcome)| outcome)
    }

    pub(crate) fn holds_work(&self) -> bool {
        !self.outbox.is_empty() || self.boards.iter().any(|board| board.job.is_some())
    }

    fn board_of(&mut self, token: Token) -> Option<&mut SimBoard> {
        self.boards.iter_mut().find(|board| board.job.as_ref().is_some_and(|job| job.lease.token == token))
    }

    /// Does what it is told; gives frames to send and things to do later.
    pub(crate) fn command(
        &mut self,
        command: Command,
        order: &Order,
        natures: &BTreeMap<TaskId, Nature>,
        rng: &mut Rng,
    ) -> (Vec<Frame>, Vec<(u64, Later)>) {
        self.last_command = self.last_command.max(command);
        match order {
            Order::Start { lease, .. } => self.start(lease, natures, rng),
            Order::Cancel { lease } => {
                let nature = natures.get(&lease.task).copied().unwrap_or(Nature::Good);
                if nature == Nature::Deaf || self.board_of(lease.token).is_none() {
                    return (vec![], vec![]);
                }
                (vec![], vec![(rng.between(1, 300), Later::End(lease.token, Outcome::Cancelled))])
            }
            Order::Ack { lease, .. } => {
                self.outbox.remove(&lease.token);
                (vec![], vec![])
            }
        }
    }

    fn start(
        &mut self,
        lease: &LeaseRef,
        natures: &BTreeMap<TaskId, Nature>,
        rng: &mut Rng,
    ) -> (Vec<Frame>, Vec<(u64, Later)>) {
        let reject = |reason| {
            let frame = Frame::Rejected { lease: lease.clone(), reason, message: "no".into() };
            (vec![frame], vec![])
        };
        if let Some((_, outcome)) = self.outbox.get(&lease.token) {
            return (vec![Frame::Result { lease: lease.clone(), outcome: outcome.clone() }], vec![]);
        }
        if let Some(board) = self.board_of(lease.token) {
            let started = board.job.as_ref().is_some_and(|job| job.started);
            let state = if started { Frame::Started } else { Frame::Accepted };
            return (vec![state(lease.clone())], vec![]);
        }
        let Some(board) = self.boards.iter_mut().find(|board| board.id == lease.board) else {
            return reject(RejectReason::UnknownBoard);
        };
        if self.fence.get(&lease.board).is_some_and(|fence| *fence >= lease.token) {
            return reject(RejectReason::Fenced);
        }
        self.fence.insert(lease.board.clone(), lease.token);
        if board.job.is_some() || board.resetting {
            return reject(RejectReason::Busy);
        }
        board.job = Some(Job { lease: lease.clone(), started: false });
        let staged = rng.between(1, 800);
        let end = staged + rng.between(10, 6000);
        let nature = natures.get(&lease.task).copied().unwrap_or(Nature::Good);
        let failed = |class| Outcome::Failed(TaskError::new(class, "sim", "as planned"));
        let last = match nature {
            Nature::Good => (end, Later::End(lease.token, Outcome::Succeeded)),
            Nature::Wrong => (end, Later::End(lease.token, failed(ErrorClass::Model))),
            Nature::Flaky if rng.chance(600) => {
                (end, Later::End(lease.token, failed(ErrorClass::Infrastructure)))
            }
            Nature::Flaky => (end, Later::End(lease.token, Outcome::Succeeded)),
            Nature::Hangs => (3_600_000, Later::End(lease.token, failed(ErrorClass::Infrastructure))),
            Nature::Deaf => (120_000, Later::End(lease.token, failed(ErrorClass::Infrastructure))),
            Nature::Deadly => (end, Later::Die(lease.token)),
        };
        (vec![Frame::Accepted(lease.clone())], vec![(staged, Later::Start(lease.token)), last])
    }

    /// Time for something planned. Dying is the caller's to do.
    pub(crate) fn later(&mut self, later: &Later, rng: &mut Rng) -> (Vec<Frame>, Vec<(u64, Later)>) {
        match later {
            Later::Start(token) => {
                let Some(job) = self.board_of(*token).and_then(|board| board.job.as_mut()) else {
                    return (vec![], vec![]);
                };
                job.started = true;
                (vec![Frame::Started(job.lease.clone())], vec![])
            }
            Later::End(token, outcome) => {
                let reset = self.resets && rng.chance(300);
                let Some(board) = self.board_of(*token) else { return (vec![], vec![]) };
                let Some(job) = board.job.take() else { return (vec![], vec![]) };
                board.resetting = reset;
                board.image = Some(Digest::of(b"image"));
                let id = board.id.clone();
                self.outbox.insert(*token, (job.lease.clone(), outcome.clone()));
                let report = self.boards.iter().find(|board| board.id == id).map(|board| self.report(board));
                let frames = vec![
                    Frame::Result { lease: job.lease, outcome: outcome.clone() },
                    Frame::Board(report.unwrap()),
                ];
                let after = reset.then(|| (rng.between(50, 1500), Later::Reset(id)));
                (frames, after.into_iter().collect())
            }
            Later::Reset(id) => {
                let Some(at) = self.boards.iter().position(|board| board.id == *id) else {
                    return (vec![], vec![]);
                };
                self.boards[at].resetting = false;
                (vec![Frame::Board(self.report(&self.boards[at]))], vec![])
            }
            Later::Die(_) => (vec![], vec![]),
        }
    }

    pub(crate) fn runs(&mut self, token: Token) -> bool {
        self.board_of(token).is_some_and(|board| board.job.as_ref().is_some_and(|job| job.started))
    }
}
