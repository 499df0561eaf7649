//! What leaves the hub: frames of the session, results until they are acknowledged, wishes for blobs.

use edgeprof_common::{BoardId, Digest};
use edgeprof_proto::v1::{self, FromWorker, from_worker::Frame as From};
use tokio::time::Instant;
use tonic::Status;
use tracing::warn;

use super::{AGAIN, Hub, SPARE};
use crate::{
    roster::{Closed, Reason},
    spec::{self, LeaseRef},
};

impl Hub {
    /// Sends results that are due, as long as there is room.
    pub(super) fn deliver(&mut self) {
        let Some(session) = &mut self.session else { return };
        let now = Instant::now();
        while session.frames.capacity() > SPARE {
            let Some(key) = session.due.pop_front() else { break };
            let Some(result) = self.outbox.get(&key) else { continue };
            let frame = Some(From::Result(Box::new(result.clone())));
            let frame = FromWorker { last_command: self.last_command, frame };
            if session.frames.try_send(Ok(frame)).is_err() {
                session.due.push_front(key);
                break;
            }
            session.sent.insert(key, now);
        }
    }

    /// Whether results wait for room on the session.
    pub(super) fn is_blocked(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.due.is_empty())
    }

    /// Makes results due again that were not acknowledged for long.
    pub(super) fn redeliver(&mut self) {
        let Some(session) = &mut self.session else { return };
        let now = Instant::now();
        let late = |at: &Instant| now.duration_since(*at) >= AGAIN;
        session.due.extend(session.sent.iter().filter(|(_, at)| late(at)).map(|(key, _)| *key));
        session.sent.retain(|_, at| !late(at));
    }

    /// Asks for the blobs that attempts wait for.
    pub(super) fn wish(&mut self) {
        let attempts = self.boards.values().flat_map(|member| &member.slot.attempts);
        let mut digests: Vec<Digest> = attempts
            .flat_map(|taken| taken.needs.iter().copied())
            .filter(|digest| !self.blobs.has(digest))
            .collect();
        digests.sort();
        digests.dedup();
        if let Some(session) = &mut self.session {
            session.wished = Instant::now();
        }
        if !digests.is_empty() {
            let digests = digests.iter().map(ToString::to_string).collect();
            self.send(From::NeedBlob(v1::NeedBlob { digests }));
        }
    }

    /// Tells how a board is, if the coordinator does not know.
    pub(super) fn board_changed(&mut self, board: &BoardId) {
        let closed = self.closed_to_work();
        let Some(member) = self.boards.get_mut(board) else { return };
        let report = member.slot.report(closed);
        if self.session.is_some() && member.said.as_ref() != Some(&report) {
            member.said = Some(report.clone());
            self.send(From::Board(Box::new(report)));
        }
    }

    /// Tells how all boards are where the worker takes work again, or does no more.
    pub(super) fn reopened(&mut self, before: Option<Closed>) {
        if self.closed_to_work() != before {
            let boards: Vec<BoardId> = self.boards.keys().cloned().collect();
            boards.iter().for_each(|board| self.board_changed(board));
        }
    }

    pub(super) fn reports(&mut self) -> Vec<v1::BoardReport> {
        let closed = self.closed_to_work();
        let report = |member: &mut super::Member| {
            let report = member.slot.report(closed);
            member.said = Some(report.clone());
            report
        };
        self.boards.values_mut().map(report).collect()
    }

    pub(super) fn held(&self) -> Vec<v1::Held> {
        let boards = self.boards.values().flat_map(|member| member.slot.held());
        let outbox = self.outbox.iter().map(|((task, token), result)| v1::Held {
            lease: Some(spec::lease(*token)),
            task_id: task.to_string(),
            board: result.board.clone(),
            state: "outbox".into(),
        });
        boards.chain(outbox).collect()
    }

    /// Sends what the coordinator must hear. One that does not read loses its session: at the next hello
    /// it hears the whole state.
    pub(super) fn send(&mut self, frame: From) {
        let last_command = self.last_command;
        let Some(session) = &self.session else { return };
        if session.frames.try_send(Ok(FromWorker { last_command, frame: Some(frame) })).is_err() {
            warn!("the coordinator does not read; its session is closed");
            self.end_session(Status::resource_exhausted("frames are not read"));
        }
    }

    /// Sends what is true again a moment later.
    pub(super) fn send_if_room(&mut self, frame: From) {
        let last_command = self.last_command;
        if let Some(session) = self.session.as_ref().filter(|session| session.frames.capacity() > SPARE) {
            let _ = session.frames.try_send(Ok(FromWorker { last_command, frame: Some(frame) }));
        }
    }
}

pub(super) fn accepted(lease: &LeaseRef) -> From {
    From::Accepted(v1::Accepted {
        lease: Some(spec::lease(lease.token)),
        task_id: lease.task.to_string(),
        board: lease.board.to_string(),
    })
}

pub(super) fn started(lease: &LeaseRef) -> From {
    From::Started(v1::Started {
        lease: Some(spec::lease(lease.token)),
        task_id: lease.task.to_string(),
        board: lease.board.to_string(),
    })
}

pub(super) fn rejected(lease: &LeaseRef, reason: Reason, message: String) -> From {
    From::Rejected(v1::Rejected {
        lease: Some(spec::lease(lease.token)),
        task_id: lease.task.to_string(),
        board: lease.board.to_string(),
        reason: reason.as_str().into(),
        message,
    })
}
