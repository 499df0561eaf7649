//! Streams between coordinators and workers, and what arrives at either end.

use std::collections::BTreeMap;

use edgeprof_common::{BoardId, Incarnation, Token};
use edgeprof_scheduler::{BoardReport, Command, Event, Frame, Held, Order, Peer, RejectReason, SessionId};

use super::{
    Bug, Ev, Lab,
    disk::{Claim, Refusal},
    life::LifeId,
    log::{self, Violation},
    work,
    worker::{Later, Out},
};

/// A stream: who hears it at either end, and when its last frame each way arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) life: LifeId,
    pub(super) worker: usize,
    /// The coordinator's end is open.
    here: bool,
    /// The worker's end is open.
    there: bool,
    out: u64,
    back: u64,
}

/// A worker of another lab is not dialled again for this long, in ms.
const FOREIGN: u64 = 10_000;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    Back,
}

/// A coordinator's greeting.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    claim: Claim,
    issued: BTreeMap<BoardId, Token>,
    command: Command,
}

/// A worker's answer to it.
#[derive(Clone, Debug)]
pub(super) struct HelloBack {
    incarnation: Incarnation,
    boards: Vec<BoardReport>,
    held: Vec<Held>,
    draining: bool,
}

impl Lab {
    fn cut_until(&self, life: LifeId, worker: usize, way: Way) -> u64 {
        let between = self.cuts.get(&(life, worker)).copied().unwrap_or(0);
        let worker = &self.workers[worker];
        let own = if way == Way::Out { worker.out_cut_until } else { worker.back_cut_until };
        own.max(between)
    }

    /// Puts a frame on a stream.
    pub(super) fn carry(&mut self, session: SessionId, way: Way, event: Ev) {
        let faulty = !self.plan.ordered && self.now < self.plan.faults_until;
        let latency = self.rng.between(1, 40);
        let Some(stream) = self.streams.get(&session).copied() else { return };
        if self.cut_until(stream.life, stream.worker, way) > self.now {
            return;
        }
        if faulty && self.rng.chance(20) {
            return self.count("frame lost");
        }
        let mut arrives = self.now + latency;
        let last = if way == Way::Out { stream.out } else { stream.back };
        if faulty && self.rng.chance(20) {
            self.count("frame doubled");
            let again = self.rng.between(1, 3000);
            self.at(again, event.clone());
        }
        if faulty {
            if arrives < last {
                self.count("frame reordered");
            }
        } else {
            arrives = arrives.max(last);
        }
        if let Some(stream) = self.streams.get_mut(&session) {
            *(if way == Way::Out { &mut stream.out } else { &mut stream.back }) = arrives.max(last);
        }
        self.at(arrives - self.now, event);
    }

    /// One end closes a stream; the other hears of it, unless nothing gets through: then it finds out itself.
    fn close(&mut self, session: SessionId, from: Way) {
        let Some(stream) = self.streams.get(&session).copied() else { return };
        let cut = self.cut_until(stream.life, stream.worker, from) > self.now;
        let wait = if cut { self.rng.between(1000, 20_000) } else { self.rng.between(1, 50) };
        let other = if from == Way::Out { Ev::BrokenThere(session) } else { Ev::BrokenHere(session) };
        // What was sent before arrives before the end of the stream.
        let last = if from == Way::Out { stream.out } else { stream.back };
        self.at(wait.max(last.saturating_sub(self.now)), other);
    }

    pub(super) fn close_here(&mut self, session: SessionId) {
        if self.streams.get(&session).is_some_and(|stream| stream.here) {
            self.close(session, Way::Out);
            self.broken_here(session);
        }
    }

    pub(super) fn close_there(&mut self, session: SessionId) {
        if self.streams.get(&session).is_some_and(|stream| stream.there) {
            self.close(session, Way::Back);
            self.broken_there(session);
        }
    }

    /// The network breaks a stream: both ends hear of it.
    pub(super) fn break_stream(&mut self, session: SessionId) {
        let waits = (self.rng.between(1, 50), self.rng.between(1, 50));
        self.at(waits.0, Ev::BrokenHere(session));
        self.at(waits.1, Ev::BrokenThere(session));
    }

    pub(super) fn broken_here(&mut self, session: SessionId) {
        let Some(stream) = self.streams.get_mut(&session).filter(|stream| stream.here) else { return };
        stream.here = false;
        let (id, worker) = (stream.life, stream.worker);
        if !stream.there {
            self.streams.remove(&session);
        }
        let life = &mut self.lives[id.0];
        if !life.up {
            return;
        }
        if life.linked.get(&worker) == Some(&session) {
            life.linked.remove(&worker);
        }
        let peer = Peer { worker: self.workers[worker].id.clone(), session };
        self.step(id, Event::SessionLost { peer });
    }

    pub(super) fn broken_there(&mut self, session: SessionId) {
        let Some(stream) = self.streams.get_mut(&session).filter(|stream| stream.there) else { return };
        stream.there = false;
        let worker = &mut self.workers[stream.worker];
        if worker.session == Some(session) {
            worker.session = None;
        }
        if !stream.here {
            self.streams.remove(&session);
        }
    }

    /// A coordinator dials a worker, again and again.
    pub(super) fn dial(&mut self, id: LifeId, index: usize) {
        if !self.lives[id.0].up {
            return;
        }
        let wait = self.rng.between(200, 1500);
        self.at(wait, Ev::Dial(id, index));
        let (life, worker) = (&self.lives[id.0], &self.workers[index]);
        let reachable = [Way::Out, Way::Back].iter().all(|way| self.cut_until(id, index, *way) <= self.now);
        let dialled = self.streams.values().any(|s| s.life == id && s.worker == index && s.here);
        let refused = self.refused_until.get(&(id, index)).is_some_and(|until| *until > self.now);
        if dialled || refused || !reachable || worker.frozen_until > self.now || life.stalled_until > self.now
        {
            return;
        }
        if !worker.up {
            return self.at(2, Ev::Refused(id, index));
        }
        let command = life.last_command.get(&index).copied().unwrap_or_default();
        let hello = Hello { claim: life.claim(), issued: life.scheduler.issued(&worker.id), command };
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let stream = Stream { life: id, worker: index, here: true, there: true, out: 0, back: 0 };
        self.streams.insert(session, stream);
        let wait = self.rng.between(1, 60);
        self.at(wait, Ev::Hello(session, hello));
        self.at(5000, Ev::NoAnswer(session));
    }

    /// A greeting that nobody answered.
    pub(super) fn no_answer(&mut self, session: SessionId) {
        let Some(stream) = self.streams.get(&session) else { return };
        if stream.here && self.lives[stream.life.0].linked.get(&stream.worker) != Some(&session) {
            self.close_here(session);
        }
    }

    pub(super) fn hello(&mut self, session: SessionId, hello: Hello) {
        let Some(Stream { life, worker: index, there: true, .. }) = self.streams.get(&session).copied()
        else {
            return;
        };
        let worker = &mut self.workers[index];
        if !worker.up {
            return self.break_stream(session);
        }
        if worker.frozen_until > self.now {
            let wait = worker.frozen_until - self.now;
            return self.at(wait, Ev::Hello(session, hello));
        }
        let open = self.bug == Some(Bug::FencingOff);
        match worker.disk.admit(hello.claim) {
            Ok(claim) => worker.disk.claim = Some(claim),
            Err(_) if open => worker.disk.claim = Some(hello.claim),
            Err(refusal) => {
                let wait = self.rng.between(1, 60);
                self.at(wait, Ev::Turned(session, refusal));
                return self.broken_there(session);
            }
        }
        let before = worker.session.replace(session);
        worker.last_command = hello.command;
        for board in &mut worker.boards {
            board.raise(Token { epoch: hello.claim.epoch, counter: 0 });
            if let Some(token) = hello.issued.get(&board.id) {
                board.raise(*token);
            }
        }
        let checked = self.checks.admits(index, worker, hello.claim);
        let answer = HelloBack {
            incarnation: worker.incarnation,
            boards: worker.reports(),
            held: worker.held(),
            draining: worker.stopping.is_some(),
        };
        let results = worker.deliver(self.now, true);
        self.log
            .line(self.now, || format!("{} lets {life} in: session {}", self.workers[index].id, session.0));
        if let Some(before) = before {
            self.close_there(before);
        }
        self.keep(checked);
        let wait = self.rng.between(1, 60);
        // The handshake is the first thing on its stream, whatever happens to later frames.
        if let Some(stream) = self.streams.get_mut(&session) {
            stream.back = self.now + wait;
        }
        self.at(wait, Ev::HelloBack(session, answer));
        for frame in results {
            self.at(wait + 1, Ev::ToLife(session, frame));
        }
        self.heard(index);
    }

    /// A worker turned a coordinator away. One that is not the newest of its cluster has no business here.
    pub(super) fn turned(&mut self, session: SessionId, refusal: Refusal) {
        let Some(stream) = self.streams.get(&session).copied() else { return };
        self.log.line(self.now, || format!("{} is turned away: {refusal:?}", stream.life));
        self.count(match refusal {
            Refusal::Cluster => "refused: cluster",
            Refusal::Epoch => "refused: epoch",
            Refusal::Nonce => "refused: nonce",
        });
        self.broken_here(session);
        match refusal {
            Refusal::Cluster => {
                self.refused_until.insert((stream.life, stream.worker), self.now + FOREIGN);
            }
            Refusal::Epoch | Refusal::Nonce => self.exit(stream.life),
        }
    }

    pub(super) fn hello_back(&mut self, session: SessionId, back: HelloBack) {
        let Some(stream) = self.streams.get(&session).copied().filter(|stream| stream.here) else { return };
        let life = &mut self.lives[stream.life.0];
        life.linked.insert(stream.worker, session);
        let peer = Peer { worker: self.workers[stream.worker].id.clone(), session };
        let HelloBack { incarnation, boards, held, draining } = back;
        self.log.line(self.now, || {
            let held: Vec<_> =
                held.iter().map(|h| format!("{:?} {}", h.state, log::lease(&h.lease))).collect();
            format!("{} has a session with {}, which holds {held:?}", stream.life, peer.worker)
        });
        self.step(stream.life, Event::WorkerUp { peer, incarnation, boards, held, draining });
    }

    pub(super) fn reach_worker(&mut self, session: SessionId, command: Command, order: Order) {
        let Some(stream) = self.streams.get(&session).copied().filter(|stream| stream.there) else { return };
        let worker = &mut self.workers[stream.worker];
        if worker.frozen_until > self.now {
            let wait = worker.frozen_until - self.now;
            return self.at(wait, Ev::ToWorker(session, command, order));
        }
        if worker.session != Some(session) {
            return;
        }
        self.log.line(self.now, || {
            format!("{} hears from {}: {}", self.workers[stream.worker].id, stream.life, log::order(&order))
        });
        if let Order::Ack { lease, .. } = &order {
            let store = &self.stores[self.lives[stream.life.0].store];
            let checked = self.checks.acknowledged(stream.worker, store, lease);
            self.keep(checked);
        }
        let worker = &mut self.workers[stream.worker];
        let out = worker.obey((self.now, command), &order, &self.works, &mut self.rng);
        self.follow(stream.worker, out);
    }

    /// A beat of the coordinator: it only shows that it lives.
    pub(super) fn beat_there(&mut self, session: SessionId) {
        let Some(stream) = self.streams.get(&session).copied().filter(|stream| stream.there) else { return };
        let worker = &self.workers[stream.worker];
        if worker.frozen_until <= self.now && worker.session == Some(session) {
            self.heard(stream.worker);
        }
    }

    fn heard(&mut self, index: usize) {
        let mut out = Out::default();
        self.workers[index].hear(self.now, &self.works, &mut self.rng, &mut out);
        self.follow(index, out);
    }

    /// What comes of something that a worker did.
    pub(super) fn follow(&mut self, index: usize, out: Out) {
        let incarnation = self.workers[index].incarnation;
        let mut checked: Result<(), Violation> = Ok(());
        if let Some(lease) = &out.took {
            checked = self.checks.takes(lease);
        }
        for lease in &out.began {
            checked = checked.and_then(|()| self.checks.begins_on((index, &self.workers[index]), lease));
        }
        self.keep(checked);
        self.usage.loads += out.loads;
        for lease in &out.began {
            self.usage.begun.entry(lease.task).or_insert(self.now);
            let kind = self.workers[index].boards.iter().find(|board| board.id == lease.board);
            self.usage.busy += kind.map_or(0, |board| work::run_time(&self.works, lease.task, board.kind));
        }
        for frame in out.frames {
            match &frame {
                Frame::Rejected { reason, .. } => {
                    self.checks.rejected += 1;
                    self.checks.refused += u64::from(*reason != RejectReason::Recalled);
                }
                Frame::Result { lease, outcome } => {
                    self.usage.ended.insert(lease.task, self.now);
                    self.checks.ends(lease, outcome);
                }
                _ => {}
            }
            if let Some(session) = self.workers[index].session {
                self.carry(session, Way::Back, Ev::ToLife(session, frame));
            }
        }
        for (wait, later) in out.later {
            self.at(wait, Ev::Later(index, incarnation, later));
        }
    }

    pub(super) fn reach_life(&mut self, session: SessionId, frame: Frame) {
        let Some(stream) = self.streams.get(&session).copied().filter(|stream| stream.here) else { return };
        let from = Peer { worker: self.workers[stream.worker].id.clone(), session };
        let who = || format!("{} hears from {}", stream.life, from.worker);
        self.log.heard(self.now, session, who, &frame);
        self.step(stream.life, Event::Frame { from, frame });
    }

    /// A worker's heartbeat, and whatever waits for an acknowledgement.
    pub(super) fn beat_back(&mut self, index: usize, incarnation: Incarnation) {
        let worker = &mut self.workers[index];
        if !worker.up || worker.incarnation != incarnation {
            return;
        }
        if worker.frozen_until <= self.now {
            let mut out = Out { frames: vec![worker.heartbeat()], ..Out::default() };
            if worker.session.is_some() {
                out.frames.extend(worker.deliver(self.now, false));
            }
            self.follow(index, out);
        }
        self.at(1000, Ev::BeatBack(index, incarnation));
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
        match later {
            Later::Die(token) if worker.runs(token) => {
                self.count("worker died of a task");
                self.kill_worker(index);
            }
            Later::Drain => {
                let mut out = Out::default();
                if worker.drained(self.now, &mut out) {
                    self.follow(index, Out { later: Vec::new(), ..out });
                    self.kill_worker(index);
                } else {
                    self.follow(index, out);
                }
            }
            later => {
                let out = worker.later(self.now, later, &self.works, &mut self.rng);
                self.follow(index, out);
            }
        }
    }
}
