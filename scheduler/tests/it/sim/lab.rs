//! The lab: what happens when, and what goes wrong.

use std::{collections::BTreeMap, time::Duration};

use edgeprof_common::{BoardId, Digest, Epoch, Incarnation, JobId, Priority, TaskId, Token};
use edgeprof_scheduler::{
    BoardReport, Command, Config, Effects, Event, Frame, Held, Image, NewTask, Now, Order, Peer, Requirement,
    Send, SessionId,
};

use super::{
    checks::Checks,
    coordinator::{Coordinator, Store},
    rng::Rng,
    worker::{Later, Nature, SimWorker},
};

/// What a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    seed: u64,
    /// Frames of a session arrive in order and once, as TCP gives them.
    pub(super) ordered: bool,
    /// Until when things go wrong, in ms.
    pub(super) faults_until: u64,
    only_good: bool,
}

impl Plan {
    pub(crate) fn ordered(seed: u64) -> Self {
        Self { seed, ordered: true, faults_until: 60_000, only_good: false }
    }

    pub(crate) fn wild(seed: u64) -> Self {
        Self { ordered: false, ..Self::ordered(seed) }
    }

    pub(crate) fn calm(seed: u64) -> Self {
        Self { faults_until: 0, only_good: true, ..Self::ordered(seed) }
    }
}

/// How a run went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) at: u64,
    pub(crate) steps: u64,
    pub(crate) rejected: u64,
    pub(crate) lost: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Ev {
    Submit(Vec<TaskId>),
    Ready(TaskId),
    Cancel(TaskId),
    Commit(Epoch),
    Tick(Epoch),
    Dial(usize),
    Refused(usize, Epoch),
    Hello(usize, SessionId, Epoch, BTreeMap<BoardId, Token>),
    HelloBack(usize, SessionId, Epoch, Incarnation, Vec<BoardReport>, Vec<Held>),
    ToWorker(usize, SessionId, Command, Order),
    ToCoordinator(usize, SessionId, Frame),
    Broken(usize, SessionId, Epoch),
    Beat(usize, Incarnation),
    Later(usize, Incarnation, Later),
    WorkerStarts(usize),
    CoordinatorStarts,
    StallOver(Epoch, u64),
    CutOver(usize),
    Fault,
    Sample,
}

impl Ev {
    const fn is_for_the_coordinator(&self) -> bool {
        matches!(
            self,
            Self::Submit(_)
                | Self::Ready(_)
                | Self::Cancel(_)
                | Self::Commit(_)
                | Self::Tick(_)
                | Self::Refused(..)
                | Self::HelloBack(..)
                | Self::ToCoordinator(..)
                | Self::Broken(..)
        )
    }
}

/// A stream, and when its last frame each way arrives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    pub(super) worker: usize,
    pub(super) out: u64,
    pub(super) back: u64,
}

pub(crate) struct Lab {
    pub(super) plan: Plan,
    verbose: bool,
    pub(super) rng: Rng,
    pub(super) now: u64,
    events: BTreeMap<(u64, u64), Ev>,
    count: u64,
    pub(crate) store: Store,
    pub(crate) coordinator: Option<Coordinator>,
    pub(crate) workers: Vec<SimWorker>,
    pub(super) streams: BTreeMap<SessionId, Stream>,
    pub(super) linked: BTreeMap<usize, SessionId>,
    pub(super) sessions: u64,
    pub(crate) natures: BTreeMap<TaskId, Nature>,
    tasks: BTreeMap<TaskId, NewTask>,
    pub(super) checks: Checks,
    pub(super) end: End,
}

impl Lab {
    pub(crate) fn new(plan: Plan, verbose: bool) -> Self {
        let mut rng = Rng::new(plan.seed);
        let mut store = Store::default();
        let workers: Vec<_> =
            (0..rng.between(1, 5)).map(|n| SimWorker::new(n as usize, !plan.only_good, &mut rng)).collect();
        let coordinator = Coordinator::start(&mut store, 0, config());
        let mut lab = Self {
            verbose,
            rng,
            now: 0,
            events: BTreeMap::new(),
            count: 0,
            store,
            coordinator: Some(coordinator),
            workers,
            streams: BTreeMap::new(),
            linked: BTreeMap::new(),
            sessions: 0,
            natures: BTreeMap::new(),
            tasks: BTreeMap::new(),
            checks: Checks::default(),
            end: End::default(),
            plan,
        };
        lab.prepare();
        lab
    }

    fn prepare(&mut self) {
        for job in 1..=self.rng.between(1, 4) {
            let mut ids = Vec::new();
            for _ in 0..self.rng.between(1, 8) {
                let task = self.task(JobId::from_raw(job));
                ids.push(task.id);
                if self.rng.chance(60) && !self.plan.only_good {
                    let at = self.rng.between(1, 50_000);
                    self.at(at, Ev::Cancel(task.id));
                }
                self.tasks.insert(task.id, task);
            }
            let at = self.rng.between(0, 40_000);
            self.at(at, Ev::Submit(ids));
        }
        for worker in 0..self.workers.len() {
            self.at(0, Ev::Dial(worker));
            self.at(10, Ev::Beat(worker, self.workers[worker].incarnation));
        }
        self.at(500, Ev::Fault);
        self.at(1000, Ev::Sample);
    }

    fn task(&mut self, job: JobId) -> NewTask {
        let id = TaskId::from_raw(u128::from(self.rng.next()));
        let nature = match self.rng.between(0, 99) {
            _ if self.plan.only_good => Nature::Good,
            0..4 => Nature::Wrong,
            4..16 => Nature::Flaky,
            16..19 => Nature::Hangs,
            19..21 => Nature::Deaf,
            21..25 => Nature::Deadly,
            _ => Nature::Good,
        };
        self.natures.insert(id, nature);
        let requirement = match self.rng.between(0, 3) {
            0 => Requirement::kind("m4"),
            1 => Requirement::board(self.workers[0].boards[0].id.clone()),
            _ => Requirement::default(),
        };
        let prepared = self.rng.chance(500);
        let priority = if self.rng.chance(200) { Priority::High } else { Priority::Normal };
        NewTask {
            id,
            job,
            priority,
            requirement,
            image: prepared.then(image),
            submitter: String::new(),
            work: 1,
        }
    }

    pub(super) fn at(&mut self, wait: u64, event: Ev) {
        self.count += 1;
        self.events.insert((self.now + wait, self.count), event);
    }

    pub(crate) fn run(mut self) -> End {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            if self.verbose {
                println!("{at:>8} {event:?}");
            }
            self.end.steps += 1;
            self.happen(event);
            if self.over() {
                break;
            }
            assert!(at < 3_600_000, "no end: {:#?}", self.unfinished());
        }
        self.end.at = self.now;
        let past = self.store.tasks.values().flat_map(|row| &row.past);
        self.end.lost = past.filter(|past| past.closed == edgeprof_scheduler::Closed::Lost).count();
        self.checks.finally(&self.store, &self.tasks, &self.natures);
        self.end
    }

    fn over(&self) -> bool {
        self.now > self.plan.faults_until
            && self.store.tasks.len() == self.tasks.len()
            && self.store.tasks.values().all(|row| row.state().is_terminal())
            && !self.workers.iter().any(SimWorker::holds_work)
    }

    fn unfinished(&self) -> Vec<String> {
        let open = self.store.tasks.values().filter(|row| !row.state().is_terminal());
        open.map(|row| format!("{:?} {row:?}", self.natures[&row.id])).collect()
    }

    fn happen(&mut self, event: Ev) {
        // What comes to a loop that stands still waits, behind the note of how long it stood.
        if let Some(until) = self.stalled().filter(|_| event.is_for_the_coordinator()) {
            return self.at(until + 1 - self.now, event);
        }
        match event {
            Ev::Submit(ids) => self.submit(ids),
            Ev::Ready(task) => self.step(Event::Ready { task, image: image() }),
            Ev::Cancel(task) => self.step(Event::CancelTask { task }),
            Ev::Commit(epoch) => self.commit(epoch),
            Ev::Tick(epoch) => {
                if self.coordinator.as_ref().is_some_and(|c| c.epoch == epoch) {
                    self.step(Event::Tick);
                }
            }
            Ev::Dial(worker) => self.dial(worker),
            Ev::Refused(worker, epoch) => {
                if self.coordinator.as_ref().is_some_and(|c| c.epoch == epoch) {
                    self.step(Event::DialRefused { worker: self.workers[worker].id.clone() });
                }
            }
            Ev::Hello(worker, session, epoch, issued) => self.hello(worker, session, epoch, &issued),
            Ev::HelloBack(worker, session, epoch, incarnation, boards, held) => {
                if self.streams.contains_key(&session)
                    && self.coordinator.as_ref().is_some_and(|c| c.epoch == epoch)
                {
                    self.linked.insert(worker, session);
                    let peer = self.peer(worker, session);
                    self.step(Event::WorkerUp { peer, incarnation, boards, held, draining: false });
                }
            }
            Ev::ToWorker(worker, session, command, order) => {
                self.reach_worker(worker, session, command, order)
            }
            Ev::ToCoordinator(worker, session, frame) => self.reach_coordinator(worker, session, frame),
            Ev::Broken(worker, session, epoch) => {
                if self.coordinator.as_ref().is_some_and(|c| c.epoch == epoch) {
                    if self.linked.get(&worker) == Some(&session) {
                        self.linked.remove(&worker);
                    }
                    let peer = self.peer(worker, session);
                    self.step(Event::SessionLost { peer });
                }
            }
            Ev::Beat(worker, incarnation) => self.beat(worker, incarnation),
            Ev::Later(worker, incarnation, later) => self.later(worker, incarnation, later),
            Ev::WorkerStarts(worker) => {
                self.workers[worker].up = true;
                self.workers[worker].incarnation = Incarnation::from_raw(self.rng.next());
                self.at(10, Ev::Beat(worker, self.workers[worker].incarnation));
            }
            Ev::CoordinatorStarts => {
                self.coordinator = Some(Coordinator::start(&mut self.store, self.now, config()));
                let rows = self.store.tasks.values();
                let unprepared: Vec<_> = rows.filter(|row| row.image.is_none()).map(|row| row.id).collect();
                for task in unprepared {
                    let wait = self.rng.between(1, 3000);
                    self.at(wait, Ev::Ready(task));
                }
                self.wake();
            }
            Ev::StallOver(epoch, by) => {
                if self.coordinator.as_ref().is_some_and(|c| c.epoch == epoch) {
                    self.step(Event::LoopStalled { by: Duration::from_millis(by) });
                }
            }
            Ev::CutOver(worker) => {
                if let Some(session) = self.workers[worker].session {
                    self.break_stream(session);
                }
            }
            Ev::Fault => self.fault(),
            Ev::Sample => {
                self.sample();
                self.at(1000, Ev::Sample);
            }
        }
    }

    pub(super) fn peer(&self, worker: usize, session: SessionId) -> Peer {
        Peer { worker: self.workers[worker].id.clone(), session }
    }

    /// A client submits until it is told that its job is accepted.
    fn submit(&mut self, ids: Vec<TaskId>) {
        if ids.iter().all(|id| self.checks.accepted.contains(id)) {
            return;
        }
        if self.coordinator.is_some() {
            let tasks: Vec<_> = ids.iter().map(|id| self.tasks[id].clone()).collect();
            for task in tasks.iter().filter(|task| task.image.is_none()) {
                let wait = self.rng.between(1, 3000);
                self.at(wait, Ev::Ready(task.id));
            }
            if let Some(coordinator) = &mut self.coordinator {
                coordinator.submit(self.now, tasks);
            }
            self.after_step();
        }
        self.at(2000, Ev::Submit(ids));
    }

    pub(super) fn stalled(&self) -> Option<u64> {
        self.coordinator.as_ref().map(|c| c.stalled_until).filter(|until| *until > self.now)
    }

    pub(super) fn step(&mut self, event: Event) {
        match (&mut self.coordinator, event) {
            (Some(coordinator), event) => coordinator.step(self.now, event),
            (None, Event::Ready { task, .. }) => return self.at(1000, Ev::Ready(task)),
            (None, Event::CancelTask { task }) => return self.at(1000, Ev::Cancel(task)),
            (None, _) => return,
        }
        self.after_step();
    }

    fn after_step(&mut self) {
        let Some(coordinator) = &mut self.coordinator else { return };
        self.checks.step(&coordinator.scheduler);
        let idle = coordinator.pending.is_empty() && coordinator.unanswered.is_empty();
        if !coordinator.commit_due && !idle {
            coordinator.commit_due = true;
            let epoch = coordinator.epoch;
            let wait = self.rng.between(1, 20);
            self.at(wait, Ev::Commit(epoch));
        }
        self.wake();
    }

    fn wake(&mut self) {
        let Some(coordinator) = &self.coordinator else { return };
        if let Some(Now(at)) = coordinator.scheduler.next_wakeup() {
            let epoch = coordinator.epoch;
            let at = at.max(self.now + 1).max(coordinator.stalled_until + 1);
            if self.checks.tick_wanted(epoch, at, self.now) {
                self.at(at - self.now, Ev::Tick(epoch));
            }
        }
    }

    fn commit(&mut self, epoch: Epoch) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.epoch == epoch) else { return };
        coordinator.commit_due = false;
        let Effects { writes, sends, .. } = std::mem::take(&mut coordinator.pending);
        self.checks.accepted.extend(coordinator.unanswered.drain(..));
        self.store.commit(writes);
        for send in sends {
            match send {
                Send::Command { to, command, order } => {
                    self.checks.leaves(&self.store, &order);
                    let worker = self.streams.get(&to.session).map(|stream| stream.worker);
                    if let Some(worker) = worker {
                        self.carry(to.session, true, Ev::ToWorker(worker, to.session, command, order));
                    }
                }
                Send::Close { peer, .. } => self.break_stream(peer.session),
            }
        }
    }

    fn sample(&mut self) {
        let calm = self.now > self.plan.faults_until + 30_000;
        let Some(coordinator) = self.coordinator.as_ref().filter(|_| calm) else { return };
        let reached = |index: &usize| self.linked.contains_key(index) && self.workers[*index].up;
        let workers: Vec<_> =
            (0..self.workers.len()).filter(reached).map(|index| &self.workers[index]).collect();
        self.checks.sample(&coordinator.scheduler, &workers);
    }
}

fn config() -> Config {
    Config { deadline_min: Duration::from_secs(30), ..Config::default() }
}

fn image() -> Image {
    Image { digest: Digest::of(b"image"), model_bytes: 10, arena_bytes: 10 }
}
