//! A simulated lab around the real scheduler: coordinators' processes, their stores, workers with boards and
//! disks, and a network. What happens when, and what goes wrong, follows from a seed.

mod board;
mod bug;
mod checks;
mod clients;
mod disk;
mod faults;
mod life;
mod log;
mod net;
mod plan;
mod rng;
mod steps;
mod store;
mod trace;
mod work;
mod worker;

use std::collections::BTreeMap;

use edgeprof_common::{BoardId, Incarnation, TaskId};
use edgeprof_scheduler::{Command, Frame, Order, Policy, SessionId};

pub(crate) use self::{
    bug::Bug,
    log::Violation,
    plan::{Fault, PLANS, Plan},
    trace::{Comparison, Shares},
};
use self::{
    checks::Checks,
    life::{Life, LifeId},
    log::Log,
    net::{Hello, HelloBack, Stream},
    rng::Rng,
    store::Store,
    trace::Usage,
    work::Works,
    worker::{Later, Worker},
};

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
    LateJobs,
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
        self.now > self.plan.late().unwrap_or_default()
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
}
