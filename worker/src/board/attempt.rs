//! One attempt on a board, from its blobs to its measurement.

use std::{sync::Arc, time::Duration};

use edgeprof_common::BoardHealth;
use edgeprof_proto::v1;
use tokio::{task::spawn_blocking, time::Instant};
use tracing::{debug, warn};

use super::{
    actor::{Actor, Event, Outcome},
    device::{Program, Source},
    error::BoardError,
    fault,
    queue::Attempt,
    run::{Ended, Patience, repetition},
    stage::{Staged, Stager},
};
use crate::{
    blobs::Pin,
    firmware::Firmware,
    measure::{Counted, Raw, assemble},
    spec::Spec,
};

/// Between two progress events.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);

enum Stopped {
    Error(BoardError),
    Cancelled {
        board_is_well: bool,
    },
    /// It never started, and the hub knows.
    TakenBack,
}

impl From<BoardError> for Stopped {
    fn from(error: BoardError) -> Self {
        Self::Error(error)
    }
}

impl Actor {
    /// Runs the first attempt of the queue.
    pub(super) async fn attempt(&mut self, attempt: &Attempt) {
        let lease = &attempt.lease;
        debug!(board = %self.stager.id, task = %lease.task, token = %lease.token, "attempt taken");
        self.device.transcript().begin();
        let (mut started, reset) = (false, Arc::clone(&self.inbox.reset));
        let measured = tokio::select! {
            biased;
            () = reset.notified() => Err(Stopped::Error(BoardError::Reset)),
            measured = self.measure(attempt, &mut started) => measured,
        };
        if started {
            attempt.log_end();
        }
        let (outcome, failure) = match measured {
            Ok(measurement) => (Some(Outcome::Measured(Box::new(measurement))), None),
            Err(Stopped::TakenBack) => (None, None),
            Err(Stopped::Cancelled { board_is_well }) => {
                let failure = BoardError::Hung {
                    doing: "end a cancelled run",
                    after: self.stager.limits.cancel_timeout,
                };
                (Some(Outcome::Cancelled), (!board_is_well).then_some(failure))
            }
            // It waits for the board to be back.
            Err(Stopped::Error(BoardError::Reset)) if !started => (None, Some(BoardError::Reset)),
            Err(Stopped::Error(error)) => {
                warn!(board = %self.stager.id, task = %lease.task, %error, "attempt failed");
                self.device.transcript().note(&error.to_string());
                // Whoever was first: it may have been taken back meanwhile.
                let mine = started || self.inbox.queue.start(lease.token);
                let outcome = mine.then(|| Outcome::Failed(error.task_error()));
                (outcome, (!error.board_is_well()).then_some(error))
            }
        };
        if let Some(failure) = &failure {
            self.health(BoardHealth::Unknown, Some(format!("restarting after: {failure}"))).await;
        }
        if let Some(outcome) = outcome {
            let transcript = self.device.transcript().text();
            self.stager.tell(Event::Finished(lease.clone(), outcome, transcript)).await;
        }
        if let Some(failure) = failure {
            self.recover(&failure).await;
        }
    }

    async fn measure(&mut self, attempt: &Attempt, started: &mut bool) -> Result<v1::Measurement, Stopped> {
        let ready = tokio::select! {
            biased;
            () = attempt.cancel.cancelled() => return Err(Stopped::TakenBack),
            ready = self.ready(attempt) => ready,
        };
        let (parsed, image_bytes) = match ready {
            Ok(ready) => ready,
            Err(error) => return Err(self.explained(error).await.into()),
        };
        tokio::select! {
            biased;
            () = attempt.cancel.cancelled() => return Err(Stopped::TakenBack),
            () = self.inbox.trusted.granted() => {}
        }
        if !self.inbox.queue.start(attempt.lease.token) {
            return Err(Stopped::TakenBack);
        }
        *started = true;
        attempt.log_start();
        self.stager.tell(Event::Started(attempt.lease.clone())).await;
        match self.repeat(attempt, &parsed, image_bytes).await {
            Err(Stopped::Error(error)) => Err(self.explained(error).await.into()),
            other => other,
        }
    }

    /// Brings firmware and image onto the board. Dropped before its end, it leaves no emulator half started.
    async fn ready(&mut self, attempt: &Attempt) -> Result<(Firmware, u64), BoardError> {
        let Attempt { lease, spec, .. } = attempt;
        let Staged { firmware, image } = self.stager.stage(attempt).await?;
        let program = self.program(firmware, spec).await?;
        let image_bytes = size(&image).await?;
        self.stager.report(lease, "start", 0, 1);
        let Self { device, stager, .. } = self;
        let mut pace = Pace::default();
        if let Some(spare) = stager.spare.take()
            && let Some(running) = spare.running().await
        {
            device.replace(running, &program, &image);
        }
        let loaded = |done, total| {
            if pace.due() {
                stager.report(lease, "load", done, total);
            }
        };
        let up = device.ensure(&program, Some(&image), loaded).await.map(drop);
        // The firmware answered, whatever became of the image.
        let parsed = program.parsed.clone();
        if self.device.running().is_some() {
            self.proven = Some(program);
        }
        up?;
        self.tell_content().await;
        Ok((parsed, image_bytes))
    }

    /// Runs all repetitions, while what comes next on this board is brought here.
    async fn repeat(
        &mut self,
        attempt: &Attempt,
        parsed: &Firmware,
        image_bytes: u64,
    ) -> Result<v1::Measurement, Stopped> {
        let Attempt { lease, spec, cancel } = attempt;
        let Self { device, stager, inbox, .. } = self;
        let Stager { limits, events, id, .. } = &*stager;
        let patience = Patience::of(limits.frame_timeout, limits.cancel_timeout, image_bytes, spec.uncounted);
        let (events, id, spare) = (events.clone(), id.clone(), device.spare());
        let run = async {
            let each = u64::from(spec.n_prompt()) + u64::from(spec.n_gen());
            let total = each * u64::from(spec.repetitions + spec.warmup);
            let Some(running) = device.running() else {
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
                        let event = Event::Progress(lease.clone(), phase, done, total);
                        let _ = events.try_send((id.clone(), event));
                    }
                };
                match repetition(&mut running.board, spec, patience, cancel, progress).await {
                    Ok(Ended::Whole(figures, stop)) if number >= spec.warmup => {
                        repetitions.push((figures, stop));
                    }
                    Ok(Ended::Whole(..)) => {}
                    Ok(Ended::Cancelled) => return Err(Stopped::Cancelled { board_is_well: true }),
                    Ok(Ended::CancelledUnanswered) => {
                        return Err(Stopped::Cancelled { board_is_well: false });
                    }
                    // What a cancelled attempt ran into is nobody's concern, but for the board's health.
                    Err(error) if cancel.is_cancelled() => {
                        return Err(Stopped::Cancelled { board_is_well: error.board_is_well() });
                    }
                    Err(error) => return Err(running.explain(error).await.into()),
                }
            }
            Ok((repetitions, running.hello))
        };
        let (repetitions, hello) = tokio::select! {
            biased;
            ran = run => ran?,
            () = stager.ahead(&inbox.queue, spare.as_ref()) => unreachable!("it stages until it is dropped"),
        };
        let uid = match self.device.source() {
            Source::Attached(port) => port.uid(),
            Source::Emulated(_) => None,
        };
        Ok(assemble(&Raw {
            kind: self.device.kind(),
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
        let Ok(elf) = tokio::fs::read(program.pin.path()).await else { return error };
        let (isa, plain) = (&self.device.kind().isa, error.to_string());
        // Debug information is large, and whoever built it may have it wrong: no other board waits for that.
        match spawn_blocking(move || fault::explain(error, &elf, isa)).await {
            Ok(explained) => explained,
            Err(_) => BoardError::Panic { message: plain, trace: Vec::new(), place: None },
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
                let parsed = spawn_blocking(move || Firmware::parse(&bytes)).await;
                parsed.map_err(|panicked| BoardError::Firmware(panicked.to_string()))??
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
