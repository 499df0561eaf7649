//! Many seeds, what they add up to, and what to tell of one that fails.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use crate::lab::{Bug, End, Failure, Lab, PLANS, Plan, Violation};

/// One run. A panic of the scheduler breaks a promise as well.
pub(crate) fn run(plan: Plan, seed: u64, bug: Option<Bug>, log: bool) -> Result<End, Box<Failure>> {
    let mut lab = Lab::new(plan, seed, bug, log);
    catch_unwind(AssertUnwindSafe(|| lab.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(lab.failed(Violation::new(&format!("panicked: {text}"), [])))
    })
}

/// Runs seeds of a plan; panics with what the first that fails has to tell.
pub(crate) fn each(plan: Plan, seeds: Range<u64>) {
    for seed in seeds {
        assert!(run(plan, seed, None, false).is_ok(), "{}", tell(plan, seed, None, false));
    }
}

/// What a failed run has to tell, from a second run with its log.
pub(crate) fn tell(plan: Plan, seed: u64, bug: Option<Bug>, everything: bool) -> String {
    let failure = match run(plan, seed, bug, true) {
        Ok(end) => {
            let log = if everything { end.log.join("\n") } else { String::new() };
            return format!("{log}\nseed {seed} of plan {} keeps every promise", plan.name);
        }
        Err(failure) => failure,
    };
    let mut text = String::new();
    for line in if everything { &failure.log } else { &failure.excerpt } {
        let _ = writeln!(text, "{line}");
    }
    let planted = bug.map_or_else(String::new, |bug| format!(" --bug {}", bug.name()));
    let _ = write!(
        text,
        "\nat {:.3} s: {}\nconcerns: {}\nreplay: cargo xtask sim --plan {} --seed {seed}{planted}",
        failure.at as f64 / 1000.0,
        failure.violation.what,
        failure.violation.about.join(", "),
        plan.name,
    );
    text
}

/// What `cargo xtask sim` asks for.
#[derive(Debug)]
struct Wanted {
    plans: Vec<Plan>,
    seed: Option<u64>,
    seeds: u64,
    bug: Option<Bug>,
}

impl Wanted {
    fn from_environment() -> Result<Self, String> {
        let plans = match knob("SIM_PLAN") {
            None => PLANS.to_vec(),
            Some(name) => vec![Plan::named(&name).ok_or_else(|| {
                let names: Vec<_> = PLANS.iter().map(|plan| plan.name).collect();
                format!("there is no plan {name}; there are: {}", names.join(", "))
            })?],
        };
        let bug = match knob("SIM_BUG") {
            None => None,
            Some(name) => Some(Bug::ALL.into_iter().find(|bug| bug.name() == name).ok_or_else(|| {
                let names = Bug::ALL.map(Bug::name);
                format!("there is no bug {name}; there are: {}", names.join(", "))
            })?),
        };
        let number = |name: &str| {
            let text = knob(name);
            let parse =
                |text: String| text.parse::<u64>().map_err(|_| format!("{name} is no number: {text}"));
            text.map(parse).transpose()
        };
        Ok(Self { plans, bug, seed: number("SIM_SEED")?, seeds: number("SIM_SEEDS")?.unwrap_or(10_000) })
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's knobs, not the scheduler's")]
fn knob(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Does what the environment asks for, and ends the process with an error if a promise is broken.
pub(crate) fn from_environment() {
    match campaign() {
        Ok(told) => println!("\n{told}"),
        Err(told) => {
            eprintln!("\n{told}");
            std::process::exit(1);
        }
    }
}

/// One seed with its whole log, or many of every plan.
fn campaign() -> Result<String, String> {
    let wanted = Wanted::from_environment()?;
    // What a panic has to say is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = wanted.seed {
        let told: Vec<_> = wanted.plans.iter().map(|plan| tell(*plan, seed, wanted.bug, true)).collect();
        return Ok(told.join("\n\n"));
    }
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let jobs = wanted.seeds * wanted.plans.len() as u64;
    let job = |job: u64| {
        let plans = wanted.plans.len() as u64;
        (wanted.plans[(job % plans) as usize], job / plans)
    };
    // The first job that failed; jobs are taken in order, so it is the first of all.
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let work = || {
        let mut total = Total::default();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= jobs.min(failed.load(Ordering::Relaxed)) {
                return total;
            }
            let (plan, seed) = job(at);
            match run(plan, seed, wanted.bug, false) {
                Ok(end) => total.add(&end),
                Err(_) => drop(failed.fetch_min(at, Ordering::Relaxed)),
            }
            progress(at, jobs);
        }
    };
    let mut total = Total::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            total.merge(worker.join().expect("failures are caught"));
        }
    });
    match failed.into_inner() {
        u64::MAX => Ok(total.to_string()),
        at => {
            let (plan, seed) = job(at);
            let told = tell(plan, seed, wanted.bug, false);
            Err(format!("{told}\nafter {} seeds that keep every promise", total.seeds))
        }
    }
}

fn progress(job: u64, jobs: u64) {
    if job.is_multiple_of(200) && std::io::stderr().is_terminal() {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "\r{job} of {jobs} runs");
        let _ = stderr.flush();
    }
}

/// Many runs together.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) seeds: u64,
    steps: u64,
    attempts: u64,
    pub(crate) rejected: u64,
    pub(crate) lost: u64,
    /// Simulated time, in ms.
    time: u64,
    faults: BTreeMap<String, u64>,
}

impl Total {
    pub(crate) fn add(&mut self, end: &End) {
        self.merge(Self {
            seeds: 1,
            steps: end.steps,
            attempts: end.attempts,
            rejected: end.rejected,
            lost: end.lost,
            time: end.at,
            faults: end.faults.clone(),
        });
    }

    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.attempts += other.attempts;
        self.rejected += other.rejected;
        self.lost += other.lost;
        self.time += other.time;
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hours = self.time as f64 / 3_600_000.0;
        writeln!(
            f,
            "{} seeds keep every promise: {} steps, {hours:.0} simulated hours",
            self.seeds, self.steps
        )?;
        writeln!(
            f,
            "{} attempts, of which {} were turned away or given back and {} lost",
            self.attempts, self.rejected, self.lost
        )?;
        for (fault, count) in &self.faults {
            writeln!(f, "{count:>10}  {fault}")?;
        }
        Ok(())
    }
}
