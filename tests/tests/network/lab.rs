//! A simulated lab: one coordinator and its workers, the jobs of one client, and what must hold at every step.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use edgeprof_common::{JobId, TaskId, run::RunState};
use edgeprof_coordinator::core::Command;
use edgeprof_proto::v1;
use edgeprof_scheduler::Requirement;
use edgeprof_worker::{config::Limits, outbox::Key};
use tempfile::TempDir;
use tokio::sync::oneshot::{self, error::TryRecvError};
use turmoil::Sim;

use super::{
    coordinator::{Coordinator, Setup},
    ledger::Ledger,
    net::Cuts,
    story::Story,
    submission::Submission,
    worker::{KIND, Worker},
};

/// The coordinator's host.
pub(crate) const COORDINATOR: &str = "coordinator";

/// A folder in memory where there is one: nothing here is about disks.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

/// What a lab is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Seeds latencies and jitter.
    pub(crate) seed: u64,
    /// How far a step goes; nothing is finer than this.
    pub(crate) tick: Duration,
    /// Longest way of a message.
    pub(crate) latency: Duration,
    /// Boards of each worker.
    pub(crate) boards: Vec<usize>,
    /// How long a run takes.
    pub(crate) takes: Duration,
    /// Attempts that a board takes behind the one in work.
    pub(crate) queue: u32,
    /// Bytes of the board image.
    pub(crate) image: usize,
    /// Tokens of every prompt.
    pub(crate) prompt: u32,
    /// How long a commit takes: a crash may fall between a change and its durability.
    pub(crate) commit: Duration,
    /// Whether the workers have image and firmware already. Where they do not, the blobs' files are read
    /// and synced by threads, and a simulation does not replay to the letter.
    pub(crate) cached: bool,
}

impl Default for Shape {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            seed: 1,
            tick: ms(10),
            latency: ms(50),
            boards: vec![2, 2, 2],
            takes: ms(1500),
            queue: Limits::default().queue,
            image: 1000,
            prompt: 4,
            commit: ms(12),
            cached: true,
        }
    }
}

impl Shape {
    /// What a coordinator of such a lab is made from.
    fn coordinator(
        &self,
        name: &'static str,
        ledger: Arc<Ledger>,
        workers: &[Arc<Worker>],
        (cuts, story): (Cuts, Story),
    ) -> Setup {
        let workers = workers.iter().map(|worker| worker.name.clone()).collect();
        let Self { image, prompt, commit, seed, .. } = *self;
        Setup { name, ledger, workers, image, prompt, commit, seed, cuts, story }
    }
}

/// The lab.
pub(crate) struct Lab {
    shape: Shape,
    sim: Sim<'static>,
    /// What does not get through.
    cuts: Cuts,
    /// What happened.
    pub(crate) story: Story,
    /// The coordinator.
    pub(crate) coordinator: Arc<Coordinator>,
    /// The workers, w0 and on.
    pub(crate) workers: Vec<Arc<Worker>>,
    submissions: Vec<Submission>,
    /// Results in the workers' outboxes at the last step.
    unacknowledged: BTreeSet<Key>,
}

impl Lab {
    /// A lab whose hosts all start.
    pub(crate) fn start(shape: &Shape) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(shape.seed)
            .tick_duration(shape.tick)
            .simulation_duration(Duration::from_secs(86_400))
            .min_message_latency(Duration::from_millis(1).min(shape.latency))
            .max_message_latency(shape.latency)
            .tcp_capacity(4096)
            .build();
        let (story, cuts) = (Story::default(), Cuts::default());
        let workers: Vec<_> = (0..)
            .zip(&shape.boards)
            .map(|(n, boards)| Arc::new(Worker::new(&format!("w{n}"), *boards, shape, story.clone())))
            .collect();
        let ledger = Arc::new(Ledger::default());
        let setup = shape.coordinator(COORDINATOR, ledger, &workers, (cuts.clone(), story.clone()));
        let coordinator = Arc::new(Coordinator::new(setup));
        if shape.cached {
            workers.iter().for_each(|worker| worker.cache(&coordinator.blobs()));
        }
        for worker in &workers {
            let host = worker.clone();
            sim.host(worker.name.as_str(), move || host.clone().run());
        }
        let host = coordinator.clone();
        sim.host(COORDINATOR, move || host.clone().run());
        Self {
            shape: shape.clone(),
            sim,
            cuts,
            story,
            coordinator,
            workers,
            submissions: Vec::new(),
            unacknowledged: BTreeSet::new(),
        }
    }

    /// Starts another coordinator over a copy of the first one's data.
    pub(crate) fn start_copy(&mut self, name: &'static str) -> Arc<Coordinator> {
        let (ledger, net) = (self.coordinator.ledger.copy(), (self.cuts.clone(), self.story.clone()));
        let setup = self.shape.coordinator(name, ledger, &self.workers, net);
        // Two that jitter alike would never meet.
        let copy = Arc::new(Coordinator::new(Setup { seed: setup.seed + 1, ..setup }));
        let host = copy.clone();
        self.sim.host(name, move || host.clone().run());
        copy
    }

    /// Submits a job of some tasks, for any board. Where the coordinator does not answer, it is submitted
    /// again under the same key.
    pub(crate) fn submit(&mut self, tasks: u32) {
        self.submit_for(tasks, &Requirement::kind(KIND));
    }

    /// The same for some boards only.
    pub(crate) fn submit_for(&mut self, tasks: u32, boards: &Requirement) {
        let job = JobId::from_raw(1 + self.submissions.len() as u64);
        self.submissions.push(Submission::new(job, tasks, boards, self.coordinator.firmware));
    }

    /// One tick, and what must hold after it.
    pub(crate) fn step(&mut self) {
        self.submissions.iter_mut().for_each(|submission| submission.push(&self.coordinator));
        self.sim.step().expect("no host fails");
        self.check();
    }

    fn check(&mut self) {
        let ledger = &self.coordinator.ledger;
        let (records, times) = ledger.written();
        assert_eq!(records, times, "a task was recorded twice");
        let mut waiting = BTreeSet::new();
        for worker in &self.workers {
            assert!(worker.notes.fenced(), "a board of {} obeyed a token below its last", worker.name);
            waiting.extend(worker.outbox());
        }
        for (task, token) in self.unacknowledged.difference(&waiting) {
            assert!(ledger.has_record(*task), "result {task} {token} left its outbox and is not recorded");
        }
        self.unacknowledged = waiting;
    }

    /// Steps until something holds, `within` simulated time.
    pub(crate) fn until(&mut self, what: &str, within: Duration, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.sim.elapsed() + within;
        while !holds(self) {
            assert!(self.sim.elapsed() < end, "waited {within:?} for {what}");
            self.step();
        }
    }

    /// Steps for some simulated time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        self.until("time", time + time, |lab| lab.sim.elapsed() >= end);
    }

    /// Simulated time so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Every job was taken and each of its tasks has a record: of a success, since no network makes a task fail, or of
    /// two deaths of workers under it.
    pub(crate) fn is_done(&self) -> bool {
        let taken = self.submissions.iter().all(|submission| submission.taken);
        let done = taken && self.coordinator.ledger.written().0 == self.tasks().count();
        for task in self.tasks().filter(|_| done) {
            let run = self.coordinator.ledger.record(task).expect("a record of each task");
            let died = run.error.as_ref().is_some_and(|error| error.code == "workers_died");
            assert!(run.state == RunState::Ok || died, "{task}: {run:?}");
        }
        done
    }

    /// Tasks submitted.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.submissions.iter().flat_map(|submission| submission.tasks.iter().map(|task| task.id))
    }

    /// Whether the coordinator hears a worker.
    pub(crate) fn is_heard(&mut self, worker: &str) -> bool {
        self.seen().iter().any(|seen| seen.id == worker && seen.health == "alive")
    }

    /// The workers as the coordinator tells them to clients; none before it has started.
    fn seen(&mut self) -> Vec<v1::WorkerStatus> {
        let (reply, mut answer) = oneshot::channel();
        let Some(commands) = self.coordinator.commands() else {
            self.step();
            return Vec::new();
        };
        commands.try_send(Command::Workers(reply)).expect("there is room");
        loop {
            self.step();
            match answer.try_recv() {
                Err(TryRecvError::Empty) => {}
                answered => return answered.expect("the coordinator answers"),
            }
        }
    }

    /// Attempts that boards took.
    pub(crate) fn taken(&self) -> usize {
        self.workers.iter().map(|worker| worker.notes.taken()).sum()
    }

    /// Attempts that ran to their end.
    pub(crate) fn finished(&self) -> usize {
        self.workers.iter().map(|worker| worker.notes.finished()).sum()
    }

    /// Whether every result was acknowledged.
    pub(crate) fn outboxes_are_empty(&self) -> bool {
        self.workers.iter().all(|worker| worker.outbox().is_empty())
    }

    /// Nothing from `from` reaches `to` any more; what is under way is lost.
    pub(crate) fn cut(&mut self, from: &str, to: &str) {
        self.note(format_args!("nothing from {from} to {to}"));
        self.cuts.cut(from, to);
        self.sim.partition_oneway(from, to);
    }

    /// It does again.
    pub(crate) fn mend(&mut self, from: &str, to: &str) {
        self.note(format_args!("again from {from} to {to}"));
        self.cuts.mend(from, to);
        self.sim.repair_oneway(from, to);
    }

    /// Nothing gets through between two hosts, until [`Lab::release`] delivers it.
    pub(crate) fn hold(&mut self, a: &str, b: &str) {
        self.note(format_args!("{a} and {b} are held apart"));
        self.sim.hold(a, b);
    }

    /// What was held gets through.
    pub(crate) fn release(&mut self, a: &str, b: &str) {
        self.note(format_args!("{a} and {b} are released"));
        self.sim.release(a, b);
    }

    /// Kills a host's process.
    pub(crate) fn crash(&mut self, host: &str) {
        self.note(format_args!("{host} crashes"));
        self.sim.crash(host);
    }

    /// Starts it again.
    pub(crate) fn bounce(&mut self, host: &str) {
        self.sim.bounce(host);
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.story.note(self.sim.elapsed().as_millis(), what);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.story.lines().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
