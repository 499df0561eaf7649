//! What leaves the hub: frames of the session, results until they are acknowledged, wishes for blobs.

use edgeprof_common::{BoardId, Digest};
use edgeprof_proto::v1::{self, FromWorker, from_worker::Frame as From};
use tokio::time::Instant;
use tonic::Status;
use tracing::warn;

use super::{AGAIN, Hub, SPARE};
use crate::spec::{self, LeaseRef};

impl Hub {
    /// Sends results that were not sent in this session or not lately, as long as there is room.
    pub(super) fn deliver(&mut self) {
        let Some(session) = &mut self.session else { return };
        let now = Instant::now();
        for (key, result) in self.outbox.iter() {
            let lately = session.sent.get(key).is_some_and(|at| now.duration_since(*at) < AGAIN);
            if lately {
                continue;
            }
            if session.frames.capacity() <= SPARE {
                break;
            }
            let frame =
                FromWorker { last_command: self.last_command, frame: Some(From::Result(result.clone())) };
            if session.frames.try_send(Ok(frame)).is_ok() {
                session.sent.insert(*key, now);
            }
        }
    }

    /// Asks for the blobs that attempts wait for.
    pub(super) fn wish(&mut self) {
        let needs = self.boards.values().filter_map(|(slot, _, _)| slot.current.as_ref());
        let mut digests: Vec<Digest> = needs
            .flat_map(|current| current.needs.iter().copied())
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

    pub(super) fn board_changed(&mut self, board: &BoardId) {
        let room = self.outbox.has_room();
        if let Some((slot, _, _)) = self.boards.get(board) {
            let report = slot.report(room);
            self.send(From::Board(report));
        }
    }

    pub(super) fn reports(&self) -> Vec<v1::BoardReport> {
        let room = self.outbox.has_room();
        self.boards.values().map(|(slot, _, _)| slot.report(room)).collect()
    }

    pub(super) fn held(&self) -> Vec<v1::Held> {
        let boards = self.boards.values().filter_map(|(slot, _, _)| slot.held());
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
