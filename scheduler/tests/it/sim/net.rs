//! Streams between the coordinator and its workers, and what comes out of them.

use std::collections::BTreeMap;

use edgeprof_common::{BoardId, Epoch, Incarnation, Token};
use edgeprof_scheduler::{Command, Event, Frame, Order, SessionId};

use super::{
    lab::{Ev, Lab, Stream},
    worker::Later,
};

impl Lab {
    /// Puts a frame on a stream.
    pub(super) fn carry(&mut self, session: SessionId, out: bool, event: Ev) {
        let faulty = !self.plan.ordered && self.now < self.plan.faults_until;
        let latency = self.rng.between(1, 40);
        let Some(stream) = self.streams.get_mut(&session) else { return };
        let last = if out { &mut stream.out } else { &mut stream.back };
        if self.workers[stream.worker].cut_until > self.now || (faulty && self.rng.chance(20)) {
            return;
        }
        let mut arrives = self.now + latency;
        if !faulty {
            arrives = arrives.max(*last);
            *last = arrives;
        }
        if faulty && self.rng.chance(20) {
            let again = self.rng.between(1, 3000);
            self.at(again, event.clone());
        }
        self.at(arrives - self.now, event);
    }

    pub(super) fn break_stream(&mut self, session: SessionId) {
        let Some(stream) = self.streams.remove(&session) else { return };
        let worker = &mut self.workers[stream.worker];
        if worker.session == Some(session) {
            worker.session = None;
        }
        if let Some(epoch) = self.coordinator.as_ref().map(|c| c.epoch) {
            let wait = self.rng.between(1, 50);
            self.at(wait, Ev::Broken(stream.worker, session, epoch));
        }
    }

    pub(super) fn dial(&mut self, index: usize) {
        let wait = self.rng.between(200, 1500);
        self.at(wait, Ev::Dial(index));
        let worker = &self.workers[index];
        let reachable = worker.cut_until <= self.now && worker.frozen_until <= self.now;
        if self.linked.contains_key(&index) || !reachable || self.stalled().is_some() {
            return;
        }
        let Some(coordinator) = &self.coordinator else { return };
        let epoch = coordinator.epoch;
        if !worker.up {
            return self.at(2, Ev::Refused(index, epoch));
        }
        let issued = coordinator.scheduler.issued(&worker.id);
        self.sessions += 1;
        let session = SessionId(self.sessions);
        self.streams.insert(session, Stream { worker: index, ..Stream::default() });
        let wait = self.rng.between(1, 60);
        self.at(wait, Ev::Hello(index, session, epoch, issued));
    }

    pub(super) fn hello(
        &mut self,
        index: usize,
        session: SessionId,
        epoch: Epoch,
        issued: &BTreeMap<BoardId, Token>,
    ) {
        if !self.streams.contains_key(&session) || !self.workers[index].up {
            return;
        }
        let old = self.workers[index].session;
        let Some((boards, held)) = self.workers[index].hello(session, epoch, issued) else {
            return self.break_stream(session);
        };
        if let Some(old) = old {
            self.break_stream(old);
        }
        let incarnation = self.workers[index].incarnation;
        let wait = self.rng.between(1, 60);
        // The handshake is the first thing on its stream, whatever happens to later frames.
        if let Some(stream) = self.streams.get_mut(&session) {
            stream.back = self.now + wait;
        }
        self.at(wait, Ev::HelloBack(index, session, epoch, incarnation, boards, held));
        for frame in self.workers[index].outbox() {
            self.at(wait + 1, Ev::ToCoordinator(index, session, frame));
        }
    }

    pub(super) fn reach_worker(&mut self, index: usize, session: SessionId, command: Command, order: Order) {
        let worker = &mut self.workers[index];
        if worker.frozen_until > self.now {
            let wait = worker.frozen_until - self.now;
            return self.at(wait, Ev::ToWorker(index, session, command, order));
        }
        if !worker.up || worker.session != Some(session) {
            return;
        }
        if let Order::Ack { lease, .. } = &order {
            self.checks.acknowledged(&self.store, lease, worker.has_outcome(lease.token));
        }
        let (frames, laters) = worker.command(command, &order, &self.natures, &mut self.rng);
        self.follow(index, frames, laters);
    }

    pub(super) fn follow(&mut self, index: usize, frames: Vec<Frame>, laters: Vec<(u64, Later)>) {
        let incarnation = self.workers[index].incarnation;
        for frame in frames {
            self.end.rejected += u64::from(matches!(frame, Frame::Rejected { .. }));
            if let Some(session) = self.workers[index].session {
                self.carry(session, false, Ev::ToCoordinator(index, session, frame));
            }
        }
        for (wait, later) in laters {
            self.at(wait, Ev::Later(index, incarnation, later));
        }
    }

    pub(super) fn reach_coordinator(&mut self, index: usize, session: SessionId, frame: Frame) {
        if !self.streams.contains_key(&session) || self.coordinator.is_none() {
            return;
        }
        let from = self.peer(index, session);
        self.step(Event::Frame { from, frame });
    }

    pub(super) fn beat(&mut self, index: usize, incarnation: Incarnation) {
        if !self.workers[index].up || self.workers[index].incarnation != incarnation {
            return;
        }
        self.at(1000, Ev::Beat(index, incarnation));
        let worker = &self.workers[index];
        if worker.frozen_until <= self.now {
            let mut frames = vec![worker.heartbeat()];
            if self.rng.chance(250) {
                frames.extend(self.workers[index].outbox());
            }
            self.follow(index, frames, vec![]);
        }
    }

    pub(super) fn later(&mut self, index: usize, incarnation: Incarnation, later: Later) {
        let worker = &mut self.workers[index];
        if !worker.up || worker.incarnation != incarnation {
            return;
        }
        if worker.frozen_until > self.now {
            let wait = worker.frozen_until - self.now;
            return self.at(wait, Ev::Later(index, incarnation, later));
        }
        if let Later::Die(token) = later {
            if worker.runs(token) {
                self.crash_worker(index);
            }
            return;
        }
        let (frames, laters) = worker.later(&later, &mut self.rng);
        self.follow(index, frames, laters);
    }
}
