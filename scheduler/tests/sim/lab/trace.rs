//! Labs without faults: one trace of jobs under each policy of placement, and submitters who share boards.

use std::{collections::BTreeMap, fmt};

use edgeprof_common::{JobId, Priority, TaskId};
use edgeprof_scheduler::{NewTask, Policy, Requirement};

use super::{
    Ev, Lab, Plan,
    rng::Rng,
    work::{Nature, Work, image},
    worker::Worker,
};

/// What boards did, and when; times in ms.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) submitted: BTreeMap<TaskId, u64>,
    /// When each task began for the first time.
    pub(super) begun: BTreeMap<TaskId, u64>,
    /// When each task's last attempt ended.
    pub(super) ended: BTreeMap<TaskId, u64>,
    /// Time in runs, over all boards.
    pub(super) busy: u64,
    pub(super) loads: u64,
}

/// How a policy did, over several traces.
pub(crate) struct Comparison {
    policy: Policy,
    runs: f64,
    makespan: f64,
    waits: Vec<u64>,
    turnaround: f64,
    utilization: f64,
    loads: u64,
}

/// Three workers, each with two fast boards and two that are three times slower.
const WORKERS: usize = 3;
const BOARDS: [(&str, u32); 4] = [("m4", 4), ("m3", 4), ("m4", 4), ("m3", 4)];

/// Tasks of a trace.
const TASKS: u64 = 300;

/// The jobs of a trace come within this time, in ms: boards are idle between them, so that there is a choice.
const ARRIVALS: u64 = 200_000;

impl Comparison {
    pub(crate) const HEAD: &str =
        "policy              makespan   mean wait    p95 wait   mean turnaround   boards busy   image loads";

    /// Runs every trace under a policy.
    pub(crate) fn of(policy: Policy, seeds: &[u64]) -> Self {
        let mut all = Self {
            policy,
            runs: 0.0,
            makespan: 0.0,
            waits: Vec::new(),
            turnaround: 0.0,
            utilization: 0.0,
            loads: 0,
        };
        for seed in seeds {
            let (mut lab, jobs) = Lab::trace(policy, *seed);
            let end = lab.run().unwrap_or_else(|failure| panic!("{policy:?}: {}", failure.violation.what));
            let first = jobs.iter().min().copied().unwrap_or_default();
            let span = (end.at - first) as f64;
            let Usage { submitted, begun, ended, busy, loads } = &lab.usage;
            all.runs += 1.0;
            all.makespan += span / 1000.0;
            all.waits.extend(submitted.iter().filter_map(|(task, at)| Some(begun.get(task)? - at)));
            let whole = ended.iter().filter_map(|(task, at)| Some(at - submitted.get(task)?)).sum::<u64>();
            all.turnaround += whole as f64 / ended.len() as f64 / 1000.0;
            all.utilization += *busy as f64 / (span * (WORKERS * BOARDS.len()) as f64);
            all.loads += loads;
        }
        all.waits.sort_unstable();
        all
    }

    /// Mean time from the first submission to the last result, in s.
    pub(crate) fn makespan(&self) -> f64 {
        self.makespan / self.runs
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = match self.policy {
            Policy::LeastCompletion => "least-completion",
            Policy::LeastLoaded => "least-loaded",
            Policy::RoundRobin => "round-robin",
        };
        let mean = self.waits.iter().sum::<u64>() as f64 / self.waits.len() as f64 / 1000.0;
        let p95 = self.waits[self.waits.len() * 95 / 100] as f64 / 1000.0;
        let busy = 100.0 * self.utilization / self.runs;
        let (makespan, loads) = (self.makespan(), self.loads as f64 / self.runs);
        let turnaround = self.turnaround / self.runs;
        write!(
            f,
            "{policy:<18} {makespan:>7.1} s {mean:>9.1} s {p95:>9.1} s {turnaround:>15.1} s {busy:>11.0} % {loads:>13.0}"
        )
    }
}

/// Two submitters with equal jobs, one with three times the other's weight.
pub(crate) struct Shares {
    /// The longest run of a task, in ms.
    pub(crate) longest: u64,
    /// Boards that they share.
    pub(crate) boards: u64,
    /// How far their board time by weight ever was apart while both had tasks waiting, in ms.
    pub(crate) apart: u64,
}

impl Shares {
    pub(crate) fn of(seed: u64) -> Self {
        let plan = Plan::named("calm").expect("the calm plan");
        let mut lab = Lab::empty(plan, seed, None, false);
        let weights = BTreeMap::from([("ada", 1), ("eve", 3)]);
        lab.weights = weights.iter().map(|(who, weight)| ((*who).to_owned(), *weight)).collect();
        let boards = [("m4", 0); 3];
        lab.workers.push(Worker::new((0, "w0"), &boards, false, &mut Rng::new(seed)));
        lab.power_on(1);
        let mut rng = Rng::new(seed);
        let mut longest = 0;
        for (job, who) in weights.keys().enumerate() {
            let mut ids = Vec::new();
            for n in 1..=150 {
                let mut work = cell(&mut rng, n + 1000 * job as u64, job as u64, who);
                work.new.requirement = Requirement::default();
                longest = longest.max(work.run);
                ids.push(work.new.id);
                lab.works.insert(work.new.id, work);
            }
            lab.at(2000 + job as u64, Ev::Submit(ids));
        }
        let ended = lab.run();
        ended.unwrap_or_else(|failure| panic!("{}", failure.violation.what));
        Self { longest, boards: boards.len() as u64, apart: lab.apart(&weights) }
    }
}

impl Lab {
    /// How far two submitters' board time by weight was apart until one of them had nothing left.
    fn apart(&self, weights: &BTreeMap<&str, u32>) -> u64 {
        let mut begun: Vec<_> = self.usage.begun.iter().map(|(task, at)| (*at, &self.works[task])).collect();
        begun.sort_by_key(|(at, _)| *at);
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, work) in &begun {
            *left.entry(&work.new.submitter).or_default() += 1;
        }
        let mut served: BTreeMap<&str, u64> = weights.keys().map(|who| (*who, 0)).collect();
        let mut apart = 0;
        for (_, work) in begun {
            let who = work.new.submitter.as_str();
            *served.entry(who).or_default() += work.run / u64::from(weights[who]);
            let both = served.values();
            apart = apart.max(both.clone().max().unwrap_or(&0) - both.min().unwrap_or(&0));
            let left = left.entry(who).or_default();
            *left -= 1;
            if *left == 0 {
                break;
            }
        }
        apart
    }

    /// A lab with a trace of jobs before it, and when each job comes.
    fn trace(policy: Policy, seed: u64) -> (Self, Vec<u64>) {
        let plan = Plan::named("calm").expect("the calm plan");
        let mut lab = Self::empty(plan, seed, None, false);
        lab.policy = policy;
        for n in 0..WORKERS {
            lab.workers.push(Worker::new((0, &format!("w{n}")), &BOARDS, false, &mut Rng::new(n as u64)));
        }
        lab.power_on(1);
        // The trace is the same whatever else is drawn from the lab's own source.
        let mut rng = Rng::new(seed);
        let (mut number, mut arrivals) = (0, Vec::new());
        while number < TASKS {
            let at = 2000 + rng.between(0, ARRIVALS);
            let submitter = ["ada", "bob", "eve"][rng.index(3)];
            let mut ids = Vec::new();
            for _ in 0..rng.between(5, 20) {
                number += 1;
                let work = cell(&mut rng, number, arrivals.len() as u64, submitter);
                ids.push(work.new.id);
                lab.works.insert(work.new.id, work);
            }
            arrivals.push(at);
            lab.at(at, Ev::Submit(ids));
        }
        (lab, arrivals)
    }
}

/// One cell of a job: short and long runs, some bound to a kind.
fn cell(rng: &mut Rng, number: u64, job: u64, submitter: &str) -> Work {
    let id = TaskId::from_raw(u128::from(number));
    let model = rng.between(1, 6);
    let run = model * model * rng.between(50, 300);
    let requirement = match rng.between(0, 9) {
        0 => Requirement::kind("m3"),
        1..=3 => Requirement::kind("m4"),
        _ => Requirement::default(),
    };
    let image = image(model);
    let new = NewTask {
        id,
        job: JobId::from_raw(job + 1),
        priority: Priority::Normal,
        requirement,
        image: Some(image.clone()),
        submitter: submitter.into(),
        work: run,
    };
    Work { new, nature: Nature::Good, run, image, cluster: 0 }
}
