//! What goes wrong, what operators do, and how the lab is mended afterwards.

use std::{collections::BTreeMap, time::Duration};

use edgeprof_common::{BoardId, Incarnation, TaskId, WorkerId};
use edgeprof_scheduler::{Event, Mark};

use super::{
    Bug, Ev, Fault, Lab,
    life::{Life, LifeId},
    work::Work,
    worker::Worker,
};

/// Something that an operator tells a coordinator.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Drain(WorkerId, bool),
    Mark(BoardId, Option<Mark>),
}

impl Lab {
    pub(super) fn fault(&mut self) {
        if self.now >= self.plan.faults_until || self.plan.faults.is_empty() {
            return;
        }
        let gentle = self.plan.only_good;
        let wait = if gentle { self.rng.between(12_000, 25_000) } else { self.rng.between(200, 6000) };
        self.at(wait, Ev::Fault);
        let faults = self.plan.faults.concat();
        let fault = faults[self.rng.index(faults.len())];
        let index = self.rng.index(self.workers.len());
        let cluster = self.workers[index].cluster;
        self.count(&format!("{fault:?}"));
        self.log.line(self.now, || format!(" !! {fault:?}, {}, cluster {cluster}", self.workers[index].id));
        let span = self.rng.between(500, 20_000);
        match fault {
            Fault::CoordinatorKilled => self.kill_life(cluster),
            Fault::CoordinatorStalled => self.stall(cluster, if gentle { span.min(10_000) } else { span }),
            Fault::TwoLives => self.two_lives(cluster, span),
            Fault::CopiedStore => self.copy_store(cluster),
            Fault::WorkerKilled => self.kill_worker(index),
            Fault::PowerLost => {
                self.kill_worker(index);
                self.workers[index].disk.lose_power(self.now);
            }
            Fault::WorkerRestored => {
                let before = self.workers[index].disk.clone();
                self.at(span, Ev::WorkerRestored(index, Box::new(before)));
            }
            Fault::WorkerStopped if self.workers[index].up && self.workers[index].stopping.is_none() => {
                let out = self.workers[index].stop(self.now);
                self.follow(index, out);
            }
            Fault::WorkerStopped => {}
            Fault::WorkerFrozen => self.workers[index].frozen_until = self.now + span.min(15_000),
            Fault::StreamBroken => {
                if let Some(session) = self.workers[index].session {
                    self.break_stream(session);
                }
            }
            Fault::Cut | Fault::CutOut | Fault::CutBack => self.cut(index, span, fault),
            Fault::AllCut => {
                let span = if gentle { span.min(9000) } else { span };
                (0..self.workers.len()).for_each(|index| self.cut(index, span, Fault::Cut));
            }
            Fault::BoardBroken => {
                let at = self.rng.index(self.workers[index].boards.len());
                let board = &mut self.workers[index].boards[at];
                board.broken = true;
                self.checks.guilty.insert(board.id.clone());
            }
            Fault::Drained | Fault::Reserved | Fault::Quarantined => self.order(index, fault, span),
        }
    }

    fn cut(&mut self, index: usize, span: u64, how: Fault) {
        let worker = &mut self.workers[index];
        if how != Fault::CutBack {
            worker.out_cut_until = self.now + span;
        }
        if how != Fault::CutOut {
            worker.back_cut_until = self.now + span;
        }
        self.at(span, Ev::CutOver(index));
    }

    fn stall(&mut self, cluster: usize, by: u64) {
        let Some(id) = self.serving[cluster] else { return };
        let life = &mut self.lives[id.0];
        if life.up && life.stalled_until <= self.now {
            life.stalled_until = self.now + by;
            self.at(by, Ev::StallOver(id, by));
        }
    }

    /// A process starts over a store, and is whom clients reach if that is the store that counts.
    pub(super) fn start_life(&mut self, cluster: usize, store: usize) {
        if self.official[cluster] == store && self.serving[cluster].is_some_and(|id| self.lives[id.0].up) {
            return;
        }
        let id = self.new_life(cluster, store);
        if self.official[cluster] == store {
            self.serving[cluster] = Some(id);
        }
    }

    fn new_life(&mut self, cluster: usize, store: usize) -> LifeId {
        let id = LifeId(self.lives.len());
        let moment = (self.now, self.rng.next());
        let config = self.config();
        let life = Life::start((id, cluster, store), &mut self.stores[store], moment, config);
        let epoch = life.epoch.0;
        self.log.line(self.now, || {
            format!("{id} of cluster {cluster} starts at epoch {epoch} over store {store}")
        });
        self.lives.push(life);
        self.checks.begins(id, &self.stores[store], self.now);
        let kept = self.stores[store].recovered(self.now).tasks;
        for row in kept.iter().filter(|row| row.standing.image.is_none() && !row.state().is_terminal()) {
            let wait = self.rng.between(1, 3000);
            self.at(wait, Ev::Ready(id, row.id));
        }
        // Workers of other labs are found too, and turn it away.
        for worker in 0..self.workers.len() {
            let foreign = self.workers[worker].cluster != cluster;
            if !foreign || self.workers[worker].disk.claim.is_some() {
                let wait = if foreign { self.rng.between(3000, 8000) } else { self.rng.between(1, 200) };
                self.at(wait, Ev::Dial(id, worker));
            }
        }
        self.at(500, Ev::BeatOut(id));
        self.wake(id);
        id
    }

    /// A process is gone, with everything that was not handed to its store.
    pub(super) fn exit(&mut self, id: LifeId) {
        let life = &mut self.lives[id.0];
        if !life.up {
            return;
        }
        life.up = false;
        let (cluster, store) = (life.cluster, life.store);
        self.log.line(self.now, || format!("{id} is gone"));
        let sessions: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.life == id)
            .map(|(session, _)| *session)
            .collect();
        sessions.into_iter().for_each(|session| self.close_here(session));
        if self.serving[cluster] == Some(id) {
            self.serving[cluster] = None;
            let wait = self.rng.between(10, 5000);
            self.at(wait, Ev::LifeStarts(cluster, store));
        }
    }

    fn kill_life(&mut self, cluster: usize) {
        let Some(id) = self.serving[cluster] else { return };
        let life = &mut self.lives[id.0];
        // The last transaction may have become durable without anybody being told.
        if life.commit_due && self.stores[life.store].owner == Some(id) && self.rng.chance(500) {
            let transaction = std::mem::take(&mut life.pending);
            let checked = self.stores[life.store].commit(self.now, transaction);
            self.keep(checked);
        }
        self.exit(id);
    }

    /// A new life takes over the store; the old one goes on, and reaches some workers for a while.
    fn two_lives(&mut self, cluster: usize, span: u64) {
        let Some(old) = self.serving[cluster] else { return };
        let new = self.new_life(cluster, self.official[cluster]);
        self.serving[cluster] = Some(new);
        for worker in 0..self.workers.len() {
            match self.rng.between(0, 2) {
                0 => self.cuts.insert((old, worker), self.now + span),
                1 => self.cuts.insert((new, worker), self.now + span),
                _ => None,
            };
        }
    }

    /// Two copies of one store are started at once.
    fn copy_store(&mut self, cluster: usize) {
        self.kill_life(cluster);
        let copy = self.stores.len();
        self.stores.push(self.stores[self.official[cluster]].clone());
        let wait = self.rng.between(10, 3000);
        self.at(wait, Ev::LifeStarts(cluster, self.official[cluster]));
        self.at(wait, Ev::LifeStarts(cluster, copy));
    }

    pub(super) fn kill_worker(&mut self, index: usize) {
        if !self.workers[index].up {
            return;
        }
        let session = self.workers[index].session;
        self.checks.dies(index, &self.workers[index], self.now);
        self.workers[index].die();
        if self.bug == Some(Bug::ForgettingTheOutbox) {
            self.workers[index].disk.outbox.clear();
        }
        self.log.line(self.now, || format!("{} is gone", self.workers[index].id));
        if let Some(session) = session {
            self.break_stream(session);
        }
        let wait = self.rng.between(100, 12_000);
        if self.now < self.plan.faults_until && self.rng.chance(self.plan.gone) && self.replaceable(index) {
            return self.lose_worker(index);
        }
        self.at(wait, Ev::WorkerStarts(index));
    }

    /// Whether its lab has another worker that will be there at the end.
    fn replaceable(&self, index: usize) -> bool {
        let cluster = self.workers[index].cluster;
        let mut others = self.workers.iter().enumerate().filter(|(other, _)| *other != index);
        others.any(|(_, other)| other.cluster == cluster && !other.gone)
    }

    /// A worker that was killed stays away for good, with its disk.
    fn lose_worker(&mut self, index: usize) {
        self.log.line(self.now, || format!(" !! {} stays away", self.workers[index].id));
        self.count("WorkerGone");
        self.workers[index].gone = true;
        self.checks.gone(index);
    }

    pub(super) fn start_worker(&mut self, index: usize) {
        if self.workers[index].up {
            return;
        }
        self.log.line(self.now, || format!("{} starts", self.workers[index].id));
        self.workers[index].up = true;
        let incarnation = Incarnation::from_raw(self.rng.next());
        self.workers[index].incarnation = incarnation;
        self.at(10, Ev::BeatBack(index, incarnation));
    }

    pub(super) fn restore_worker(&mut self, index: usize, disk: super::disk::Disk) {
        self.kill_worker(index);
        self.log.line(self.now, || format!(" !! {} has an older disk", self.workers[index].id));
        self.workers[index].disk = disk;
        self.checks.restored(index, &self.workers[index]);
    }

    /// An operator's word, and later its opposite.
    fn order(&mut self, index: usize, fault: Fault, span: u64) {
        let worker = &self.workers[index];
        let Some(id) = self.serving[worker.cluster] else { return };
        let worker_id = worker.id.clone();
        let board = worker.boards[self.rng.index(worker.boards.len())].id.clone();
        let (act, undo) = match fault {
            Fault::Drained => (Act::Drain(worker_id.clone(), true), Act::Drain(worker_id, false)),
            Fault::Reserved => {
                let left = Duration::from_millis(span);
                let mark = Mark::Reserved { by: "ada".into(), left };
                (Act::Mark(board.clone(), Some(mark)), Act::Mark(board, None))
            }
            _ => {
                let mark = Mark::Quarantined { by: "ada".into(), reason: "it smells".into() };
                (Act::Mark(board.clone(), Some(mark)), Act::Mark(board, None))
            }
        };
        self.at(1, Ev::Operator(id, act));
        // Some are forgotten until the lab is mended; reservations end by themselves.
        if self.rng.chance(600) {
            self.at(span / 2, Ev::Operator(id, undo));
        }
    }

    pub(super) fn operate(&mut self, id: LifeId, act: Act) {
        self.log.line(self.now, || format!("an operator tells {id}: {act:?}"));
        match act {
            Act::Drain(worker, on) => self.step(id, Event::Drain { worker, on }),
            Act::Mark(board, mark) => self.step(id, Event::Mark { board, mark }),
        }
    }

    /// A while after the last fault, clients give up what no board is left for.
    pub(super) fn give_up(&mut self) {
        let left: Vec<&Worker> = self.workers.iter().filter(|worker| !worker.gone).collect();
        let able = |work: &Work| {
            let boards = left.iter().filter(|worker| worker.cluster == work.cluster);
            let labels = BTreeMap::new();
            boards
                .flat_map(|worker| &worker.boards)
                .any(|board| work.new.requirement.meets(&board.id, board.kind, &labels))
        };
        let open = |work: &&Work| !self.stores[self.official[work.cluster]].ended(&work.new.id);
        let hopeless = self.works.values().filter(open).filter(|work| !able(work));
        let hopeless: Vec<TaskId> = hopeless.map(|work| work.new.id).collect();
        hopeless.into_iter().for_each(|task| self.cancel(task));
    }

    /// Once faults are over: operators mend what is broken and take back what they set aside.
    pub(super) fn mend(&mut self) {
        for worker in &mut self.workers {
            worker.boards.iter_mut().for_each(|board| board.broken = false);
        }
        for id in self.serving.clone().into_iter().flatten() {
            let store = &self.stores[self.lives[id.0].store];
            let drained = store.drained.iter().map(|worker| Act::Drain(worker.clone(), false));
            let marked = store.boards.values().filter(|row| row.mark.is_some());
            let marked = marked.map(|row| Act::Mark(row.board.clone(), None));
            let acts: Vec<_> = drained.chain(marked).collect();
            acts.into_iter().for_each(|act| self.operate(id, act));
        }
    }
}
