//! What happens next: events reach processes, and what comes of it is committed, sent and checked.

use std::time::Duration;

use edgeprof_scheduler::{Config, Effects, Event, LeaseRef, Now, Order, Send};

use super::{
    Bug, Ev, Lab,
    life::{Life, LifeId},
    log,
    net::Way,
    store::Transaction,
};

impl Lab {
    /// The life whose loop an event waits for.
    fn waits_for(&self, event: &Ev) -> Option<LifeId> {
        match event {
            Ev::Ready(id, _)
            | Ev::NoCanary(id, _)
            | Ev::Commit(id)
            | Ev::Tick(id)
            | Ev::Refused(id, _)
            | Ev::Operator(id, _) => Some(*id),
            Ev::HelloBack(session, _)
            | Ev::ToLife(session, _)
            | Ev::BrokenHere(session)
            | Ev::NoAnswer(session)
            | Ev::Turned(session, _) => self.streams.get(session).map(|stream| stream.life),
            Ev::Submit(ids) => self.serving[self.works[&ids[0]].cluster],
            Ev::Cancel(id) => self.serving[self.works[id].cluster],
            _ => None,
        }
    }

    pub(super) fn happen(&mut self, event: Ev) {
        // What comes to a loop that stands still waits, behind the note of how long it stood.
        let until = self.waits_for(&event).map_or(0, |id| self.lives[id.0].stalled_until);
        if until > self.now {
            return self.at(until + 1 - self.now, event);
        }
        match event {
            Ev::Submit(ids) => self.submit(ids),
            Ev::Ready(id, task) => {
                let image = self.works[&task].image.clone();
                self.step(id, Event::Ready { tasks: vec![task], image });
            }
            Ev::LateJobs => self.late_jobs(),
            Ev::Cancel(task) => self.cancel(task),
            Ev::NoCanary(id, board) => self.step(id, Event::NoCanary { board }),
            Ev::Commit(id) => self.commit(id),
            Ev::Tick(id) => {
                let life = &mut self.lives[id.0];
                if life.tick.is_some_and(|at| at <= self.now) {
                    life.tick = None;
                    self.step(id, Event::Tick);
                }
            }
            Ev::Dial(id, worker) => self.dial(id, worker),
            Ev::Refused(id, worker) => {
                let worker = self.workers[worker].id.clone();
                self.step(id, Event::DialRefused { worker });
            }
            Ev::Hello(session, hello) => self.hello(session, hello),
            Ev::HelloBack(session, back) => self.hello_back(session, back),
            Ev::NoAnswer(session) => self.no_answer(session),
            Ev::Turned(session, refusal) => self.turned(session, refusal),
            Ev::ToWorker(session, command, order) => self.reach_worker(session, command, order),
            Ev::ToLife(session, frame) => self.reach_life(session, frame),
            Ev::BeatThere(session) => self.beat_there(session),
            Ev::BrokenHere(session) => self.broken_here(session),
            Ev::BrokenThere(session) => self.broken_there(session),
            Ev::BeatOut(id) => self.beat_out(id),
            Ev::BeatBack(worker, incarnation) => self.beat_back(worker, incarnation),
            Ev::Later(worker, incarnation, later) => self.later(worker, incarnation, later),
            Ev::WorkerStarts(worker) => self.start_worker(worker),
            Ev::WorkerRestored(worker, disk) => self.restore_worker(worker, *disk),
            Ev::LifeStarts(cluster, store) => self.start_life(cluster, store),
            Ev::StallOver(id, by) => self.step(id, Event::LoopStalled { by: Duration::from_millis(by) }),
            Ev::CutOver(worker) => {
                if let Some(session) = self.workers[worker].session {
                    self.break_stream(session);
                }
            }
            Ev::Operator(id, act) => self.operate(id, act),
            Ev::Fault => self.fault(),
            Ev::Sample => self.sample(),
        }
    }

    /// Hands an event to a life's scheduler, and sees to what comes of it.
    pub(super) fn step(&mut self, id: LifeId, event: Event) {
        let life = &mut self.lives[id.0];
        if !life.up {
            return;
        }
        let fx = life.scheduler.step(Now(self.now), event);
        for write in &fx.writes {
            if let edgeprof_scheduler::Write::PutTask(row) = write {
                self.log.line(self.now, || format!("{id} hands in {}", log::row(row)));
            }
        }
        let checked = self.checks.step(self.now, &self.lives[id.0], &fx);
        self.keep(checked);
        let life = &mut self.lives[id.0];
        let Effects { mut writes, sends, .. } = fx;
        life.pending.writes.append(&mut writes);
        if self.bug == Some(Bug::AckBeforeCommit) {
            self.send(id, sends);
        } else {
            life.sends.extend(sends);
        }
        self.after_step(id);
    }

    pub(super) fn after_step(&mut self, id: LifeId) {
        let life = &self.lives[id.0];
        let Transaction { submitted, writes } = &life.pending;
        let idle = submitted.is_empty() && writes.is_empty() && life.sends.is_empty();
        if !life.commit_due && !idle {
            self.lives[id.0].commit_due = true;
            let wait = self.rng.between(1, 20);
            self.at(wait, Ev::Commit(id));
        }
        self.wake(id);
    }

    pub(super) fn wake(&mut self, id: LifeId) {
        let life = &mut self.lives[id.0];
        let Some(Now(at)) = life.scheduler.next_wakeup() else { return };
        let at = at.max(self.now + 1).max(life.stalled_until + 1);
        if life.tick.is_none_or(|planned| at < planned) {
            life.tick = Some(at);
            let wait = at - self.now;
            self.at(wait, Ev::Tick(id));
        }
    }

    fn commit(&mut self, id: LifeId) {
        let life = &mut self.lives[id.0];
        if !life.up {
            return;
        }
        life.commit_due = false;
        let transaction = std::mem::take(&mut life.pending);
        let sends = std::mem::take(&mut life.sends);
        let store = &mut self.stores[life.store];
        let nothing = transaction.submitted.is_empty() && transaction.writes.is_empty();
        if !nothing && store.owner != Some(id) {
            self.log.line(self.now, || format!("{id} cannot commit: its store has another owner"));
            return self.exit(id);
        }
        let accepted: Vec<_> = transaction.submitted.iter().map(|(task, _)| task.id).collect();
        let checked = store.commit(self.now, transaction);
        // A copy of the store does not count for the client.
        if self.official[life.cluster] == life.store {
            self.checks.accepted.extend(accepted);
        }
        self.keep(checked);
        self.send(id, sends);
    }

    fn send(&mut self, id: LifeId, sends: Vec<Send>) {
        for send in sends {
            let life = &mut self.lives[id.0];
            match send {
                Send::Command { to, command, order } => {
                    let checked = self.checks.leaves(self.now, &self.stores[life.store], &order);
                    let Some(stream) = self.streams.get(&to.session).copied() else { continue };
                    life.last_command.insert(stream.worker, command);
                    self.log.line(self.now, || format!("{id} tells {}: {}", to.worker, log::order(&order)));
                    self.keep(checked);
                    match &order {
                        Order::Canary { lease: LeaseRef { board, .. } } if !Life::has_canary(board) => {
                            self.at(1, Ev::NoCanary(id, board.clone()));
                        }
                        _ => self.carry(to.session, Way::Out, Ev::ToWorker(to.session, command, order)),
                    }
                }
                Send::Close { peer, reason } => {
                    self.log.line(self.now, || {
                        format!("{id} closes its session with {}: {reason:?}", peer.worker)
                    });
                    self.close_here(peer.session);
                }
            }
        }
    }

    fn beat_out(&mut self, id: LifeId) {
        let life = &self.lives[id.0];
        if !life.up {
            return;
        }
        let sessions: Vec<_> = life.linked.values().copied().collect();
        if life.stalled_until <= self.now {
            for session in sessions {
                self.carry(session, Way::Out, Ev::BeatThere(session));
            }
        }
        self.at(1000, Ev::BeatOut(id));
    }

    fn sample(&mut self) {
        self.at(1000, Ev::Sample);
        if self.now > self.plan.faults_until {
            self.mend();
        }
        if self.now > self.plan.faults_until + 60_000 {
            self.give_up();
        }
        if self.now > self.plan.faults_until + 30_000 {
            for id in self.serving.clone().into_iter().flatten() {
                let checked = self.checks.sample(&self.lives[id.0], &self.workers);
                self.keep(checked);
            }
        }
    }

    pub(super) fn config(&self) -> Config {
        let config = Config {
            deadline_min: Duration::from_secs(30),
            canary_deadline: Duration::from_secs(60),
            policy: self.policy,
            weights: self.weights.clone(),
            ..Config::default()
        };
        #[cfg(feature = "planted-bugs")]
        let config = Config { bug: self.bug.and_then(Bug::of_the_scheduler), ..config };
        config
    }
}
