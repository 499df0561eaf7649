//! The one loop that owns the worker's state.
//!
//! Inputs are frames of the session, events of the boards, and time. Files are written from here with
//! blocking calls: nothing may leave before what justifies it is on disk, and a worker whose disk
//! hangs must look hung.

mod send;

use std::{collections::BTreeMap, time::Duration};

use edgeprof_boards::Kind;
use edgeprof_common::{BoardId, Epoch, Incarnation, Token, WorkerId};
use edgeprof_proto::{
    SESSION_PROTOCOL,
    v1::{self, FromWorker, ToWorker, from_worker::Frame as From, to_worker::Frame as To},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use self::send::{accepted, started};
use crate::{
    blobs::Blobs,
    board::{
        actor::{Attempt, Event, Order, Outcome},
        check::Check,
    },
    fence::{self, Claim, Fence, Greeting, Refusal},
    outbox::{Key, Outbox},
    roster::{Current, Decision, Held, Reason, Slot},
    spec::{self, LeaseRef, Spec},
};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Between two deliveries of a result that is not acknowledged, and of a wish for a blob.
const AGAIN: Duration = Duration::from_secs(5);

/// Frames that wait for a slow coordinator.
const OUTBOUND: usize = 256;

/// Of these, so many are kept free of redelivered results.
const SPARE: usize = 64;

/// What comes in from sessions.
#[derive(Debug)]
pub enum Input {
    /// A coordinator greets.
    Open(v1::CoordinatorHello, u64, oneshot::Sender<Result<Opened, Status>>),
    /// A later frame of the session with this number.
    Frame(u64, ToWorker),
    /// That session has ended.
    Closed(u64),
    /// Somebody asks how a board is. The answer says what was looked at, or why it was not.
    Check(BoardId, oneshot::Sender<Result<Vec<Check>, Status>>),
}

/// A session that was let in.
#[derive(Debug)]
pub struct Opened {
    /// Its number.
    pub number: u64,
    /// What to send.
    pub frames: mpsc::Receiver<Result<FromWorker, Status>>,
    /// Fires when the session is to end.
    pub stop: CancellationToken,
}

/// One board, as the hub is given it.
#[derive(Debug)]
pub struct Board {
    /// Its id.
    pub id: BoardId,
    /// Its kind.
    pub kind: &'static Kind,
    /// For selecting it.
    pub labels: BTreeMap<String, String>,
    /// Its task.
    pub orders: mpsc::Sender<Order>,
}

/// What the hub is made from.
#[derive(Debug)]
pub struct Parts {
    /// The worker's name.
    pub worker: WorkerId,
    /// Its site.
    pub site: String,
    /// Who commands.
    pub fence: Fence,
    /// What waits for acknowledgement.
    pub outbox: Outbox,
    /// The cache.
    pub blobs: Blobs,
    /// The boards.
    pub boards: Vec<Board>,
}

/// The loop's state.
#[derive(Debug)]
pub struct Hub {
    worker: WorkerId,
    site: String,
    incarnation: Incarnation,
    fence: Fence,
    outbox: Outbox,
    blobs: Blobs,
    boards: BTreeMap<BoardId, (Slot, &'static Kind, mpsc::Sender<Order>)>,
    session: Option<Session>,
    sessions: u64,
    last_command: u64,
}

#[derive(Debug)]
struct Session {
    number: u64,
    epoch: Epoch,
    frames: mpsc::Sender<Result<FromWorker, Status>>,
    stop: CancellationToken,
    /// When each unacknowledged result was sent last.
    sent: BTreeMap<Key, Instant>,
    wished: Instant,
}

impl Hub {
    /// A hub without a session.
    pub fn new(parts: Parts) -> Self {
        let Parts { worker, site, fence, outbox, blobs, boards } = parts;
        let boards = boards
            .into_iter()
            .map(|b| (b.id.clone(), (Slot::new(b.id, &b.kind.name, b.labels), b.kind, b.orders)))
            .collect();
        Self {
            worker,
            site,
            incarnation: Incarnation::random(),
            fence,
            outbox,
            blobs,
            boards,
            session: None,
            sessions: 0,
            last_command: 0,
        }
    }

    /// Runs until `stop`.
    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut events: mpsc::Receiver<(BoardId, Event)>,
        stop: CancellationToken,
    ) {
        let mut tick = interval(HEARTBEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Time first and sessions last: a flood of frames delays neither heartbeats nor results.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = tick.tick() => self.tick(),
                Some((board, event)) = events.recv() => self.event(&board, event),
                Some(input) = inputs.recv() => self.input(input),
            }
        }
        self.end_session(Status::unavailable("the worker is stopping"));
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Open(hello, command, reply) => {
                let opened = self.open(&hello, command);
                if let Err(Ok(Opened { number, .. })) = reply.send(opened) {
                    // The caller went away while it was let in.
                    self.closed(number);
                }
            }
            Input::Frame(number, frame) => {
                if self.session.as_ref().is_some_and(|session| session.number == number) {
                    self.frame(frame);
                }
            }
            Input::Closed(number) => self.closed(number),
            Input::Check(board, reply) => self.check(&board, reply),
        }
    }

    /// Passes the question on to the board, unless an attempt keeps it busy.
    fn check(&self, board: &BoardId, reply: oneshot::Sender<Result<Vec<Check>, Status>>) {
        let refused = match self.boards.get(board) {
            None => Status::not_found(format!("{} has no board {board}", self.worker)),
            Some((Slot { current: Some(current), .. }, _, _)) => Status::failed_precondition(format!(
                "{board} is busy with task {}; it is checked when it is idle",
                current.lease.task
            )),
            Some((_, _, orders)) => {
                let (ask, answer) = oneshot::channel();
                if orders.try_send(Order::Check(ask)).is_ok() {
                    // Ends with the board's answer, or with the board.
                    tokio::spawn(async move {
                        let gone = |_| Status::unavailable("the worker is stopping");
                        let _ = reply.send(answer.await.map_err(gone));
                    });
                    return;
                }
                Status::resource_exhausted(format!("{board} has too many questions to answer"))
            }
        };
        let _ = reply.send(Err(refused));
    }

    fn closed(&mut self, number: u64) {
        if self.session.as_ref().is_some_and(|session| session.number == number) {
            info!("the coordinator's session ended");
            self.session = None;
        }
    }

    fn open(&mut self, hello: &v1::CoordinatorHello, command: u64) -> Result<Opened, Status> {
        let malformed = |what: &str| Status::invalid_argument(format!("malformed {what} in hello"));
        let claim = Claim {
            cluster: hello.cluster_id.parse().map_err(|_| malformed("cluster id"))?,
            epoch: Epoch(hello.epoch),
            nonce: hello.nonce.parse().map_err(|_| malformed("nonce"))?,
        };
        let greeting = Greeting { protocol: hello.protocol, site: hello.site.clone(), claim };
        let meant = hello.worker_id.as_ref().filter(|meant| *meant != self.worker.as_str());
        let admitted = match meant {
            Some(meant) => Err(Refusal::Worker { own: self.worker.clone(), offered: meant.clone() }),
            None => fence::admit(self.fence.claim(), &self.site, &greeting),
        };
        let claim = admitted.map_err(|refusal| {
            warn!(%refusal, "a coordinator was turned away");
            refusal.status(self.fence.claim())
        })?;
        self.fence.keep(claim).map_err(|error| Status::internal(error.to_string()))?;
        self.end_session(Status::aborted("a newer hello took over this worker"));
        for (slot, _, _) in self.boards.values_mut() {
            slot.raise(Token { epoch: claim.epoch, counter: 0 });
        }
        for (board, lease) in &hello.issued {
            let slot = board.parse::<BoardId>().ok().and_then(|id| self.boards.get_mut(&id));
            if let Some((slot, _, _)) = slot {
                slot.raise(spec::token(lease));
            }
        }
        self.last_command = command;
        self.sessions += 1;
        let (frames, receiver) = mpsc::channel(OUTBOUND);
        let stop = CancellationToken::new();
        self.session = Some(Session {
            number: self.sessions,
            epoch: claim.epoch,
            frames,
            stop: stop.clone(),
            sent: BTreeMap::new(),
            wished: Instant::now(),
        });
        info!(cluster = %claim.cluster, epoch = claim.epoch.0, "a coordinator has opened a session");
        let hello = v1::WorkerHello {
            protocol: SESSION_PROTOCOL,
            worker_id: self.worker.to_string(),
            incarnation: self.incarnation.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            site: self.site.clone(),
            boards: self.reports(),
            held: self.held(),
            draining: false,
        };
        self.send(From::Hello(hello));
        self.deliver();
        self.wish();
        Ok(Opened { number: self.sessions, frames: receiver, stop })
    }

    fn end_session(&mut self, why: Status) {
        if let Some(session) = self.session.take() {
            let _ = session.frames.try_send(Err(why));
            session.stop.cancel();
        }
    }

    fn frame(&mut self, ToWorker { command, frame }: ToWorker) {
        // Answers already name the command: its effect is in the state before any of them is sent.
        self.last_command = self.last_command.max(command);
        match frame {
            Some(To::Start(start)) => self.start(start),
            Some(To::Cancel(c)) => {
                self.withdraw(c.lease.as_ref(), &c.task_id, &c.board, |current| &current.cancel)
            }
            Some(To::Recall(r)) => {
                self.withdraw(r.lease.as_ref(), &r.task_id, &r.board, |current| &current.recall)
            }
            Some(To::Ack(ack)) => self.forget(ack.lease.as_ref(), &ack.task_id),
            Some(To::Nack(nack)) => {
                warn!(task = nack.task_id, reason = nack.reason, nack.permanent, "a result was not taken");
                if nack.permanent {
                    self.forget(nack.lease.as_ref(), &nack.task_id);
                }
            }
            Some(To::Hello(_)) => self.end_session(Status::invalid_argument("hello is the first frame only")),
            Some(To::Reset(_) | To::Beat(_)) | None => {}
        }
    }

    fn start(&mut self, start: v1::Start) {
        let v1::Start { lease, task_id, board, spec } = start;
        let rejected = |reason: Reason, message: String| {
            From::Rejected(v1::Rejected {
                lease,
                task_id: task_id.clone(),
                board: board.clone(),
                reason: reason.as_str().into(),
                message,
            })
        };
        let (Some(lease), Some(spec)) = (spec::lease_ref(lease.as_ref(), &task_id, &board), spec) else {
            return self.send(rejected(Reason::BadRequest, "lease, task, board or spec is malformed".into()));
        };
        if self.session.as_ref().is_some_and(|session| session.epoch < lease.token.epoch) {
            let message = format!("token {} is of a later epoch than its session", lease.token);
            return self.send(rejected(Reason::BadRequest, message));
        }
        let waiting = self.outbox.get(&(lease.task, lease.token)).is_some();
        let room = self.outbox.has_room();
        let Some((slot, kind, orders)) = self.boards.get_mut(&lease.board) else {
            let message = format!("{} has no board {board}", self.worker);
            return self.send(rejected(Reason::UnknownBoard, message));
        };
        match slot.decide(&lease, waiting, room) {
            Decision::Refuse(reason, message) => self.send(rejected(reason, message)),
            Decision::Again(held) => {
                self.send(accepted(&lease));
                if held == Held::Running {
                    self.send(started(&lease));
                }
            }
            Decision::Resend(key) => {
                if let Some(session) = &mut self.session {
                    session.sent.remove(&key);
                }
                self.deliver();
            }
            Decision::Take => {
                let spec = match Spec::check(&spec, kind) {
                    Ok(spec) => spec,
                    Err(error) => {
                        slot.raise(lease.token);
                        slot.ended = Some(lease.token);
                        self.send(accepted(&lease));
                        return self.finish(&lease, Outcome::Failed(error), "");
                    }
                };
                let (cancel, recall) = (CancellationToken::new(), CancellationToken::new());
                let attempt =
                    Attempt { lease: lease.clone(), spec, cancel: cancel.clone(), recall: recall.clone() };
                // The channel has room: the board has ended its last attempt, and is good.
                if orders.try_send(Order::Attempt(Box::new(attempt))).is_err() {
                    return self.send(rejected(Reason::Busy, "the board is going away".into()));
                }
                slot.raise(lease.token);
                let needs = Vec::new();
                slot.current =
                    Some(Current { lease: lease.clone(), held: Held::Staged, needs, cancel, recall });
                self.send(accepted(&lease));
            }
        }
    }

    fn withdraw(
        &mut self,
        lease: Option<&v1::Lease>,
        task: &str,
        board: &str,
        how: fn(&Current) -> &CancellationToken,
    ) {
        let Some(lease) = spec::lease_ref(lease, task, board) else { return };
        let current = self.boards.get(&lease.board).and_then(|(slot, _, _)| slot.current.as_ref());
        if let Some(current) = current.filter(|current| current.lease == lease) {
            how(current).cancel();
        }
    }

    fn forget(&mut self, lease: Option<&v1::Lease>, task: &str) {
        let (Some(lease), Ok(task)) = (lease, task.parse()) else { return };
        let key = (task, spec::token(lease));
        let had_room = self.outbox.has_room();
        self.outbox.remove(&key);
        if let Some(session) = &mut self.session {
            session.sent.remove(&key);
        }
        if !had_room && self.outbox.has_room() {
            self.reports().into_iter().for_each(|report| self.send(From::Board(report)));
        }
    }

    fn event(&mut self, board: &BoardId, event: Event) {
        let Some((slot, _, _)) = self.boards.get_mut(board) else { return };
        let mine = |lease: &LeaseRef| slot.current.as_ref().is_some_and(|current| current.lease == *lease);
        match event {
            Event::Health(health, reason) => {
                (slot.health, slot.reason) = (health, reason);
                self.board_changed(board);
            }
            Event::Content(firmware, image) => {
                (slot.firmware, slot.image) = (firmware, image);
                self.board_changed(board);
            }
            Event::Needs(lease, needs) if mine(&lease) => {
                if let Some(current) = &mut slot.current {
                    current.needs = needs;
                }
                self.wish();
            }
            Event::Started(lease) if mine(&lease) => {
                if let Some(current) = &mut slot.current {
                    current.held = Held::Running;
                }
                self.send(started(&lease));
            }
            Event::Progress(lease, phase, done, total) if mine(&lease) => {
                let progress = v1::AttemptProgress {
                    lease: Some(spec::lease(lease.token)),
                    task_id: lease.task.to_string(),
                    board: lease.board.to_string(),
                    phase: phase.into(),
                    done,
                    total,
                };
                self.send_if_room(From::Progress(progress));
            }
            Event::Finished(lease, outcome, transcript) if mine(&lease) => {
                slot.current = None;
                slot.ended = Some(lease.token);
                self.finish(&lease, outcome, &transcript);
                self.board_changed(board);
            }
            Event::Needs(..) | Event::Started(_) | Event::Progress(..) | Event::Finished(..) => {}
        }
    }

    fn finish(&mut self, lease: &LeaseRef, outcome: Outcome, transcript: &str) {
        use v1::result::Outcome as Wire;
        let outcome = match outcome {
            Outcome::Measured(measurement) => Wire::Measurement(*measurement),
            Outcome::Failed(error) => match edgeprof_proto::bridge("error", &error) {
                Ok(error) => Wire::Error(error),
                Err(error) => {
                    warn!(%error, "an error cannot be told as it is");
                    Wire::Error(v1::Error {
                        class: "infrastructure".into(),
                        code: "worker".into(),
                        message: error.to_string(),
                        hint: None,
                    })
                }
            },
            Outcome::Cancelled => Wire::Cancelled(v1::Cancelled {}),
            Outcome::Recalled => {
                return self.send(From::Rejected(v1::Rejected {
                    lease: Some(spec::lease(lease.token)),
                    task_id: lease.task.to_string(),
                    board: lease.board.to_string(),
                    reason: Reason::Busy.as_str().into(),
                    message: "recalled before it started".into(),
                }));
            }
        };
        self.outbox.put(v1::Result {
            lease: Some(spec::lease(lease.token)),
            task_id: lease.task.to_string(),
            board: lease.board.to_string(),
            outcome: Some(outcome),
            transcript: lz4_flex::compress_prepend_size(transcript.as_bytes()),
        });
        self.deliver();
    }

    fn tick(&mut self) {
        self.outbox.retry();
        let beat = v1::Heartbeat { boards: self.reports(), held: self.held(), draining: false };
        self.send_if_room(From::Heartbeat(beat));
        self.deliver();
        if self.session.as_ref().is_some_and(|session| session.wished.elapsed() >= AGAIN) {
            self.wish();
        }
    }
}
