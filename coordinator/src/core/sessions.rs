//! What sessions say: workers that come and go, their frames, their results.

use std::sync::Arc;

use edgeprof_common::{Digest, WorkerId, run::Board as Seen};
use edgeprof_proto::v1::{self, from_worker::Frame as From};
use edgeprof_scheduler::{BoardReport, CANARY, Event, Frame, LeaseRef, Outcome, Peer, SessionId};
use prost::Message;
use tokio::time::Instant;

use super::{Core, Failed, Payload, Session};
use crate::{
    ingest::{Measured, seen},
    session::{Greeting, SessionEvent, Up, frames},
    store::rows::{self, LogRow, key},
};

/// Longest transcript of an attempt that is kept, in bytes.
const LOG: usize = 256 << 10;

/// Somebody to dial.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) found_by: &'static str,
    pub(super) worker: Option<WorkerId>,
    pub(super) reason: Option<String>,
}

/// What a worker said of itself.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) address: String,
    pub(super) found_by: &'static str,
    pub(super) version: String,
}

/// What is known of a board beyond what the scheduler needs.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) report: BoardReport,
    pub(super) worker: WorkerId,
    pub(super) firmware_version: Option<String>,
}

impl Board {
    /// As records name it.
    pub(super) fn seen(&self) -> Seen {
        seen(&self.report, &self.worker)
    }
}

impl Core {
    pub(super) fn session(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Greet { key, worker, reply } => {
                let greeting = self.greeting(&key, worker.as_ref());
                self.reply(reply, greeting);
            }
            SessionEvent::Dialled { key, found_by, address, worker, reason, refused } => {
                if let (Some(worker), true) = (&worker, refused) {
                    self.step(Event::DialRefused { worker: worker.clone() });
                }
                let found_by = found_by.as_str();
                self.targets.insert(key, Target { address, found_by, worker, reason });
            }
            SessionEvent::Gone { key } => {
                self.targets.remove(&key);
            }
            SessionEvent::Up(up) => self.up(*up),
            SessionEvent::Frames { session, frames, read_at } => {
                self.heard = read_at;
                for frame in frames {
                    self.frame_from(session, frame, read_at);
                }
            }
            SessionEvent::Lost(id) => self.lost(id),
            SessionEvent::Superseded(reason) => self.failed = Some(Failed::Superseded(reason)),
        }
    }

    /// What to greet a worker with; nothing if another target's session serves it.
    fn greeting(&self, key: &str, worker: Option<&WorkerId>) -> Option<Greeting> {
        let Some(worker) = worker else {
            // Its name is not known yet: it takes what is for its own boards.
            let issued = self.scheduler.all_issued();
            // Too high a number would claim that it has seen commands which are yet to come.
            return Some(Greeting { issued, last_command: 0 });
        };
        if self.sessions.values().any(|session| session.worker == *worker && session.key != key) {
            return None;
        }
        let last_command = self.commands.get(worker).copied().unwrap_or_default();
        Some(Greeting { issued: self.scheduler.issued(worker), last_command })
    }

    fn up(&mut self, up: Up) {
        let Up { session, key, found_by, address, hello, outgoing, stop } = up;
        let parsed = (|| {
            let worker: WorkerId = hello.worker_id.parse().map_err(|e| format!("{e}"))?;
            let incarnation = hello.incarnation.parse().map_err(|e| format!("{e}"))?;
            let boards = frames::reports(&hello.boards)?;
            Ok::<_, String>((worker, incarnation, boards, frames::held(&hello.held)?))
        })();
        let (worker, incarnation, boards, held) = match parsed {
            Ok(parsed) => parsed,
            Err(reason) => {
                tracing::error!(%address, %reason, "a worker's greeting cannot be read");
                let found_by = found_by.as_str();
                self.targets.insert(key, Target { address, found_by, worker: None, reason: Some(reason) });
                return stop.cancel();
            }
        };
        tracing::info!(%worker, %address, boards = boards.len(), version = %hello.version, "session");
        self.see(&worker, &hello.boards, &boards);
        let found_by = found_by.as_str();
        let target =
            Target { address: address.clone(), found_by, worker: Some(worker.clone()), reason: None };
        self.targets.insert(key.clone(), target);
        self.workers.insert(worker.clone(), Worker { address, found_by, version: hello.version });
        self.sessions.insert(
            session,
            Session {
                worker: worker.clone(),
                key,
                outgoing,
                stop,
                reported: (gist(&hello.boards), boards.as_slice().into()),
            },
        );
        self.step(Event::WorkerUp {
            peer: Peer { worker, session },
            incarnation,
            boards,
            held,
            draining: hello.draining,
        });
        self.end_waiting();
    }

    fn lost(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            session.stop.cancel();
            self.step(Event::SessionLost { peer: Peer { worker: session.worker, session: id } });
        }
    }

    fn frame_from(&mut self, id: SessionId, message: v1::FromWorker, at: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let from = Peer { worker: session.worker.clone(), session: id };
        let last_command = message.last_command;
        let mut news = false;
        let frame = match message.frame {
            Some(From::Result(result)) => return self.result(from, result, at),
            Some(From::Heartbeat(beat)) => {
                self.meters.heartbeat();
                let gist = gist(&beat.boards);
                news = session.reported.0 != gist;
                let read = match news {
                    true => frames::reports(&beat.boards).map(Arc::from),
                    false => Ok(session.reported.1.clone()),
                };
                if let (true, Ok(read)) = (news, &read) {
                    session.reported = (gist, Arc::clone(read));
                    self.see(&from.worker, &beat.boards, read);
                }
                read.and_then(|read| frames::heartbeat(&beat, read, last_command))
            }
            Some(From::Board(report)) => {
                news = true;
                let read = frames::report(&report);
                if let Ok(read) = &read {
                    self.see(&from.worker, std::slice::from_ref(&report), std::slice::from_ref(read));
                }
                read.map(Frame::Board)
            }
            Some(other) => frames::frame(&other),
            None => Ok(Frame::Heard),
        };
        match frame {
            Ok(frame) => {
                self.step_at(at, Event::Frame { from, frame });
                if news && !self.awaiting.is_empty() {
                    self.end_waiting();
                }
            }
            Err(reason) => {
                tracing::warn!(worker = %from.worker, %reason, "a frame cannot be read");
                self.step_at(at, Event::Frame { from, frame: Frame::Heard });
            }
        }
    }

    fn result(&mut self, from: Peer, result: Box<v1::Result>, at: Instant) {
        let Some(lease) = frames::lease_ref(result.lease.as_ref(), &result.task_id, &result.board) else {
            tracing::error!(worker = %from.worker, task = %result.task_id, "a result without a readable lease");
            return self.nack(&from, &result);
        };
        let (mut outcome, measured, undecodable) = read_result(&result);
        if lease.task == CANARY && outcome == Outcome::Succeeded {
            let canary = self.parts.canary.as_ref().zip(measured.as_ref());
            if let Some(Err(error)) = canary.map(|(canary, measured)| canary.judge(measured)) {
                outcome = Outcome::Failed(error);
            }
        }
        self.keep_log(&lease, &outcome, &result.transcript);
        self.payload = Some(Payload { lease: lease.clone(), message: result, measured, undecodable });
        self.step_at(at, Event::Frame { from, frame: Frame::Result { lease, outcome } });
        self.payload = None;
    }

    /// Keeps what passed on the board's line, with what the result changes.
    fn keep_log(&mut self, lease: &LeaseRef, outcome: &Outcome, transcript: &[u8]) {
        let Some(text) = unpacked(transcript).filter(|text| !text.is_empty()) else { return };
        if !self.defs.contains_key(&lease.task) && !self.was_task(lease.task) {
            return;
        }
        let outcome = match outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed(_) => "failed",
            Outcome::Cancelled => "cancelled",
        };
        let row = LogRow { board: lease.board.clone(), outcome: outcome.into(), text };
        self.transaction.put(key::log(lease.task, lease.token), rows::pack(&row));
    }

    /// A result that names nothing can never be taken.
    fn nack(&mut self, from: &Peer, result: &v1::Result) {
        let nack = v1::Nack {
            task_id: result.task_id.clone(),
            lease: result.lease,
            permanent: true,
            reason: "its lease cannot be read".into(),
        };
        let command = self.commands.get(&from.worker).copied().unwrap_or_default();
        let frame = v1::ToWorker { command, frame: Some(v1::to_worker::Frame::Nack(nack)) };
        self.outs.push(super::commit::Out::Frame(from.session, Box::new(frame)));
        self.step(Event::Frame { from: from.clone(), frame: Frame::Heard });
    }

    /// Remembers what records and lists say of boards: the messages, and the same as they were read.
    fn see(&mut self, worker: &WorkerId, messages: &[v1::BoardReport], reports: &[BoardReport]) {
        self.present = None;
        for (message, report) in messages.iter().zip(reports) {
            let (report, worker) = (report.clone(), worker.clone());
            let board = Board { firmware_version: message.firmware_version.clone(), report, worker };
            self.boards.insert(board.report.id.clone(), board);
        }
    }
}

/// What a list of boards is known again by.
fn gist(boards: &[v1::BoardReport]) -> Digest {
    let whole: Vec<_> = boards.iter().map(Message::encode_to_vec).collect();
    Digest::of_parts(whole.iter().map(Vec::as_slice))
}

/// A transcript as text. Its sender is not trusted with the size of what is to come.
fn unpacked(transcript: &[u8]) -> Option<String> {
    let (size, block) = lz4_flex::block::uncompressed_size(transcript).ok()?;
    if size > LOG {
        return None;
    }
    let bytes = lz4_flex::block::decompress(block, size).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a result says, and the measurement that it brings.
fn read_result(result: &v1::Result) -> (Outcome, Option<Measured>, Option<String>) {
    use edgeprof_common::{ErrorClass, TaskError};
    let undecodable = |reason: String| {
        let error = TaskError::new(ErrorClass::Model, "undecodable_result", reason.clone())
            .with_hint("worker and coordinator may be of different versions");
        (Outcome::Failed(error), None, Some(reason))
    };
    match &result.outcome {
        Some(v1::result::Outcome::Measurement(message)) => match Measured::parse(message) {
            Ok(measured) => (Outcome::Succeeded, Some(measured), None),
            Err(error) => undecodable(error.to_string()),
        },
        Some(v1::result::Outcome::Error(error)) => match edgeprof_proto::bridge("error", error) {
            Ok(error) => (Outcome::Failed(error), None, None),
            Err(error) => undecodable(error.to_string()),
        },
        Some(v1::result::Outcome::Cancelled(_)) => (Outcome::Cancelled, None, None),
        None => undecodable("the result has no outcome".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::unpacked;

    #[test]
    fn a_transcript_is_text_or_nothing() {
        let packed = lz4_flex::compress_prepend_size("← Pong".as_bytes());
        assert_eq!(unpacked(&packed).as_deref(), Some("← Pong"));
        assert_eq!(unpacked(&lz4_flex::compress_prepend_size(&[0xff])).as_deref(), Some("\u{fffd}"));
        // No more is made of it than a transcript may be long, whatever it says of itself.
        for lie in [&b""[..], &[1, 0], &[0xff; 4], &[0xff, 0xff, 0xff, 0xff, 0x10, 1], &packed[..6]] {
            assert_eq!(unpacked(lie), None, "{lie:?}");
        }
    }
}
