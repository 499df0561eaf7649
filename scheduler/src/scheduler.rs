//! The machine's state, and the one way in.

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::{BoardId, Epoch, JobId, TaskId, Token, WorkerId};

use crate::{
    AttemptPhase, Config, Effects, EpochNotNew, Event, Now, Order, Peer, Phase, QueueFull, Recovered, Send,
    TaskRow, Write,
    alarms::{Alarm, Alarms},
    attempt::{Attempt, Attempts},
    job::Job,
    queue::Queue,
    time::Clock,
    worker::{Belief, Worker},
};

/// The cluster's brain.
///
/// One loop owns it, hands in what happens, commits what it wants written, then sends what it wants sent.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Config,
    clock: Clock,
    pub(crate) now: Now,
    pub(crate) epoch: Epoch,
    /// Last token's number in this life.
    pub(crate) counter: u64,
    /// Place in the order of submission of the next task.
    pub(crate) next_seq: u64,
    pub(crate) tasks: BTreeMap<TaskId, TaskRow>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) queue: Queue,
    /// Tasks queued, prepared or not, and in backoff.
    pub(crate) waiting: usize,
    pub(crate) attempts: Attempts,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) tokens: BTreeMap<BoardId, Token>,
    /// Boards that could take an attempt now.
    pub(crate) free: BTreeMap<WorkerId, BTreeSet<BoardId>>,
    pub(crate) alarms: Alarms,
    /// Since when most workers are silent together.
    pub(crate) silence: Option<Now>,
    /// Something changed that may let a task be placed.
    pub(crate) dirty: bool,
    /// Rows that this step changed.
    pub(crate) touched: BTreeSet<TaskId>,
}

impl Scheduler {
    /// Takes up where the store left off, in a new life.
    ///
    /// # Errors
    /// When the epoch is not above every token that the store has: a token would be used twice.
    pub fn new(now: Now, config: Config, epoch: Epoch, recovered: Recovered) -> Result<Self, EpochNotNew> {
        let mut clock = Clock::default();
        let mut scheduler = Self {
            now: clock.advance(now),
            clock,
            config,
            epoch,
            counter: 0,
            next_seq: 0,
            tasks: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queue: Queue::default(),
            waiting: 0,
            attempts: Attempts::default(),
            workers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            free: BTreeMap::new(),
            alarms: Alarms::default(),
            silence: None,
            dirty: false,
            touched: BTreeSet::new(),
        };
        for (board, token) in recovered.tokens {
            scheduler.seen(token)?;
            scheduler.tokens.insert(board, token);
        }
        for row in recovered.tasks {
            scheduler.take_up(row)?;
        }
        Ok(scheduler)
    }

    /// Takes one event in.
    pub fn step(&mut self, now: Now, event: Event) -> Effects {
        if let Event::LoopStalled { by } = event {
            self.clock.stall(by);
        }
        self.now = self.clock.advance(now);
        let mut fx = Effects::default();
        // Evidence before verdicts: a heartbeat that is handed in late still counts.
        self.handle(&mut fx, event);
        while let Some(alarm) = self.alarms.pop_due(self.now) {
            match alarm {
                Alarm::Task(task) => self.backoff_over(&mut fx, task),
                Alarm::Attempt(token) => self.attempt_alarm(&mut fx, token),
                Alarm::Worker(worker) => self.worker_alarm(&mut fx, &worker),
            }
        }
        self.dispatch(&mut fx);
        for task in std::mem::take(&mut self.touched) {
            if let Some(row) = self.tasks.get(&task) {
                fx.writes.push(Write::PutTask(Box::new(row.clone())));
            }
        }
        fx
    }

    /// When a [`Event::Tick`] is wanted, at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Now> {
        self.alarms.next().map(|at| self.clock.outside(at))
    }

    /// Whether this many more tasks may be submitted.
    ///
    /// # Errors
    /// When the queue would be over its bound.
    pub const fn admits(&self, tasks: usize) -> Result<(), QueueFull> {
        let (queued, limit) = (self.waiting, self.config.max_queued_tasks);
        if queued.saturating_add(tasks) <= limit {
            return Ok(());
        }
        Err(QueueFull { queued, limit, retry_after: self.config.queue_retry_after })
    }

    fn handle(&mut self, fx: &mut Effects, event: Event) {
        match event {
            Event::Submitted { tasks } => self.submit(fx, tasks),
            Event::Ready { task, image } => self.ready(task, image),
            Event::PrepareFailed { task, error } => self.prepare_failed(fx, task, error),
            Event::CancelJob { job } => self.cancel_job(fx, job),
            Event::CancelTask { task } => self.cancel(fx, task),
            Event::Forget { job } => self.forget(job),
            Event::WorkerUp { peer, incarnation, boards, held, draining: _ } => {
                self.worker_up(fx, &peer, incarnation, boards, &held);
            }
            Event::Frame { from, frame } => self.frame(fx, &from, frame),
            Event::SessionLost { peer } => self.session_lost(fx, &peer),
            Event::DialRefused { worker } => self.dial_refused(fx, &worker),
            Event::DropWorker { worker } => self.drop_worker(fx, &worker),
            Event::Drain { .. }
            | Event::Mark { .. }
            | Event::NoCanary { .. }
            | Event::LoopStalled { .. }
            | Event::Tick => {}
        }
    }

    /// Checks that no token of the store could be issued again.
    const fn seen(&self, token: Token) -> Result<(), EpochNotNew> {
        if token.epoch.0 < self.epoch.0 {
            return Ok(());
        }
        Err(EpochNotNew { epoch: self.epoch.0, stored: token })
    }

    fn take_up(&mut self, row: TaskRow) -> Result<(), EpochNotNew> {
        self.next_seq = self.next_seq.max(row.seq.saturating_add(1));
        if let Some(lease) = row.lease() {
            self.seen(lease.token)?;
            let until = self.now.plus(self.config.restart_grace);
            let worker = Worker::new(Belief::Unheard { until }, self.now);
            self.workers.entry(lease.worker.clone()).or_insert(worker);
            self.alarms.set(Alarm::Worker(lease.worker.clone()), Some(until));
            self.attempts.insert(Attempt {
                task: row.id,
                token: lease.token,
                number: row.attempt,
                worker: lease.worker.clone(),
                board: lease.board.clone(),
                phase: AttemptPhase::Offered,
                recovered: true,
                command: None,
                resends: 0,
                resend_at: None,
                deadline: None,
                answer_by: None,
                closed: None,
            });
        }
        match &row.phase {
            Phase::Queued => {
                self.waiting += 1;
                self.queue.insert(&row);
            }
            Phase::Backoff { wait } => {
                self.waiting += 1;
                self.alarms.set(Alarm::Task(row.id), Some(self.now.plus(*wait)));
            }
            _ => {}
        }
        self.jobs.entry(row.job).or_default().add(&row);
        self.tasks.insert(row.id, row);
        Ok(())
    }

    /// Sends a command to a worker, if there is a session with it.
    pub(crate) fn order(
        &mut self,
        fx: &mut Effects,
        worker: &WorkerId,
        order: Order,
    ) -> Option<crate::Command> {
        let known = self.workers.get_mut(worker)?;
        let to = Peer { worker: worker.clone(), session: known.session? };
        let command = known.next_command();
        fx.sends.push(Send::Command { to, command, order });
        Some(command)
    }

    /// Keeps the index of free boards true for one worker.
    pub(crate) fn refresh(&mut self, id: &WorkerId) {
        let boards = self.workers.get(id).filter(|worker| worker.usable()).map(|worker| &worker.boards);
        let vacant = boards
            .into_iter()
            .flatten()
            .filter(|(board, state)| state.vacant() && self.attempts.on_board(board).is_none());
        let vacant: BTreeSet<BoardId> = vacant.map(|(board, _)| board.clone()).collect();
        let before = if vacant.is_empty() {
            self.free.remove(id)
        } else {
            self.free.insert(id.clone(), vacant.clone())
        };
        self.dirty |= !vacant.is_subset(&before.unwrap_or_default());
    }
}
