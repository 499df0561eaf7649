//! A simulated lab around the real scheduler: coordinators' processes, their stores, workers with boards and
//! disks, and a network. What happens when, and what goes wrong, follows from a seed.

mod board;
mod checks;
mod clients;
mod disk;
mod faults;
mod life;
mod log;
mod net;
mod plan;
mod rng;
mod store;
mod trace;
mod work;
mod worker;

use std::{collections::BTreeMap, time::Duration};

use edgeprof_common::{BoardId, Incarnation, TaskId};
use edgeprof_scheduler::{
    Command, Config, Effects, Event, Frame, LeaseRef, Now, Order, Policy, Send, SessionId,
};

use self::{
    checks::Checks,
    life::{Life, LifeId},
    log::Log,
    net::{Hello, HelloBack, Stream, Way},
    rng::Rng,
    store::{Store, Transaction},
    trace::Usage,
    work::Works,
    worker::{Later, Worker},
};
pub(crate) use self::{
    log::Violation,
    plan::{Fault, PLANS, Plan},
    trace::{Comparison, Shares},
};

/// A flaw that is planted to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Workers obey any coordinator.
    FencingOff,
    /// Effects leave before what justifies them is durable.
    AckBeforeCommit,
    /// A restart of the coordinator costs tasks an attempt.
    ChargeOnRestart,
    /// A worker's new process does not know the results of the one before.
    ForgettingTheOutbox,
    /// Silence kills, whoever is to blame for it.
    DetectorWithoutGuard,
}

impl Bug {
    pub(crate) const ALL: [Self; 5] = [
        Self::FencingOff,
        Self::AckBeforeCommit,
        Self::ChargeOnRestart,
        Self::ForgettingTheOutbox,
        Self::DetectorWithoutGuard,
    ];

    /// The scheduler's own part in it.
    #[cfg(feature = "planted-bugs")]
    const fn of_the_scheduler(self) -> Option<edgeprof_scheduler::Bug> {
        match self {
            Self::FencingOff => Some(edgeprof_scheduler::Bug::FencingOff),
            Self::ChargeOnRestart => Some(edgeprof_scheduler::Bug::ChargeOnRestart),
            Self::DetectorWithoutGuard => Some(edgeprof_scheduler::Bug::DetectorWithoutGuard),
            Self::AckBeforeCommit | Self::ForgettingTheOutbox => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FencingOff => "fencing-off",
            Self::AckBeforeCommit => "ack-before-commit",
            Self::ChargeOnRestart => "charge-on-restart",
            Self::ForgettingTheOutbox => "forgetting-the-outbox",
            Self::DetectorWithoutGuard => "detector-without-guard",
        }
    }
}

/// How a run went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// Simulated time, in ms.
    pub(crate) at: u64,
    pub(crate) steps: u64,
    pub(crate) attempts: u64,
    pub(crate) rejected: u64,
    pub(crate) lost: u64,
    /// The log, where it was wanted.
    pub(crate) log: Vec<String>,
    /// How often each fault happened.
    pub(crate) faults: BTreeMap<String, u64>,
}

/// How a run broke a promise.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Simulated time, in ms.
    pub(crate) at: u64,
    pub(crate) violation: Violation,
    /// The log, where it was wanted: all of it, and what concerns the violation.
    pub(crate) log: Vec<String>,
    pub(crate) excerpt: Vec<String>,
}

/// Lines of a log around what a violation is about.
const EXCERPT: usize = 60;

/// By when everything has ended, in ms.
const END: u64 = 4 * 3_600_000;

#[derive(Clone, Debug)]
enum Ev {
    /// A client submits until it is told that its tasks are accepted.
    Submit(Vec<TaskId>),
    Ready(LifeId, TaskId),
    Cancel(TaskId),
    NoCanary(LifeId, BoardId),
    Commit(LifeId),
    Tick(LifeId),
    Dial(LifeId, usize),
    Refused(LifeId, usize),
    Hello(SessionId, Hello),
    HelloBack(SessionId, HelloBack),
    NoAnswer(SessionId),
    Turned(SessionId, disk::Refusal),
    ToWorker(SessionId, Command, Order),
    ToLife(SessionId, Frame),
    BeatThere(SessionId),
    BrokenHere(SessionId),
    BrokenThere(SessionId),
    BeatOut(LifeId),
    BeatBack(usize, Incarnation),
    Later(usize, Incarnation, Later),
    WorkerStarts(usize),
    WorkerRestored(usize, Box<disk::Disk>),
    LifeStarts(usize, usize),
    StallOver(LifeId, u64),
    CutOver(usize),
    Operator(LifeId, faults::Act),
    Fault,
    Sample,
}

pub(crate) struct Lab {
    plan: Plan,
    bug: Option<Bug>,
    policy: Policy,
    weights: BTreeMap<String, u32>,
    rng: Rng,
    now: u64,
    events: BTreeMap<(u64, u64), Ev>,
    count: u64,
    stores: Vec<Store>,
    /// The store that counts, by cluster.
    official: Vec<usize>,
    lives: Vec<Life>,
    /// Whom clients reach, by cluster.
    serving: Vec<Option<LifeId>>,
    workers: Vec<Worker>,
    streams: BTreeMap<SessionId, Stream>,
    /// Until when a coordinator and a worker cannot reach each other.
    cuts: BTreeMap<(LifeId, usize), u64>,
    /// Until when a worker that refused a coordinator is left alone by it.
    refused_until: BTreeMap<(LifeId, usize), u64>,
    sessions: u64,
    works: Works,
    checks: Checks,
    log: Log,
    usage: Usage,
    broken: Option<Violation>,
    end: End,
}

impl Lab {
    pub(crate) fn new(plan: Plan, seed: u64, bug: Option<Bug>, log: bool) -> Self {
        let mut lab = Self::empty(plan, seed, bug, log);
        lab.prepare();
        lab
    }

    fn empty(plan: Plan, seed: u64, bug: Option<Bug>, log: bool) -> Self {
        Self {
            plan,
            bug,
            policy: Policy::default(),
            weights: BTreeMap::new(),
            rng: Rng::new(seed),
            now: 0,
            events: BTreeMap::new(),
            count: 0,
            stores: Vec::new(),
            official: Vec::new(),
            lives: Vec::new(),
            serving: Vec::new(),
            workers: Vec::new(),
            streams: BTreeMap::new(),
            cuts: BTreeMap::new(),
            refused_until: BTreeMap::new(),
            sessions: 0,
            works: Works::new(),
            checks: Checks::default(),
            log: Log::new(log),
            usage: Usage::default(),
            broken: None,
            end: End::default(),
        }
    }

    fn at(&mut self, wait: u64, event: Ev) {
        self.count += 1;
        self.events.insert((self.now + wait, self.count), event);
    }

    fn count(&mut self, what: &str) {
        *self.end.faults.entry(what.to_owned()).or_default() += 1;
    }

    /// Keeps the first violation: the run ends with it.
    fn keep(&mut self, checked: Result<(), Violation>) {
        if let Err(violation) = checked {
            self.broken.get_or_insert(violation);
        }
    }

    /// Runs until everything has ended.
    ///
    /// # Errors
    /// When a promise is broken.
    pub(crate) fn run(&mut self) -> Result<End, Box<Failure>> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.end.steps += 1;
            self.happen(event);
            if self.broken.is_none() && at >= END {
                self.broken = Some(self.unfinished());
            }
            if self.broken.is_some() || self.over() {
                break;
            }
        }
        let harmless = self.plan.only_good;
        for cluster in 0..self.official.len() {
            if self.broken.is_none() {
                let store = &self.stores[self.official[cluster]];
                let checked = self.checks.finally(store, &self.works, harmless);
                self.keep(checked);
            }
        }
        if let Some(violation) = self.broken.take() {
            return Err(self.failed(violation));
        }
        let Checks { attempts, rejected, lost, .. } = self.checks;
        let end = std::mem::take(&mut self.end);
        let log = self.log.all().to_vec();
        Ok(End { at: self.now, attempts, rejected, lost, log, ..end })
    }

    /// What is known of a run that broke a promise just now.
    pub(crate) fn failed(&self, violation: Violation) -> Box<Failure> {
        let log = self.log.all().to_vec();
        let excerpt = match violation.about.as_slice() {
            [] => log[log.len().saturating_sub(EXCERPT)..].to_vec(),
            about => self.log.about(about, EXCERPT).iter().map(|line| (*line).to_owned()).collect(),
        };
        Box::new(Failure { at: self.now, violation, log, excerpt })
    }

    fn over(&self) -> bool {
        self.now > self.plan.faults_until
            && self.works.keys().all(|task| self.checks.accepted.contains(task))
            && self.works.values().all(|work| self.stores[self.official[work.cluster]].ended(&work.new.id))
            && !self.workers.iter().any(Worker::holds_work)
    }

    fn unfinished(&self) -> Violation {
        let open: Vec<_> = self
            .works
            .values()
            .filter(|work| !self.stores[self.official[work.cluster]].ended(&work.new.id))
            .collect();
        let what = open.iter().map(|work| {
            let row = self.stores[self.official[work.cluster]].tasks.get(&work.new.id);
            format!("{} ({:?}): {row:?}", work.new.id, work.nature)
        });
        let what = format!("no end of: {}", what.collect::<Vec<_>>().join("; "));
        let holding =
            self.workers.iter().filter(|worker| worker.holds_work()).map(|worker| worker.id.to_string());
        let about = open.iter().map(|work| work.new.id.to_string()).chain(holding);
        Violation::new(&what, about)
    }

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

    fn happen(&mut self, event: Ev) {
        // What comes to a loop that stands still waits, behind the note of how long it stood.
        let until = self.waits_for(&event).map_or(0, |id| self.lives[id.0].stalled_until);
        if until > self.now {
            return self.at(until + 1 - self.now, event);
        }
        match event {
            Ev::Submit(ids) => self.submit(ids),
            Ev::Ready(id, task) => {
                let image = self.works[&task].image.clone();
                self.step(id, Event::Ready { task, image });
            }
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
    fn step(&mut self, id: LifeId, event: Event) {
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

    fn after_step(&mut self, id: LifeId) {
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

    fn wake(&mut self, id: LifeId) {
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
        let checked = store.commit(transaction);
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
        if self.now > self.plan.faults_until + 30_000 {
            for id in self.serving.clone().into_iter().flatten() {
                let checked = self.checks.sample(&self.lives[id.0], &self.workers);
                self.keep(checked);
            }
        }
    }

    fn config(&self) -> Config {
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
