//! The task that owns a board: takes attempts, runs them, and brings the board back after a failure.

use std::time::Duration;

use edgeprof_common::{BoardHealth, BoardId, Digest};
use edgeprof_proto::v1;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    device::Device,
    emulator,
    error::BoardError,
    run::{Ended, Patience, repetition},
};
use crate::{
    blobs::{Blobs, Pin},
    config::Limits,
    firmware::Firmware,
    measure::{Raw, assemble},
    spec::{LeaseRef, Spec},
};

/// Between two progress events.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);

/// Between two looks for an emulator that is missing.
const PROBE_PERIOD: Duration = Duration::from_secs(30);

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
    /// The attempt in work has ended. The board takes another when its health is good.
    Finished(LeaseRef, Outcome),
}

/// The board's task.
#[derive(Debug)]
pub struct Actor {
    id: BoardId,
    device: Device,
    blobs: Blobs,
    limits: Limits,
    attempts: mpsc::Receiver<Attempt>,
    events: mpsc::Sender<(BoardId, Event)>,
    emulator_version: String,
    /// The firmware that last answered here: what a check is made with.
    proven: Option<Pin>,
    parsed: Option<(Digest, Firmware)>,
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
        attempts: mpsc::Receiver<Attempt>,
        events: mpsc::Sender<(BoardId, Event)>,
    ) -> Self {
        Self {
            id,
            device,
            blobs,
            limits,
            attempts,
            events,
            emulator_version: String::new(),
            proven: None,
            parsed: None,
        }
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
        self.probe().await;
        loop {
            tokio::select! {
                attempt = self.attempts.recv() => match attempt {
                    Some(attempt) => self.attempt(attempt).await,
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

    /// Gives back an attempt that came while the board was failing already: nobody else answers for it.
    async fn turn_away(&mut self, why: &BoardError) {
        while let Ok(attempt) = self.attempts.try_recv() {
            let outcome = if attempt.cancel.is_cancelled() {
                Outcome::Cancelled
            } else if attempt.recall.is_cancelled() {
                Outcome::Recalled
            } else {
                Outcome::Failed(why.task_error())
            };
            self.tell(Event::Finished(attempt.lease, outcome)).await;
        }
    }

    /// Looks for the emulator until it is there.
    async fn probe(&mut self) {
        loop {
            match emulator::version(self.device.kind()).await {
                Ok(version) => {
                    self.emulator_version = version;
                    return self.tell(Event::Health(BoardHealth::Good, None)).await;
                }
                Err(failure) => {
                    let error = failure.task_error();
                    let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                    let reason = format!("{}{hint}", error.message);
                    warn!(board = %self.id, reason, "the board cannot be used");
                    self.tell(Event::Health(BoardHealth::Bad, Some(reason))).await;
                    self.turn_away(&failure).await;
                    sleep(PROBE_PERIOD).await;
                }
            }
        }
    }

    /// Restarts the board with the firmware that answered last, until it answers again.
    async fn recover(&mut self, why: &BoardError) {
        let reason = format!("restarting after: {why}");
        self.tell(Event::Health(BoardHealth::Unknown, Some(reason))).await;
        self.device.stop().await;
        let mut pause = Duration::from_secs(1);
        while let Some(firmware) = &self.proven {
            let up = self.device.ensure(firmware, None).await.map(|_| ());
            match up {
                Ok(()) => break,
                Err(error) => {
                    let reason = error.to_string();
                    warn!(board = %self.id, reason, "the board does not come back");
                    self.tell(Event::Health(BoardHealth::Bad, Some(reason))).await;
                    self.turn_away(&error).await;
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(60));
                }
            }
        }
        self.tell_content().await;
        // Where no firmware has answered yet, only the emulator can be looked at.
        self.probe().await;
        info!(board = %self.id, "the board is good again");
    }

    async fn tell_content(&self) {
        let (firmware, image) = match (self.device.content(), &self.parsed) {
            (Some((version, image)), Some((_, parsed))) => (Some((parsed.loaded, version)), image),
            _ => (None, None),
        };
        self.tell(Event::Content(firmware, image)).await;
    }

    async fn attempt(&mut self, attempt: Attempt) {
        let lease = attempt.lease.clone();
        info!(board = %self.id, task = %lease.task, token = %lease.token, "attempt taken");
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
                (Outcome::Failed(error.task_error()), (!error.board_is_well()).then_some(error))
            }
        };
        if let Some(failure) = &failure {
            let reason = format!("restarting after: {failure}");
            self.tell(Event::Health(BoardHealth::Unknown, Some(reason))).await;
        }
        self.tell(Event::Finished(lease, outcome)).await;
        if let Some(failure) = failure {
            self.recover(&failure).await;
        }
    }

    async fn measure(&mut self, attempt: &Attempt) -> Result<v1::Measurement, Stopped> {
        let Attempt { lease, spec, cancel, recall } = attempt;
        let ready = async {
            let (firmware, image) = self.stage(lease, spec).await?;
            let parsed = self.parse(&firmware, spec).await?;
            let image_bytes = size(&image).await?;
            self.report(lease, "start", 0, 1);
            let up = self.device.ensure(&firmware, Some(&image)).await;
            if up.is_ok() {
                self.proven = Some(firmware);
            }
            up?;
            self.tell_content().await;
            Ok::<_, BoardError>((parsed, image_bytes))
        };
        let (parsed, image_bytes) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Stopped::Cancelled { board_is_well: true }),
            () = recall.cancelled() => return Err(Stopped::Recalled),
            ready = ready => ready?,
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
        let mut last: Option<Instant> = None;
        let mut repetitions = Vec::new();
        for number in 0..spec.warmup + spec.repetitions {
            let (phase, base) =
                (if number < spec.warmup { "warmup" } else { "run" }, each * u64::from(number));
            let mut done = base;
            let progress = |n| {
                done += n;
                if last.is_none_or(|last| last.elapsed() >= PROGRESS_PERIOD) {
                    last = Some(Instant::now());
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
                Err(error) => return Err(running.explain(error).await.into()),
            }
        }
        Ok(assemble(&Raw {
            kind,
            hello: &running.hello,
            firmware: parsed,
            emulator_version: &self.emulator_version,
            image_bytes,
            repetitions: &repetitions,
            warmups: spec.warmup,
        }))
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
    async fn parse(&mut self, firmware: &Pin, spec: &Spec) -> Result<Firmware, BoardError> {
        let parsed = match &self.parsed {
            Some((digest, parsed)) if *digest == firmware.digest() => parsed.clone(),
            _ => {
                let bytes = tokio::fs::read(firmware.path())
                    .await
                    .map_err(|source| BoardError::File { what: "the firmware", source })?;
                let parsed = Firmware::parse(&bytes)?;
                self.parsed = Some((firmware.digest(), parsed.clone()));
                parsed
            }
        };
        match spec.loaded {
            Some(wanted) if wanted != parsed.loaded => Err(BoardError::Firmware(format!(
                "its loaded segments have digest {}, the task names {wanted}",
                parsed.loaded
            ))),
            _ => Ok(parsed),
        }
    }
}

async fn size(image: &Pin) -> Result<u64, BoardError> {
    let metadata = tokio::fs::metadata(image.path())
        .await
        .map_err(|source| BoardError::File { what: "the board image", source })?;
    Ok(metadata.len())
}
