//! A worker: its hub, its boards, its disk. What it answers to orders, and what it does on its own.

use edgeprof_common::{BoardId, ErrorClass, Incarnation, Token, WorkerId};
use edgeprof_scheduler::{
    BoardReport, Command, Frame, Held, HeldState, LeaseRef, Order, Outcome, RejectReason, SessionId,
};

use super::{
    board::{Board, Course, Decision, Step, course, failed},
    disk::Disk,
    rng::Rng,
    work::{Nature, Works, image_of},
};

/// What waits is not started while no coordinator was heard for this long, in ms.
const DEAF_AFTER: u64 = 3000;

/// Between two deliveries of a result that is not acknowledged, in ms.
const AGAIN: u64 = 5000;

/// How long a stopping worker lets attempts run, in ms.
const DRAIN_GRACE: u64 = 10_000;

/// How long a stopping worker waits for acknowledgements after that, in ms.
const FLUSH_GRACE: u64 = 10_000;

/// Something that a worker does later; stale ones find nothing to do.
#[derive(Clone, Debug)]
pub(crate) enum Later {
    /// The board is ready for the attempt.
    Start(Token),
    End(Token, Outcome),
    /// The attempt kills the process.
    Die(Token),
    /// The board has recovered.
    Up(BoardId),
    /// A stopping worker looks whether it is done.
    Drain,
}

/// What comes of something: frames for the coordinator, and things to do later.
#[derive(Default)]
pub(crate) struct Out {
    pub(crate) frames: Vec<Frame>,
    pub(crate) later: Vec<(u64, Later)>,
    /// Attempts that the boards began.
    pub(crate) began: Vec<LeaseRef>,
    /// The attempt that was taken.
    pub(crate) took: Option<LeaseRef>,
    /// Images that were loaded.
    pub(crate) loads: u64,
}

pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) cluster: usize,
    pub(crate) up: bool,
    /// It stays away for good.
    pub(crate) gone: bool,
    pub(crate) frozen_until: u64,
    /// Nothing arrives here.
    pub(crate) out_cut_until: u64,
    /// Nothing of it arrives.
    pub(crate) back_cut_until: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) session: Option<SessionId>,
    pub(crate) boards: Vec<Board>,
    pub(crate) disk: Disk,
    pub(crate) last_command: Command,
    /// Since when it is about to stop.
    pub(crate) stopping: Option<u64>,
    heard: u64,
    /// Boards sometimes need a while for themselves after an attempt.
    rests: bool,
}

impl Worker {
    /// A worker with boards, each of a kind and with room for so many attempts behind the one in work.
    pub(crate) fn new(
        (cluster, name): (usize, &str),
        boards: &[(&'static str, u32)],
        rests: bool,
        rng: &mut Rng,
    ) -> Self {
        let id: WorkerId = name.parse().expect("a worker's name");
        let board = |(n, (kind, queue)): (usize, &(&'static str, u32))| {
            Board::new(BoardId::on(&id, &format!("b{n}")).expect("a board's name"), kind, *queue)
        };
        let boards = boards.iter().enumerate().map(board).collect();
        Self {
            id,
            cluster,
            up: true,
            gone: false,
            frozen_until: 0,
            out_cut_until: 0,
            back_cut_until: 0,
            incarnation: Incarnation::from_raw(rng.next()),
            session: None,
            boards,
            disk: Disk::default(),
            last_command: Command(0),
            stopping: None,
            heard: 0,
            rests,
        }
    }

    /// The process is gone; the disk is the caller's.
    pub(crate) fn die(&mut self) {
        self.up = false;
        self.session = None;
        self.last_command = Command(0);
        self.stopping = None;
        self.frozen_until = 0;
        self.boards.iter_mut().for_each(Board::forget);
    }

    pub(crate) fn reports(&self) -> Vec<BoardReport> {
        self.boards.iter().map(|board| board.report(self.stopping.is_some())).collect()
    }

    pub(crate) fn held(&self) -> Vec<Held> {
        let kept = self.disk.outbox.values();
        let kept = kept.map(|kept| Held { lease: kept.lease.clone(), state: HeldState::Outbox });
        self.boards.iter().flat_map(Board::held).chain(kept).collect()
    }

    pub(crate) fn heartbeat(&self) -> Frame {
        Frame::Heartbeat {
            boards: self.reports().into(),
            held: self.held(),
            last_command: self.last_command,
            draining: self.stopping.is_some(),
        }
    }

    /// Results that were not sent for a while, or all of them.
    pub(crate) fn deliver(&mut self, now: u64, all: bool) -> Vec<Frame> {
        let due = self.disk.outbox.values_mut().filter(|kept| all || kept.sent + AGAIN <= now);
        due.map(|kept| {
            kept.sent = now;
            Frame::Result { lease: kept.lease.clone(), outcome: kept.outcome.clone() }
        })
        .collect()
    }

    pub(crate) fn holds_work(&self) -> bool {
        // Nobody waits for what stays away for good.
        !self.gone && (!self.disk.outbox.is_empty() || self.boards.iter().any(|board| !board.line.is_empty()))
    }

    fn with(&mut self, token: Token) -> Option<usize> {
        self.boards.iter().position(|board| board.find(token).is_some())
    }

    /// A frame of the coordinator was read.
    pub(crate) fn hear(&mut self, now: u64, works: &Works, rng: &mut Rng, out: &mut Out) {
        self.heard = now;
        for at in 0..self.boards.len() {
            self.go_on(at, now, works, rng, out);
        }
    }

    /// Does what it is told.
    pub(crate) fn obey(
        &mut self,
        (now, command): (u64, Command),
        order: &Order,
        works: &Works,
        rng: &mut Rng,
    ) -> Out {
        let mut out = Out::default();
        self.last_command = self.last_command.max(command);
        match order {
            Order::Start { lease, .. } | Order::Canary { lease } => self.start(now, lease, &mut out),
            Order::Recall { lease } => {
                if let Some(at) = self.with(lease.token)
                    && self.boards[at].find(lease.token).is_some_and(|attempt| attempt.step != Step::Runs)
                {
                    self.boards[at].remove(lease.token);
                    out.frames.push(reject(lease, RejectReason::Recalled));
                    out.frames.push(Frame::Board(self.boards[at].report(self.stopping.is_some())));
                }
            }
            Order::Cancel { lease } => self.cancel(now, lease, works, rng, &mut out),
            Order::Ack { lease, .. } => self.disk.remove(now, lease),
            Order::Reset { board } => {
                if let Some(at) = self.boards.iter().position(|known| known.id == *board) {
                    if let Some(attempt) = self.boards[at].line.front().filter(|a| a.step != Step::Waits) {
                        let token = attempt.lease.token;
                        let outcome = failed(ErrorClass::Infrastructure, "board_reset");
                        self.end(at, token, outcome, now, &mut out);
                    }
                    self.rest(at, rng.between(500, 5000), &mut out);
                }
            }
        }
        self.hear(now, works, rng, &mut out);
        out
    }

    fn start(&mut self, now: u64, lease: &LeaseRef, out: &mut Out) {
        if let Some(kept) = self.disk.outbox.get_mut(&(lease.task, lease.token)) {
            kept.sent = now;
            out.frames.push(Frame::Result { lease: lease.clone(), outcome: kept.outcome.clone() });
            return;
        }
        let draining = self.stopping.is_some();
        let Some(board) = self.boards.iter_mut().find(|board| board.id == lease.board) else {
            return out.frames.push(reject(lease, RejectReason::UnknownBoard));
        };
        match board.decide(lease, draining) {
            Decision::Refuse(reason) => out.frames.push(reject(lease, reason)),
            Decision::Again(step) => {
                out.frames.push(Frame::Accepted(lease.clone()));
                out.frames.extend((step == Step::Runs).then(|| Frame::Started(lease.clone())));
            }
            Decision::Take => {
                board.take(lease.clone());
                out.took = Some(lease.clone());
                out.frames.push(Frame::Accepted(lease.clone()));
            }
        }
    }

    fn cancel(&mut self, now: u64, lease: &LeaseRef, works: &Works, rng: &mut Rng, out: &mut Out) {
        let Some(at) = self.with(lease.token) else { return };
        let deaf = works.get(&lease.task).is_some_and(|work| work.nature == Nature::Deaf);
        match self.boards[at].find(lease.token).map(|attempt| attempt.step) {
            Some(Step::Waits) => self.end(at, lease.token, Outcome::Cancelled, now, out),
            Some(Step::Runs) if deaf => {}
            _ => out.later.push((rng.between(1, 300), Later::End(lease.token, Outcome::Cancelled))),
        }
    }

    /// Lets the first attempt of a board begin, if it may.
    fn go_on(&mut self, at: usize, now: u64, works: &Works, rng: &mut Rng, out: &mut Out) {
        let heard = self.session.is_some() && now < self.heard + DEAF_AFTER;
        let board = &mut self.boards[at];
        if board.down || !heard || self.stopping.is_some() {
            return;
        }
        let Some(first) = board.line.front_mut().filter(|attempt| attempt.step == Step::Waits) else {
            return;
        };
        first.step = Step::Loads;
        let image = image_of(works, first.lease.task);
        let loaded = board.image.replace(image) == Some(image);
        let load = if loaded { rng.between(0, 5) } else { rng.between(50, 800) };
        out.loads += u64::from(!loaded);
        out.later.push((load, Later::Start(first.lease.token)));
    }

    /// An attempt ended: its result is written, then sent.
    fn end(&mut self, at: usize, token: Token, outcome: Outcome, now: u64, out: &mut Out) {
        let Some(attempt) = self.boards[at].remove(token) else { return };
        self.disk.put(now, attempt.lease.clone(), outcome.clone());
        out.frames.push(Frame::Result { lease: attempt.lease, outcome });
        out.frames.push(Frame::Board(self.boards[at].report(self.stopping.is_some())));
    }

    fn rest(&mut self, at: usize, wait: u64, out: &mut Out) {
        self.boards[at].down = true;
        self.boards[at].image = None;
        let id = self.boards[at].id.clone();
        out.frames.push(Frame::Board(self.boards[at].report(self.stopping.is_some())));
        out.later.push((wait, Later::Up(id)));
    }

    /// Time for something planned. Dying is the caller's to do.
    pub(crate) fn later(&mut self, now: u64, later: Later, works: &Works, rng: &mut Rng) -> Out {
        let mut out = Out::default();
        match later {
            Later::Start(token) => {
                let Some(at) = self.with(token) else { return out };
                let Some(attempt) = self.boards[at].in_work(token) else { return out };
                attempt.step = Step::Runs;
                let lease = attempt.lease.clone();
                out.frames.push(Frame::Started(lease.clone()));
                match course(&self.boards[at], &lease, works, rng) {
                    Course::Ends(wait, outcome) => out.later.push((wait, Later::End(token, outcome))),
                    Course::Kills(wait) => out.later.push((wait, Later::Die(token))),
                    Course::Never => {}
                }
                out.began.push(lease);
            }
            Later::End(token, outcome) => {
                let Some(at) = self.with(token) else { return out };
                let crashed = matches!(&outcome, Outcome::Failed(e) if e.class == ErrorClass::Infrastructure);
                self.end(at, token, outcome, now, &mut out);
                if crashed {
                    self.rest(at, rng.between(200, 3000), &mut out);
                } else if self.rests && rng.chance(150) {
                    self.rest(at, rng.between(50, 1500), &mut out);
                }
                self.go_on(at, now, works, rng, &mut out);
            }
            Later::Up(id) => {
                if let Some(at) = self.boards.iter().position(|board| board.id == id) {
                    self.boards[at].down = false;
                    out.frames.push(Frame::Board(self.boards[at].report(self.stopping.is_some())));
                    self.go_on(at, now, works, rng, &mut out);
                }
            }
            Later::Drain | Later::Die(_) => {}
        }
        out
    }

    /// It is told to stop: what has not started goes back at once.
    pub(crate) fn stop(&mut self, now: u64) -> Out {
        let mut out = Out::default();
        self.stopping = Some(now);
        out.frames.push(self.heartbeat());
        self.give_back(&mut out, |step| step != Step::Runs);
        out.later.push((200, Later::Drain));
        out
    }

    /// Whether a stopping worker may exit; what still runs after the grace goes back.
    pub(crate) fn drained(&mut self, now: u64, out: &mut Out) -> bool {
        let Some(since) = self.stopping else { return false };
        if now >= since + DRAIN_GRACE {
            self.give_back(out, |_| true);
        }
        out.later.push((200, Later::Drain));
        let empty = self.boards.iter().all(|board| board.line.is_empty());
        let flushed = self.disk.outbox.is_empty() || self.session.is_none();
        empty && (flushed || now >= since + DRAIN_GRACE + FLUSH_GRACE)
    }

    fn give_back(&mut self, out: &mut Out, which: fn(Step) -> bool) {
        for board in &mut self.boards {
            let back = board.line.iter().filter(|attempt| which(attempt.step));
            out.frames.extend(back.map(|attempt| reject(&attempt.lease, RejectReason::Draining)));
            board.line.retain(|attempt| !which(attempt.step));
        }
    }

    pub(crate) fn runs(&self, token: Token) -> bool {
        self.boards.iter().any(|board| board.find(token).is_some_and(|attempt| attempt.step == Step::Runs))
    }
}

fn reject(lease: &LeaseRef, reason: RejectReason) -> Frame {
    Frame::Rejected { lease: lease.clone(), reason, message: "as the simulation has it".into() }
}
