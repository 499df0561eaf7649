//! The one loop that owns the worker's state.
//!
//! Inputs are frames of the session, events of the boards, and time. It never waits for a board or for a
//! coordinator. Files are written from here: nothing may leave before what justifies it is written.

mod attempts;
mod boards;
mod drain;
mod gauges;
mod open;
mod send;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use edgeprof_boards::Kind;
use edgeprof_common::{BoardId, Epoch, Incarnation, WorkerId};
use edgeprof_proto::v1::{self, FromWorker, ToWorker, from_worker::Frame as From, to_worker::Frame as To};
use edgeprof_service::telemetry::trace::Span;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use self::{drain::Drain, gauges::Gauges};
use crate::{
    blobs::Blobs,
    board::{
        actor::{Event, Order},
        check::Check,
        console::Console,
        queue::Queue,
    },
    config::Limits,
    fence::Fence,
    outbox::{Key, Outbox},
    roster::{Closed, Slot},
    trust::{SILENCE, Trust},
};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Between two deliveries of a result that is not acknowledged, and of a wish for a blob.
const AGAIN: Duration = Duration::from_secs(5);

/// Frames that wait for a slow coordinator: every board may answer all that it takes at once.
const OUTBOUND: usize = 4096;

/// Of these, so many are kept free of results and heartbeats.
const SPARE: usize = 3072;

/// A look whether there is room again.
const ROOM: Duration = Duration::from_millis(5);

/// Inputs and events that are taken at once.
const BATCH: usize = 64;

/// What comes in from sessions and other calls.
#[derive(Debug)]
pub enum Input {
    /// A coordinator greets.
    Open(Box<v1::CoordinatorHello>, u64, oneshot::Sender<Result<Opened, Status>>),
    /// A later frame of the session with this number.
    Frame(u64, ToWorker),
    /// That session has ended.
    Closed(u64),
    /// Somebody asks how a board is. The answer says what was looked at, or why it was not.
    Check(BoardId, oneshot::Sender<Result<Vec<Check>, Status>>),
    /// Somebody wants a board restarted. The answer says how it is then.
    Reset(BoardId, oneshot::Sender<Result<v1::ResetBoardResponse, Status>>),
    /// Somebody wants the line of a board.
    Console(BoardId, Console, oneshot::Sender<Result<(), Status>>),
    /// The worker is to stop; the answer comes when nothing is lost by it.
    Drain(oneshot::Sender<()>),
    /// Whether the loop goes on: it answers at once.
    Alive(oneshot::Sender<()>),
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
    /// Its attempts.
    pub queue: Queue,
    /// Its task.
    pub orders: mpsc::Sender<Order>,
    /// Restarts it whatever it does.
    pub reset: Arc<Notify>,
}

/// What the hub is made from.
#[derive(Debug)]
pub struct Parts {
    /// The worker's name.
    pub worker: WorkerId,
    /// Its site.
    pub site: String,
    /// Bounds.
    pub limits: Limits,
    /// Who commands.
    pub fence: Fence,
    /// Whether the boards may start anything.
    pub trust: Trust,
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
    limits: Limits,
    incarnation: Incarnation,
    fence: Fence,
    trust: Trust,
    outbox: Outbox,
    blobs: Blobs,
    boards: BTreeMap<BoardId, Member>,
    session: Option<Session>,
    sessions: u64,
    last_command: u64,
    drain: Option<Drain>,
    /// Results that are on their way to the coordinator, and have a trace; those of an earlier life have none.
    uploads: BTreeMap<Key, Span>,
    gauges: Arc<Gauges>,
}

/// A board and how to reach it.
#[derive(Debug)]
struct Member {
    slot: Slot,
    kind: &'static Kind,
    queue: Queue,
    orders: mpsc::Sender<Order>,
    reset: Arc<Notify>,
    /// What this session's coordinator knows of it.
    said: Option<v1::BoardReport>,
}

#[derive(Debug)]
struct Session {
    number: u64,
    epoch: Epoch,
    frames: mpsc::Sender<Result<FromWorker, Status>>,
    stop: CancellationToken,
    /// Results to be sent.
    due: VecDeque<Key>,
    /// When each unacknowledged result was sent last.
    sent: BTreeMap<Key, Instant>,
    wished: Instant,
}

impl Hub {
    /// A hub without a session.
    pub fn new(parts: Parts) -> Self {
        let Parts { worker, site, limits, fence, trust, outbox, blobs, boards } = parts;
        let member = |board: Board| {
            let Board { id, kind, labels, queue, orders, reset } = board;
            let slot = Slot::new(id.clone(), &kind.name, labels, limits.queue);
            (id, Member { slot, kind, queue, orders, reset, said: None })
        };
        let boards = boards.into_iter().map(member).collect();
        let gauges = Gauges::observed(limits.outbox, &blobs);
        Self {
            worker,
            site,
            limits,
            incarnation: Incarnation::random(),
            fence,
            trust,
            outbox,
            blobs,
            boards,
            session: None,
            sessions: 0,
            last_command: 0,
            drain: None,
            uploads: BTreeMap::new(),
            gauges,
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
        let (mut came, mut happened) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            let (room, sync) = (Instant::now() + ROOM, self.outbox.sync_due());
            // Time first and sessions last: a flood of frames delays neither heartbeats nor results.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = tick.tick() => self.tick(),
                () = sleep_until(room), if self.is_blocked() => self.deliver(),
                () = at(sync) => {
                    let before = self.closed_to_work();
                    self.outbox.sync();
                    self.reopened(before);
                }
                () = Drain::due(self.drain.as_ref()) => self.hurry(),
                n = events.recv_many(&mut happened, BATCH), if !events.is_closed() || !events.is_empty() => {
                    happened.drain(..n).for_each(|(board, event)| self.event(&board, event));
                    self.deliver();
                }
                n = inputs.recv_many(&mut came, BATCH), if !inputs.is_closed() || !inputs.is_empty() => {
                    // What was sent before a long silence may be about a world that is gone.
                    self.doubt();
                    came.drain(..n).for_each(|input| self.input(input));
                }
            }
            self.drained();
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
                    self.trust.heard();
                    self.frame(frame);
                }
            }
            Input::Closed(number) => self.closed(number),
            Input::Check(board, reply) => self.check(&board, reply),
            Input::Reset(board, reply) => self.reset(&board, reply),
            Input::Console(board, console, reply) => self.console(&board, console, reply),
            Input::Drain(done) => self.begin_drain(done),
            // Nobody may wait any more.
            Input::Alive(reply) => drop(reply.send(())),
        }
    }

    fn closed(&mut self, number: u64) {
        if self.session.as_ref().is_some_and(|session| session.number == number) {
            info!("the coordinator's session ended");
            self.session = None;
            self.trust.lost();
        }
    }

    /// Ends a session after a silence: the coordinator may have given this worker up, or this process stood
    /// still. With its next greeting it says what it knows, and hears what is held here.
    fn doubt(&mut self) {
        if self.trust.is_stale() {
            warn!("nothing was heard of the coordinator for {} s; it has to greet anew", SILENCE.as_secs());
            self.end_session(Status::aborted("this worker heard nothing for a while: greet it anew"));
        }
    }

    fn end_session(&mut self, why: Status) {
        if let Some(session) = self.session.take() {
            let _ = session.frames.try_send(Err(why));
            session.stop.cancel();
            self.trust.lost();
        }
    }

    fn frame(&mut self, ToWorker { command, frame }: ToWorker) {
        // Answers already name the command: its effect is in the state before any of them is sent.
        self.last_command = self.last_command.max(command);
        match frame {
            Some(To::Start(start)) => self.start(*start),
            Some(To::Cancel(c)) => self.cancel(c.lease.as_ref(), &c.task_id, &c.board),
            Some(To::Recall(r)) => self.recall(r.lease.as_ref(), &r.task_id, &r.board),
            Some(To::Ack(ack)) => self.forget(ack.lease.as_ref(), &ack.task_id),
            Some(To::Nack(nack)) => {
                warn!(task = nack.task_id, reason = nack.reason, nack.permanent, "a result was not taken");
                if nack.permanent {
                    self.forget(nack.lease.as_ref(), &nack.task_id);
                }
            }
            Some(To::Reset(reset)) => self.reset_now(&reset.board),
            Some(To::Hello(_)) => self.end_session(Status::invalid_argument("hello is the first frame only")),
            Some(To::Beat(_)) | None => {}
        }
    }

    /// Why no board takes anything.
    fn closed_to_work(&self) -> Option<Closed> {
        match &self.drain {
            Some(_) => Some(Closed::Draining),
            None => (!self.outbox.has_room()).then_some(Closed::OutboxFull),
        }
    }

    fn tick(&mut self) {
        self.doubt();
        self.gauges.set(self.outbox.iter().len(), self.session.is_some());
        let before = self.closed_to_work();
        self.outbox.retry();
        self.reopened(before);
        self.beat();
        self.redeliver();
        self.deliver();
        if self.session.as_ref().is_some_and(|session| session.wished.elapsed() >= AGAIN) {
            self.wish();
        }
    }

    fn beat(&mut self) {
        let draining = self.drain.is_some();
        let beat = v1::Heartbeat { boards: self.reports(), held: self.held(), draining };
        self.send_if_room(From::Heartbeat(beat));
    }
}

/// Waits for a time; for ever where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
