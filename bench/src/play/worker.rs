//! One played worker.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use edgeprof_common::Incarnation;
use edgeprof_proto::{
    SESSION,
    v1::{
        self, FromWorker, ToWorker, from_worker::Frame as From, to_worker::Frame as To,
        worker_server::Worker as Service,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::HEARTBEAT;

/// Frames on their way. Where they are not read, the session waits.
const OUTBOUND: usize = 256;

/// Attempts that a board takes behind the one in work, as a real worker has it.
const QUEUE: u32 = 32;

type Output<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Results that are not acknowledged, by their lease: they outlive a session.
type Outbox = Arc<Mutex<BTreeMap<(u64, u64), v1::Result>>>;

#[derive(Debug)]
pub(super) struct Worker {
    id: String,
    incarnation: Incarnation,
    boards: Vec<v1::BoardReport>,
    /// When in each second its heartbeat is.
    phase: Duration,
    outbox: Outbox,
}

impl Worker {
    pub(super) fn new(number: usize, boards: usize, phase: Duration) -> Self {
        let id = format!("played-{number}");
        let board = |n| v1::BoardReport {
            id: format!("{id}/noop.{n}"),
            kind: "noop".into(),
            health: "good".into(),
            idle: true,
            queue: QUEUE,
            ..v1::BoardReport::default()
        };
        let boards = (0..boards).map(board).collect();
        Self { id, incarnation: Incarnation::random(), boards, phase, outbox: Outbox::default() }
    }

    fn hello(&self) -> v1::WorkerHello {
        v1::WorkerHello {
            protocol: SESSION.major,
            protocol_minor: SESSION.minor,
            worker_id: self.id.clone(),
            incarnation: self.incarnation.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            site: "bench".into(),
            boards: self.boards.clone(),
            held: held(&self.outbox),
            draining: false,
        }
    }
}

#[tonic::async_trait]
impl Service for Worker {
    type SessionStream = Output<FromWorker>;
    type ConsoleStream = Output<v1::ConsoleOutput>;

    async fn session(
        &self,
        request: Request<Streaming<ToWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(ToWorker { command, frame: Some(To::Hello(_)) }) = incoming.message().await? else {
            return Err(Status::invalid_argument("the first frame must be hello"));
        };
        let (frames, outgoing) = mpsc::channel(OUTBOUND);
        let session = Session {
            last_command: command,
            boards: self.boards.clone(),
            outbox: Arc::clone(&self.outbox),
            frames,
        };
        let hello = self.hello();
        let phase = self.phase;
        tokio::spawn(async move {
            // Either end of it may go at any time; the next session tells the whole state.
            let _ = session.serve(incoming, hello, phase).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn put_revocations(
        &self,
        _: Request<v1::PutRevocationsRequest>,
    ) -> Result<Response<v1::PutRevocationsResponse>, Status> {
        Err(nothing())
    }

    async fn put_blob(
        &self,
        _: Request<Streaming<v1::BlobChunk>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        Err(nothing())
    }

    async fn check_board(
        &self,
        _: Request<v1::CheckBoardRequest>,
    ) -> Result<Response<v1::CheckBoardResponse>, Status> {
        Err(nothing())
    }

    async fn reset_board(
        &self,
        _: Request<v1::ResetBoardRequest>,
    ) -> Result<Response<v1::ResetBoardResponse>, Status> {
        Err(nothing())
    }

    async fn console(
        &self,
        _: Request<Streaming<v1::ConsoleInput>>,
    ) -> Result<Response<Self::ConsoleStream>, Status> {
        Err(nothing())
    }
}

fn nothing() -> Status {
    Status::failed_precondition("a played worker has no boards to touch")
}

fn held(outbox: &Outbox) -> Vec<v1::Held> {
    let outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
    let one = |result: &v1::Result| v1::Held {
        lease: result.lease,
        task_id: result.task_id.clone(),
        board: result.board.clone(),
        state: "outbox".into(),
    };
    outbox.values().map(one).collect()
}

struct Session {
    last_command: u64,
    boards: Vec<v1::BoardReport>,
    outbox: Outbox,
    frames: mpsc::Sender<Result<FromWorker, Status>>,
}

/// The coordinator does not read any more.
struct Gone;

impl Session {
    async fn serve(
        mut self,
        mut incoming: Streaming<ToWorker>,
        hello: v1::WorkerHello,
        phase: Duration,
    ) -> Result<(), Gone> {
        self.say(From::Hello(Box::new(hello))).await?;
        let again: Vec<_> = self.with_outbox(|outbox| outbox.values().cloned().collect());
        for result in again {
            self.say(From::Result(Box::new(result))).await?;
        }
        let mut tick = interval_at(Instant::now() + phase, HEARTBEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    let (boards, held) = (self.boards.clone(), held(&self.outbox));
                    self.say(From::Heartbeat(v1::Heartbeat { boards, held, draining: false })).await?;
                }
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.take(message).await?,
                    Ok(None) | Err(_) => return Err(Gone),
                },
            }
        }
    }

    async fn say(&self, frame: From) -> Result<(), Gone> {
        let message = FromWorker { last_command: self.last_command, frame: Some(frame) };
        self.frames.send(Ok(message)).await.map_err(|_| Gone)
    }

    fn with_outbox<T>(&self, work: impl FnOnce(&mut BTreeMap<(u64, u64), v1::Result>) -> T) -> T {
        work(&mut self.outbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn take(&mut self, message: ToWorker) -> Result<(), Gone> {
        self.last_command = message.command;
        match message.frame {
            Some(To::Start(start)) => self.start(*start).await,
            Some(To::Ack(v1::Ack { lease, .. }) | To::Nack(v1::Nack { lease, permanent: true, .. })) => {
                self.with_outbox(|outbox| outbox.remove(&key(lease)));
                Ok(())
            }
            // There is nothing that has not ended.
            _ => Ok(()),
        }
    }

    /// Takes an attempt, and ends it with no figures.
    async fn start(&self, start: v1::Start) -> Result<(), Gone> {
        let v1::Start { lease, task_id, board, .. } = start;
        let measurement = v1::Measurement {
            stop_reason: "length".into(),
            reasons: vec!["a board that is played does nothing: there are no figures".into()],
            ..v1::Measurement::default()
        };
        let result = v1::Result {
            lease,
            task_id: task_id.clone(),
            board: board.clone(),
            outcome: Some(v1::result::Outcome::Measurement(measurement)),
            transcript: Vec::new(),
        };
        self.with_outbox(|outbox| outbox.insert(key(lease), result.clone()));
        self.say(From::Accepted(v1::Accepted { lease, task_id: task_id.clone(), board: board.clone() }))
            .await?;
        self.say(From::Started(v1::Started { lease, task_id, board })).await?;
        self.say(From::Result(Box::new(result))).await
    }
}

fn key(lease: Option<v1::Lease>) -> (u64, u64) {
    lease.map_or((0, 0), |lease| (lease.epoch, lease.counter))
}
