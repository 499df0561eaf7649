//! The worker machine: handshakes, silence and proofs of death.

use edgeprof_common::{Incarnation, WorkerId};

use crate::{
    BoardReport, CANARY, CloseReason, Effects, Held, Notice, Now, Peer, Scheduler, Send,
    alarms::Alarm,
    config::Bug,
    task::lab_error,
    worker::{Belief, Process, Worker},
};

/// Below this many workers, silence of most of them is no sign that the fault is ours.
const FEWEST_FOR_HOLD: usize = 3;

impl Scheduler {
    pub(crate) fn worker_up(
        &mut self,
        fx: &mut Effects,
        peer: &Peer,
        incarnation: Incarnation,
        boards: Vec<BoardReport>,
        held: &[Held],
        draining: bool,
    ) {
        let (id, now) = (&peer.worker, self.now);
        self.attempts.lose_sight(id);
        let new = || Worker::new(Belief::Unheard { until: now }, now);
        let worker = self.workers.get_or_insert_with(id, new);
        let process = worker.meet(incarnation);
        let contested = worker.contested_until.is_some();
        if process == Process::Returned || (contested && process != Process::Same) {
            worker.contested_until = Some(now.plus(self.config.contest));
            if !contested {
                fx.notices.push(Notice::Contested { worker: id.clone() });
            }
        }
        if let Some(session) = worker.session.replace(peer.session).filter(|old| *old != peer.session) {
            let peer = Peer { worker: id.clone(), session };
            fx.sends.push(Send::Close { peer, reason: CloseReason::Superseded });
        }
        worker.refused = None;
        worker.detector.resume(now);
        self.believe(fx, id, Belief::Alive, "connected");
        self.report_boards(fx, id, &boards, true);
        self.reconcile_all(fx, id, held, process);
        self.stopping(fx, id, draining);
    }

    pub(crate) fn heard(&mut self, fx: &mut Effects, id: &WorkerId, beat: bool) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        if beat {
            worker.detector.beat(self.now);
        } else {
            worker.detector.heard(self.now);
        }
        // Its alarm stands: when it goes off, what was heard since counts.
        if worker.belief != Belief::Alive {
            self.believe(fx, id, Belief::Alive, "heard again");
        }
    }

    pub(crate) fn session_lost(&mut self, fx: &mut Effects, peer: &Peer) {
        let Some(worker) = self.workers.get_mut(&peer.worker) else { return };
        if worker.session != Some(peer.session) {
            return;
        }
        worker.session = None;
        self.believe(fx, &peer.worker, Belief::Suspect, "its session broke");
    }

    /// Ends the session with a worker; the caller dials again.
    pub(crate) fn close(&mut self, fx: &mut Effects, id: &WorkerId, reason: CloseReason) {
        let session = self.workers.get(id).and_then(|worker| worker.session);
        let Some(session) = session else { return };
        let peer = Peer { worker: id.clone(), session };
        fx.sends.push(Send::Close { peer: peer.clone(), reason });
        self.session_lost(fx, &peer);
    }

    pub(crate) fn dial_refused(&mut self, fx: &mut Effects, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        if worker.session.is_some() || worker.belief == Belief::Dead {
            return;
        }
        let first = *worker.refused.get_or_insert(self.now);
        if self.now.since(first) >= self.config.refused_apart {
            self.dead(fx, id, true, "its host refuses connections");
        }
    }

    pub(crate) fn worker_alarm(&mut self, fx: &mut Effects, id: &WorkerId) {
        let (now, held_until) = (self.now, self.held_until());
        let Some(worker) = self.workers.get_mut(id) else { return };
        if worker.contested_until.is_some_and(|until| until <= now) {
            worker.contested_until = None;
        }
        if worker.drain.and_then(|drain| drain.stop_at).is_some_and(|at| at <= now) {
            self.drain_over(fx, id);
        }
        let Some(worker) = self.workers.get(id) else { return };
        match worker.belief {
            Belief::Unheard { until } if until <= now => {
                self.dead(fx, id, false, "not heard since the start")
            }
            Belief::Alive if worker.detector.suspect_at(&self.config) <= now => {
                self.believe(fx, id, Belief::Suspect, "silent");
            }
            Belief::Suspect if worker.dead_at(&self.config) <= now => {
                match held_until.filter(|until| now < *until) {
                    Some(until) => self.alarms.set(Alarm::Worker(id.clone()), Some(until)),
                    None => self.dead(fx, id, false, "silent for too long"),
                }
            }
            _ => self.alarms.set(Alarm::Worker(id.clone()), worker.alarm(&self.config)),
        }
        self.refresh(id);
    }

    /// A worker is given up, and its leases with it; `proven` means that its process is known to be gone.
    fn dead(&mut self, fx: &mut Effects, id: &WorkerId, proven: bool, reason: &str) {
        self.close(fx, id, CloseReason::Silent);
        self.believe(fx, id, Belief::Dead, reason);
        let open = self.attempts.on_worker(id).map(|attempt| (attempt.clone(), self.charge(attempt, proven)));
        for (attempt, charge) in open.collect::<Vec<_>>() {
            if attempt.closed.is_some() || attempt.task == CANARY {
                self.settle(fx, &attempt);
            } else {
                let error = lab_error("worker_lost", format!("worker {id} is gone: {reason}"));
                self.lose(fx, &attempt, charge, error);
            }
        }
    }

    /// Changes what is believed of a worker, and everything that hangs on it.
    fn believe(&mut self, fx: &mut Effects, id: &WorkerId, belief: Belief, reason: &str) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let before = (worker.belief, worker.health());
        worker.belief = belief;
        if belief == Belief::Suspect {
            self.attempts.lose_sight(id);
        }
        self.alarms.set(Alarm::Worker(id.clone()), worker.alarm(&self.config));
        let unheard = matches!(before.0, Belief::Unheard { .. });
        if unheard || before.1 != worker.health() {
            let (worker, health) = (id.clone(), worker.health());
            fx.notices.push(Notice::Worker { worker, health, reason: reason.to_owned() });
        }
        self.refresh(id);
        self.watch_silence(belief == Belief::Alive);
    }

    /// Notes when most workers begin to be silent together, and when that is over.
    fn watch_silence(&mut self, heard: bool) {
        let count = |belief| self.workers.values().filter(|worker| worker.belief == belief).count();
        let (suspect, alive) = (count(Belief::Suspect), count(Belief::Alive));
        let together = suspect + alive >= FEWEST_FOR_HOLD && suspect > alive;
        match (together, self.silence) {
            (true, None) => self.silence = Some(self.now),
            (false, Some(since)) => {
                self.silence = None;
                // If others are heard again, whoever was silent with them has a while to be heard too.
                let spared = self.now.plus(self.config.dead_min).min(since.plus(self.config.silence_hold));
                let spared_until = heard.then_some(spared);
                let silent = self.workers.iter_mut().filter(|(_, worker)| worker.belief == Belief::Suspect);
                for (id, worker) in silent {
                    worker.spared_until = spared_until;
                    self.alarms.set(Alarm::Worker(id.clone()), worker.alarm(&self.config));
                }
            }
            _ => {}
        }
    }

    /// Until when silence alone kills nobody.
    fn held_until(&self) -> Option<Now> {
        let guarded = !self.config.planted(Bug::SilenceUnheld);
        self.silence.filter(|_| guarded).map(|since| since.plus(self.config.silence_hold))
    }
}
