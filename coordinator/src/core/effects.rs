//! What the scheduler wants, as rows, frames and news.

use edgeprof_common::{AttemptNo, JobId, TaskId, TaskState, WorkerId};
use edgeprof_proto::v1::{self, to_worker::Frame as To};
use edgeprof_scheduler::{Effects, Event, LeaseRef, Notice, Order, Send, Verdict, Write};
use prost::Message;
use tokio::time::Instant;

use super::{Core, Dirty, commit::Out};
use crate::{
    clock,
    ingest::{Ended, Subject, assemble},
    session::frames,
    store::rows::{self, key},
};

/// Results of unknown tasks that are kept.
const KEEP_ASIDE: u64 = 1000;

impl Core {
    /// Hands an event to the scheduler and takes its effects into the command at hand.
    pub(super) fn step(&mut self, event: Event) {
        self.step_at(Instant::now(), event);
    }

    /// The same for what happened before it could be handled.
    pub(super) fn step_at(&mut self, at: Instant, event: Event) {
        let effects = self.scheduler.step(self.at(at), event);
        self.absorb(effects);
    }

    fn absorb(&mut self, effects: Effects) {
        // The record shows what is known before the task is cleared away.
        for write in effects.writes {
            self.write(write);
        }
        for send in effects.sends {
            self.send(send);
        }
        for notice in effects.notices {
            self.notice(notice);
        }
        // Only now: what answers this comes after what was sent here.
        if let Some(board) = self.without_canary.pop() {
            self.step(Event::NoCanary { board });
        }
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::PutTask(row) => drop(self.touched.insert(row.id, Some(row))),
            Write::PutLastToken { board, token } => drop(self.tokens.insert(board, token)),
            Write::RecordRun { task, job, attempt, lease, verdict } => {
                self.record(task, job, attempt, lease.as_ref(), &verdict);
            }
            Write::SetAside { worker, lease } => self.set_aside(&worker, &lease),
            Write::PutBoard(row) => self.put_board(*row),
            Write::PutDrained { worker, on } => self.put_drained(worker, on),
            Write::PutEstimate(estimate) => self.put_estimate(&estimate),
        }
    }

    fn record(
        &mut self,
        task: TaskId,
        job: JobId,
        attempt: AttemptNo,
        lease: Option<&LeaseRef>,
        verdict: &Verdict,
    ) {
        let (Some(def), Some(job)) = (self.defs.get(&task).cloned(), self.jobs.get(&job)) else {
            tracing::error!(%task, "a task without a definition ended");
            return;
        };
        let open = self.open.get(&task);
        let prepared = open.and_then(|open| open.prepared.as_ref());
        let started_at = open.and_then(|open| open.started_at).map(clock::text);
        let vocabulary = prepared.and_then(|prepared| self.vocabularies.get(&prepared.image.vocabulary));
        let board = lease.and_then(|lease| self.boards.get(&lease.board)).map(super::sessions::Board::seen);
        let subject = Subject {
            job: &job.row,
            task: &def,
            prepared: prepared.map(AsRef::as_ref),
            vocabulary: vocabulary.map(AsRef::as_ref),
            attempt,
            started_at: started_at.as_deref(),
            board: board.as_ref(),
        };
        let measured = self
            .payload
            .as_ref()
            .filter(|payload| lease == Some(&payload.lease))
            .and_then(|payload| payload.measured.as_ref());
        let lost = || {
            edgeprof_common::TaskError::new(
                edgeprof_common::ErrorClass::Infrastructure,
                "no_measurement",
                "the result came without a measurement",
            )
        };
        let record = match verdict {
            Verdict::Succeeded => match measured {
                Some(measured) => assemble(&subject, Ended::Measured(measured)),
                None => assemble(&subject, Ended::Failed(&lost())),
            },
            Verdict::Failed(error) | Verdict::Exhausted(error) => assemble(&subject, Ended::Failed(error)),
            Verdict::Cancelled => assemble(&subject, Ended::Cancelled),
        };
        self.transaction.put_later(key::run(record.run_id), move || rows::pack(&record));
        self.trace_commit(&def);
    }

    /// Keeps a result of an unknown task, the newest thousand. One that is late for a job that was forgotten is
    /// dropped, as it would have been before.
    fn set_aside(&mut self, worker: &WorkerId, lease: &LeaseRef) {
        if !self.defs.contains_key(&lease.task) && self.was_task(lease.task) {
            return;
        }
        tracing::warn!(%worker, task = %lease.task, "a result of an unknown task is kept aside");
        let result = self.payload.as_ref().map(|payload| payload.message.encode_to_vec()).unwrap_or_default();
        self.next_aside += 1;
        let number = self.next_aside;
        self.transaction.put(key::aside(number), lz4_flex::compress_prepend_size(&result));
        if number > KEEP_ASIDE {
            self.transaction.delete(key::aside(number - KEEP_ASIDE));
        }
    }

    fn send(&mut self, send: Send) {
        match send {
            Send::Close { peer, reason } => {
                tracing::info!(worker = %peer.worker, ?reason, "closing the session");
                self.outs.push(Out::Close(peer.session));
            }
            Send::Command { to, command, order } => {
                self.commands.insert(to.worker.clone(), command.0);
                let canary = match &order {
                    Order::Canary { lease } => Some(lease.board.clone()),
                    _ => None,
                };
                let Some(frame) = self.frame(order) else { return self.without_canary.extend(canary) };
                let frame = v1::ToWorker { command: command.0, frame: Some(frame) };
                self.outs.push(Out::Frame(to.session, Box::new(frame)));
            }
        }
    }

    fn frame(&self, order: Order) -> Option<To> {
        Some(match order {
            Order::Start { lease, attempt } => {
                let spec = self.spec(&lease);
                if spec.is_none() {
                    tracing::error!(task = %lease.task, board = %lease.board, "a lease without a specification");
                }
                To::Start(Box::new(v1::Start {
                    lease: Some(frames::lease(lease.token)),
                    task_id: lease.task.to_string(),
                    board: lease.board.to_string(),
                    spec: Some(spec?),
                    traceparent: self.traceparent(lease.task, attempt.0),
                }))
            }
            Order::Canary { lease } => To::Start(Box::new(v1::Start {
                lease: Some(frames::lease(lease.token)),
                task_id: lease.task.to_string(),
                board: lease.board.to_string(),
                spec: Some(self.canary(&lease)?),
                traceparent: None,
            })),
            Order::Reset { board } => To::Reset(v1::ResetNow { board: board.to_string() }),
            Order::Recall { lease } => To::Recall(v1::Recall {
                lease: Some(frames::lease(lease.token)),
                task_id: lease.task.to_string(),
                board: lease.board.to_string(),
            }),
            Order::Cancel { lease } => To::Cancel(v1::CancelAttempt {
                lease: Some(frames::lease(lease.token)),
                task_id: lease.task.to_string(),
                board: lease.board.to_string(),
            }),
            Order::Ack { lease, duplicate } => {
                let refused = self.payload.as_ref().filter(|payload| payload.lease == lease);
                match refused.and_then(|payload| payload.undecodable.clone()) {
                    Some(reason) => To::Nack(v1::Nack {
                        task_id: lease.task.to_string(),
                        lease: Some(frames::lease(lease.token)),
                        permanent: true,
                        reason,
                    }),
                    None => To::Ack(v1::Ack {
                        task_id: lease.task.to_string(),
                        lease: Some(frames::lease(lease.token)),
                        duplicate,
                    }),
                }
            }
        })
    }

    /// Everything that a worker needs for a canary run; nothing where there is none for the board's kind.
    fn canary(&self, lease: &LeaseRef) -> Option<v1::AttemptSpec> {
        self.parts.canary.as_ref()?.spec(&self.boards.get(&lease.board)?.report.kind)
    }

    /// Everything that a worker needs for an attempt.
    fn spec(&self, lease: &LeaseRef) -> Option<v1::AttemptSpec> {
        let (def, prepared) = (self.defs.get(&lease.task)?, self.open.get(&lease.task)?.prepared.as_ref()?);
        let kind = &self.boards.get(&lease.board)?.report.kind;
        let firmware = def.firmware.get(kind)?;
        Some(v1::AttemptSpec {
            firmware_digest: firmware.file.to_string(),
            firmware_size: firmware.size,
            firmware_loaded_digest: firmware.loaded.to_string(),
            image_digest: prepared.image.image.to_string(),
            image_size: prepared.image.size,
            tokens: prepared.tokens.clone(),
            n_depth: def.cell.n_depth,
            n_gen: def.cell.n_gen,
            stop_tokens: prepared.stop_tokens.clone(),
            ctx: prepared.ctx,
            kv: def.cell.kv.as_str().into(),
            temperature: def.cell.temperature,
            seed: def.cell.seed,
            repetitions: def.repetitions,
            warmup: def.warmup,
        })
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Task { task, job, state, attempt, board, error } => {
                tracing::debug!(%task, %job, %state, attempt = attempt.0, board = board.map(tracing::field::display),
                    error = error.as_ref().map(tracing::field::display), "task");
                self.clock_task(task, state);
                if let Some(open) = self.open.get_mut(&task) {
                    if state != TaskState::Leased {
                        open.progress = None;
                    }
                    // Whatever the task becomes, another attempt starts at another time.
                    (open.started_at, open.inherited) = (None, false);
                }
                if matches!(state, TaskState::Failed | TaskState::Exhausted)
                    && let Some(job) = self.jobs.get_mut(&job)
                {
                    job.failed += 1;
                }
                self.changed(job);
            }
            Notice::Job { job, state } => {
                self.outs.push(Out::Log(Box::new(move || tracing::info!(%job, %state, "job ended"))));
                self.meters.job_ended(state.as_str());
                self.changed(job);
                self.mark(job, Dirty::End);
                self.job_ended(job, state);
            }
            Notice::Attempt { task, job, phase, done, total, .. } => {
                let starts = phase == "started";
                let phase = match phase.as_str() {
                    "accepted" => "stage".to_owned(),
                    "started" => "start".to_owned(),
                    _ => phase,
                };
                if let Some(open) = self.open.get_mut(&task) {
                    if starts && !open.inherited {
                        open.started_at.get_or_insert_with(clock::now_ms);
                        self.untold.entry(task).or_insert_with(Instant::now);
                    }
                    open.progress = Some(v1::Progress { phase, done, total });
                    self.mark(job, Dirty::Ephemeral);
                }
            }
            Notice::Story { task, attempt, board, what, why, .. } => {
                self.measure(task, board.as_ref(), what);
                self.tell(task, attempt, board, what, why);
            }
            Notice::Worker { worker, health, reason } => {
                self.present = None;
                tracing::info!(%worker, %health, %reason, "worker");
            }
            Notice::Board { board, health } => {
                self.present = None;
                tracing::info!(%board, health = health.map(tracing::field::display), "board");
            }
            Notice::Contested { worker } => {
                tracing::error!(%worker, "two machines claim this worker id; neither gets work");
            }
        }
    }

    /// Numbers a change of a job.
    pub(super) fn changed(&mut self, id: JobId) {
        self.next_event += 1;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.last_event = self.next_event;
        }
        self.mark(id, Dirty::Change);
    }
}
