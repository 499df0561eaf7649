//! Attempts: taken, given back, ended.

use edgeprof_common::{BoardHealth, BoardId};
use edgeprof_proto::v1::{self, from_worker::Frame as From};
use edgeprof_service::telemetry::trace::{self, Span, SpanContext};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Hub,
    send::{accepted, rejected, started},
};
use crate::{
    board::{
        actor::{Event, Outcome},
        guard,
        queue::Attempt,
    },
    roster::{Decision, Held, Reason, Taken},
    spec::{self, LeaseRef, Spec},
};

impl Hub {
    pub(super) fn start(&mut self, start: v1::Start) {
        let v1::Start { lease, task_id, board, spec, traceparent } = start;
        let refused = |reason: Reason, message: String| {
            From::Rejected(v1::Rejected {
                lease,
                task_id: task_id.clone(),
                board: board.clone(),
                reason: reason.as_str().into(),
                message,
            })
        };
        let (Some(lease), Some(spec)) = (spec::lease_ref(lease.as_ref(), &task_id, &board), spec) else {
            return self.send(refused(Reason::BadRequest, "lease, task, board or spec is malformed".into()));
        };
        if self.session.as_ref().is_some_and(|session| session.epoch < lease.token.epoch) {
            let message = format!("token {} is of a later epoch than its session", lease.token);
            return self.send(refused(Reason::BadRequest, message));
        }
        let waiting = self.outbox.get(&(lease.task, lease.token)).is_some();
        let closed = self.closed_to_work();
        let Some(member) = self.boards.get_mut(&lease.board) else {
            let message = format!("{} has no board {board}", self.worker);
            return self.send(refused(Reason::UnknownBoard, message));
        };
        match member.slot.decide(&lease, waiting, closed) {
            Decision::Refuse(reason, message) => self.send(refused(reason, message)),
            Decision::Again(held) => {
                self.send(accepted(&lease));
                if held == Held::Running {
                    self.send(started(&lease));
                }
            }
            Decision::Resend(key) => {
                if let Some(session) = &mut self.session {
                    session.due.push_back(key);
                }
                self.deliver();
            }
            Decision::Take => {
                member.slot.raise(lease.token);
                let spec = match Spec::check(&spec, member.kind) {
                    Ok(spec) => spec,
                    Err(error) => {
                        member.slot.end(lease.token);
                        self.send(accepted(&lease));
                        self.finish(&lease, Outcome::Failed(error), "");
                        return self.deliver();
                    }
                };
                let cancel = CancellationToken::new();
                let trace = traceparent.filter(|_| trace::is_on()).and_then(|text| trace::from_text(&text));
                let trace = trace.filter(SpanContext::is_sampled);
                let taken = Taken { trace: trace.clone(), ..Taken::new(lease.clone(), cancel.clone()) };
                member.slot.attempts.push_back(taken);
                let queued = std::time::Instant::now();
                member.queue.push(Attempt { lease: lease.clone(), spec, cancel, trace, queued });
                self.send(accepted(&lease));
                self.board_changed(&lease.board);
            }
        }
    }

    /// Ends an attempt: one that waits at once, one that runs as soon as its board obeys.
    pub(super) fn cancel(&mut self, lease: Option<&v1::Lease>, task: &str, board: &str) {
        let Some(lease) = spec::lease_ref(lease, task, board) else { return };
        let Some(member) = self.boards.get_mut(&lease.board) else { return };
        if member.slot.taken(&lease).is_none() {
            return;
        }
        if member.queue.take_back(lease.token) {
            member.slot.end(lease.token);
            self.finish(&lease, Outcome::Cancelled, "");
            self.deliver();
            self.board_changed(&lease.board);
        } else if let Some(taken) = member.slot.taken(&lease) {
            taken.cancel.cancel();
        }
    }

    /// Gives an attempt back that has not started.
    pub(super) fn recall(&mut self, lease: Option<&v1::Lease>, task: &str, board: &str) {
        let Some(lease) = spec::lease_ref(lease, task, board) else { return };
        let Some(member) = self.boards.get_mut(&lease.board) else { return };
        if member.slot.taken(&lease).is_some() && member.queue.take_back(lease.token) {
            member.slot.end(lease.token);
            self.send(rejected(&lease, Reason::Recalled, "it had not started".into()));
            self.board_changed(&lease.board);
        }
    }

    /// Gives back everything that waits for a board.
    pub(super) fn give_back(&mut self, board: &BoardId, reason: Reason, message: &str) {
        let Some(member) = self.boards.get_mut(board) else { return };
        let leases: Vec<LeaseRef> = member.slot.attempts.iter().map(|taken| taken.lease.clone()).collect();
        let back: Vec<LeaseRef> =
            leases.into_iter().filter(|lease| member.queue.take_back(lease.token)).collect();
        for lease in &back {
            member.slot.end(lease.token);
        }
        for lease in &back {
            self.send(rejected(lease, reason, message.to_owned()));
        }
        if !back.is_empty() {
            self.board_changed(board);
        }
    }

    /// The coordinator has a result, or will never take it.
    pub(super) fn forget(&mut self, lease: Option<&v1::Lease>, task: &str) {
        let (Some(lease), Ok(task)) = (lease, task.parse()) else { return };
        let key = (task, spec::token(lease));
        let before = self.closed_to_work();
        self.outbox.remove(&key);
        if let Some(upload) = self.uploads.remove(&key) {
            upload.end();
        }
        if let Some(session) = &mut self.session {
            session.sent.remove(&key);
        }
        self.reopened(before);
    }

    pub(super) fn event(&mut self, board: &BoardId, event: Event) {
        let Some(member) = self.boards.get_mut(board) else { return };
        let slot = &mut member.slot;
        match event {
            Event::Health(health, reason) => {
                let why = reason.clone().unwrap_or_default();
                (slot.health, slot.reason) = (health, reason);
                self.board_changed(board);
                if health == BoardHealth::Bad {
                    self.give_back(board, Reason::Busy, &format!("the board is bad: {why}"));
                }
            }
            Event::Content(firmware, image) => {
                (slot.firmware, slot.image) = (firmware, image);
                self.board_changed(board);
            }
            Event::Needs(lease, needs) => {
                if let Some(taken) = slot.taken(&lease) {
                    taken.needs = needs;
                    self.wish();
                }
            }
            Event::Started(lease) => {
                if let Some(taken) = slot.taken(&lease) {
                    taken.held = Held::Running;
                    self.send(started(&lease));
                }
            }
            Event::Progress(lease, phase, done, total) if slot.taken(&lease).is_some() => {
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
            Event::Progress(..) => {}
            Event::Finished(lease, outcome, transcript) => {
                let Some(taken) = slot.end(lease.token) else { return };
                match outcome {
                    Outcome::Cancelled if taken.given_back => {
                        let message = "it was ended because the worker stops".to_owned();
                        self.send(rejected(&lease, Reason::Draining, message));
                    }
                    outcome => {
                        if let Some(trace) = &taken.trace {
                            self.uploads.insert((lease.task, lease.token), Span::child(trace, "upload"));
                        }
                        self.finish(&lease, outcome, &transcript);
                    }
                }
                // The result first: a board that is idle has ended what it had.
                self.deliver();
                self.board_changed(board);
            }
            Event::Broken(fault) => self.broken(board, &fault),
        }
    }

    /// A board that nobody serves any more: what it had begun has failed, what waits is given back.
    fn broken(&mut self, board: &BoardId, fault: &str) {
        let error = guard::broken(fault);
        let reason = format!("{error}; {}", error.hint.as_deref().unwrap_or_default());
        self.event(board, Event::Health(BoardHealth::Bad, Some(reason)));
        let Some(member) = self.boards.get(board) else { return };
        let begun: Vec<LeaseRef> = member.slot.attempts.iter().map(|taken| taken.lease.clone()).collect();
        for lease in begun {
            self.event(board, Event::Finished(lease, Outcome::Failed(error.clone()), String::new()));
        }
    }

    /// Keeps a result, which is sent with the next delivery.
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
        };
        let transcript = match transcript {
            "" => Vec::new(),
            text => lz4_flex::compress_prepend_size(text.as_bytes()),
        };
        self.outbox.put(v1::Result {
            lease: Some(spec::lease(lease.token)),
            task_id: lease.task.to_string(),
            board: lease.board.to_string(),
            outcome: Some(outcome),
            transcript,
        });
        if let Some(session) = &mut self.session {
            session.due.push_back((lease.task, lease.token));
        }
    }
}
