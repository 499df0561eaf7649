//! The task that owns a board: takes attempts, runs them, and brings the board back after a failure.

use std::time::Duration;

use edgeprof_common::{BoardHealth, BoardId, Digest};
use edgeprof_proto::v1;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    check::{self, Check},
    device::{Device, Program, Source},
    error::BoardError,
    fault,
    run::{Ended, Patience, repetition},
};
use crate::{
    blobs::{Blobs, Pin},
    config::Limits,
    firmware::Firmware,
    measure::{Counted, Raw, assemble},
    spec::{LeaseRef, Spec},
};

/// Between two progress events.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);

/// Between two looks for a board that failed: at first, and then twice as long each time up to these.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A port that is plugged in again is to be seen soon, and costs little to look for.
const LONGEST_PORT_PAUSE: Duration = Duration::from_secs(2);

/// What the hub asks of a board.
#[derive(Debug)]
pub enum Order {
    /// Run an attempt.
    Attempt(Box<Attempt>),
    /// Say how the board is.
    Check(oneshot::Sender<Vec<Check>>),
}

/// An attempt, as the hub hands it over.
#[derive(Debug)]
pub struct Attempt {
    /// Its names.
    pub lease: LeaseRef,
    /// What to do.
    pub spec: Spec,
    /// Ends it whatever it does.
    pub cancel: CancellationToken,
    /// Ends it unless it has started.
    pub recall: CancellationToken,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// With figures.
    Measured(Box<v1::Measurement>),
    /// With an error.
    Failed(edgeprof_common::TaskError),
    /// On command.
    Cancelled,
    /// Given back before it started.
    Recalled,
}

/// What a board tells the hub.
#[derive(Debug)]
pub enum Event {
    /// How the board is, and why.
    Health(BoardHealth, Option<String>),
    /// What runs on it: loaded firmware digest and version, image.
    Content(Option<(Digest, String)>, Option<Digest>),
    /// The attempt in work lacks these.
    Needs(LeaseRef, Vec<Digest>),
    /// The attempt in work runs.
    Started(LeaseRef),
    /// How far the attempt in work is.
    Progress(LeaseRef, &'static str, u64, u64),
    /// The attempt in work has ended, with the transcript of its line. The board takes another when its health
    /// is good.
    Finished(LeaseRef, Outcome, String),
}

/// The board's task.
#[derive(Debug)]
pub struct Actor {
    id: BoardId,
    device: Device,
    blobs: Blobs,
    limits: Limits,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<(BoardId, Event)>,
    /// The firmware that last answered here: what the board is brought back with.
    proven: Option<Program>,
    /// Why the board is not good.
    trouble: Option<String>,
}

enum Stopped {
    Error(BoardError),
    Cancelled { board_is_well: bool },
    Recalled,
}

impl From<BoardError> for Stopped {
    fn from(error: BoardError) -> Self {
        Self::Error(error)
    }
}

impl Actor {
    /// A board that is not running yet.
    pub fn new(
        id: BoardId,
        device: Device,
        blobs: Blobs,
        limits: Limits,
        orders: mpsc::Receiver<Order>,
        events: mpsc::Sender<(BoardId, Event)>,
    ) -> Self {
        Self { id, device, blobs, limits, orders, events, proven: None, trouble: None }
    }

    /// Serves attempts until `stop`, and leaves no emulator behind.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
        self.device.stop().await;
    }

    async fn serve(&mut self) {
        self.revive().await;
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Attempt(attempt)) => self.attempt(*attempt).await,
                    Some(Order::Check(reply)) => self.check(reply).await,
                    None => return,
                },
                error = self.device.idle() => {
                    warn!(board = %self.id, %error, "an idle board failed");
                    self.recover(&error).await;
                }
            }
        }
    }

    async fn tell(&self, event: Event) {
        // The hub outlives the boards; where it is gone the worker is stopping.
        let _ = self.events.send((self.id.clone(), event)).await;
    }

    async fn health(&mut self, health: BoardHealth, reason: Option<String>) {
        self.trouble.clone_from(&reason);
        self.tell(Event::Health(health, reason)).await;
    }

    /// Looks for the board until it can be used. Meanwhile nobody else answers for attempts that came while it
    /// was failing already, and for questions.
    async fn revive(&mut self) {
        let longest = match self.device.source() {
            Source::Attached(_) => LONGEST_PORT_PAUSE,
            Source::Emulated(_) => LONGEST_PAUSE,
        };
        let mut pause = FIRST_PAUSE;
        let mut said = String::new();
        loop {
            let Err(failure) = self.device.revive(self.proven.as_ref()).await else { break };
            self.device.stop().await;
            let error = failure.task_error();
            let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            let reason = format!("{}{hint}", error.message);
            if said != reason {
                warn!(board = %self.id, reason, "the board cannot be used");
                said.clone_from(&reason);
            }
            self.health(BoardHealth::Bad, Some(reason)).await;
            let next = Instant::now() + pause;
            while let Ok(Some(order)) = timeout_at(next, self.orders.recv()).await {
                match order {
                    Order::Attempt(attempt) => self.turn_away(*attempt, &failure).await,
                    Order::Check(reply) => self.check(reply).await,
                }
            }
            sleep_until(next).await;
            pause = (pause * 2).min(longest);
        }
        self.tell_content().await;
        self.health(BoardHealth::Good, None).await;
    }

    /// Gives back an attempt that came while the board was failing already.
    async fn turn_away(&mut self, attempt: Attempt, why: &BoardError) {
        let outcome = if attempt.cancel.is_cancelled() {
            Outcome::Cancelled
        } else if attempt.recall.is_cancelled() {
            Outcome::Recalled
        } else {
            Outcome::Failed(why.task_error())
        };
        self.tell(Event::Finished(attempt.lease, outcome, String::new())).await;
    }

    /// Restarts the board with the firmware that answered last, until it answers again.
    async fn recover(&mut self, why: &BoardError) {
        self.health(BoardHealth::Unknown, Some(format!("restarting after: {why}"))).await;
        self.device.stop().await;
        self.revive().await;
        info!(board = %self.id, "the board is good again");
    }

    /// Tells how the board is, as far as it can be looked at now.
    async fn check(&mut self, reply: oneshot::Sender<Vec<Check>>) {
        let checks = check::device(&mut self.device, self.proven.as_ref(), self.trouble.as_deref()).await;
        // Who asked may have gone.
        let _ = reply.send(checks);
        self.tell_content().await;
    }

    async fn tell_content(&self) {
        let (firmware, image) = match (self.device.content(), &self.proven) {
            (Some((version, image)), Some(program)) => (Some((program.parsed.loaded, version)), image),
            _ => (None, None),
        };
        self.tell(Event::Content(firmware, image)).await;
    }

    async fn attempt(&mut self, attempt: Attempt) {
        let lease = attempt.lease.clone();
        info!(board = %self.id, task = %lease.task, token = %lease.token, "attempt taken");
        self.device.transcript().begin();
        let (outcome, failure) = match self.measure(&attempt).await {
            Ok(measurement) => (Outcome::Measured(Box::new(measurement)), None),
            Err(Stopped::Recalled) => (Outcome::Recalled, None),
            Err(Stopped::Cancelled { board_is_well }) => {
                let failure =
                    BoardError::Hung { doing: "end a cancelled run", after: self.limits.cancel_timeout };
                (Outcome::Cancelled, (!board_is_well).then_some(failure))
            }
            Err(Stopped::Error(error)) => {
                warn!(board = %self.id, task = %lease.task, %error, "attempt failed");
                self.device.transcript().note(&error.to_string());
                (Outcome::Failed(error.task_error()), (!error.board_is_well()).then_some(error))
            }
        };
        if let Some(failure) = &failure {
            self.health(BoardHealth::Unknown, Some(format!("restarting after: {failure}"))).await;
        }
        let transcript = self.device.transcript().text();
        self.tell(Event::Finished(lease, outcome, transcript)).await;
        if let Some(failure) = failure {
            self.recover(&failure).await;
        }
    }

    async fn measure(&mut self, attempt: &Attempt) -> Result<v1::Measurement, Stopped> {
        let Attempt { lease, spec, cancel, recall } = attempt;
        let ready = async {
            let (firmware, image) = self.stage(lease, spec).await?;
            let program = self.program(firmware, spec).await?;
            let image_bytes = size(&image).await?;
            self.report(lease, "start", 0, 1);
            let (events, id) = (self.events.clone(), self.id.clone());
            let mut pace = Pace::default();
            let loaded = |done, total| {
                if pace.due() {
                    let event = Event::Progress(lease.clone(), "load", done, total);
                    let _ = events.try_send((id.clone(), event));
                }
            };
            let up = self.device.ensure(&program, Some(&image), loaded).await.map(drop);
            // The firmware answered, whatever became of the image.
            let parsed = program.parsed.clone();
            if self.device.running().is_some() {
                self.proven = Some(program);
            }
            up?;
            self.tell_content().await;
            Ok::<_, BoardError>((parsed, image_bytes))
        };
        let (parsed, image_bytes) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Stopped::Cancelled { board_is_well: true }),
            () = recall.cancelled() => return Err(Stopped::Recalled),
            ready = ready => match ready {
                Ok(ready) => ready,
                Err(error) => return Err(self.explained(error).await.into()),
            },
        };
        self.tell(Event::Started(lease.clone())).await;
        let patience =
            Patience::of(self.limits.frame_timeout, self.limits.cancel_timeout, image_bytes, spec.uncounted);
        self.repeat(lease, spec, patience, cancel, &parsed, image_bytes).await
    }

    async fn repeat(
        &mut self,
        lease: &LeaseRef,
        spec: &Spec,
        patience: Patience,
        cancel: &CancellationToken,
        parsed: &Firmware,
        image_bytes: u64,
    ) -> Result<v1::Measurement, Stopped> {
        let each = u64::from(spec.n_prompt()) + u64::from(spec.n_gen());
        let total = each * u64::from(spec.repetitions + spec.warmup);
        let kind = self.device.kind();
        let events = self.events.clone();
        let id = self.id.clone();
        let Some(running) = self.device.running() else {
            return Err(BoardError::Protocol("the board is gone".into()).into());
        };
        let mut pace = Pace::default();
        let mut repetitions = Vec::new();
        for number in 0..spec.warmup + spec.repetitions {
            let (phase, base) =
                (if number < spec.warmup { "warmup" } else { "run" }, each * u64::from(number));
            let mut done = base;
            let progress = |n| {
                done += n;
                if pace.due() {
                    // A hub that has more to do than this can do without.
                    let _ = events.try_send((id.clone(), Event::Progress(lease.clone(), phase, done, total)));
                }
            };
            let ended = repetition(&mut running.board, spec, patience, cancel, progress).await;
            match ended {
                Ok(Ended::Whole(figures, stop)) if number >= spec.warmup => repetitions.push((figures, stop)),
                Ok(Ended::Whole(..)) => {}
                Ok(Ended::Cancelled) => return Err(Stopped::Cancelled { board_is_well: true }),
                Ok(Ended::CancelledUnanswered) => return Err(Stopped::Cancelled { board_is_well: false }),
                // What a cancelled attempt ran into is nobody's concern, but for the board's health.
                Err(error) if cancel.is_cancelled() => {
                    return Err(Stopped::Cancelled { board_is_well: error.board_is_well() });
                }
                Err(error) => {
                    let error = running.explain(error).await;
                    return Err(self.explained(error).await.into());
                }
            }
        }
        let hello = running.hello;
        let uid = match self.device.source() {
            Source::Attached(port) => port.uid(),
            Source::Emulated(_) => None,
        };
        Ok(assemble(&Raw {
            kind,
            counted: match self.device.source() {
                Source::Attached(port) if !port.emulated => Counted::OnSilicon,
                _ => Counted::Emulated { version: self.device.emulator_version() },
            },
            hello: &hello,
            firmware: parsed,
            image_bytes,
            repetitions: &repetitions,
            warmups: spec.warmup,
            uid,
        }))
    }

    /// Adds what the firmware's file knows of the place where it died.
    async fn explained(&self, error: BoardError) -> BoardError {
        let (BoardError::Panic { .. } | BoardError::Fault { .. }, Some(program)) = (&error, &self.proven)
        else {
            return error;
        };
        match tokio::fs::read(program.pin.path()).await {
            Ok(elf) => fault::explain(error, &elf, &self.device.kind().isa),
            Err(_) => error,
        }
    }

    fn report(&self, lease: &LeaseRef, phase: &'static str, done: u64, total: u64) {
        let event = Event::Progress(lease.clone(), phase, done, total);
        let _ = self.events.try_send((self.id.clone(), event));
    }

    /// Waits until firmware and image are here. What is here already is pinned at once: the other's
    /// arrival must not push it out.
    async fn stage(&self, lease: &LeaseRef, spec: &Spec) -> Result<(Pin, Pin), BoardError> {
        let mut arrivals = self.blobs.arrivals();
        let (mut firmware, mut image) = (None, None);
        let mut asked = Vec::new();
        let after = self.limits.blob_timeout;
        loop {
            firmware = firmware.or_else(|| self.blobs.pin(&spec.firmware.digest));
            image = image.or_else(|| self.blobs.pin(&spec.image.digest));
            let mut missing = Vec::new();
            match (firmware, image) {
                (Some(firmware), Some(image)) => return Ok((firmware, image)),
                (f, i) => {
                    missing.extend(f.is_none().then_some(spec.firmware.digest));
                    missing.extend(i.is_none().then_some(spec.image.digest));
                    (firmware, image) = (f, i);
                }
            }
            if asked.is_empty() {
                // Of earlier attempts.
                missing.iter().for_each(|digest| self.blobs.forgive(digest));
            } else if let Some(why) = missing.iter().find_map(|digest| self.blobs.failure(digest)) {
                return Err(BoardError::BlobLost(why));
            }
            if missing != asked {
                self.report(lease, "stage", 2 - missing.len() as u64, 2);
                self.tell(Event::Needs(lease.clone(), missing.clone())).await;
                asked.clone_from(&missing);
            }
            if timeout(after, arrivals.changed()).await.is_err() {
                let digest = missing.first().unwrap_or(&spec.image.digest).to_string();
                return Err(BoardError::BlobMissing { digest, after });
            }
        }
    }

    /// Reads the firmware's file, once for many attempts.
    async fn program(&mut self, pin: Pin, spec: &Spec) -> Result<Program, BoardError> {
        let parsed = match &self.proven {
            Some(program) if program.pin.digest() == pin.digest() => program.parsed.clone(),
            _ => {
                let bytes = tokio::fs::read(pin.path())
                    .await
                    .map_err(|source| BoardError::File { what: "the firmware", source })?;
                Firmware::parse(&bytes)?
            }
        };
        match spec.loaded {
            Some(wanted) if wanted != parsed.loaded => Err(BoardError::Firmware(format!(
                "its loaded segments have digest {}, the task names {wanted}",
                parsed.loaded
            ))),
            _ => Ok(Program { pin, parsed }),
        }
    }
}

/// Lets something through now and then.
#[derive(Debug, Default)]
struct Pace(Option<Instant>);

impl Pace {
    fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= PROGRESS_PERIOD);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

async fn size(image: &Pin) -> Result<u64, BoardError> {
    let metadata = tokio::fs::metadata(image.path())
        .await
        .map_err(|source| BoardError::File { what: "the board image", source })?;
    Ok(metadata.len())
}
