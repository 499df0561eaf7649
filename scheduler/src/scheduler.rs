//! The machine's state, and the one way in.

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::{BoardId, Epoch, JobId, TaskId, Token, WorkerId};

use crate::{
    BoardRow, Config, Effects, EpochNotNew, Event, Mark, Now, Order, Peer, Phase, QueueFull, Recovered, Send,
    TaskRow, Write,
    alarms::{Alarm, Alarms},
    attempt::{Attempt, Attempts},
    config::Bug,
    job::Job,
    marks::Timer,
    placement::{Boards, Estimates},
    queue::Queue,
    table::{OrderedTable, Table},
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
    pub(crate) tasks: Table<TaskId, Box<TaskRow>>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) queue: Queue,
    /// Tasks queued, prepared or not, and in backoff.
    pub(crate) waiting: usize,
    pub(crate) attempts: Attempts,
    pub(crate) workers: OrderedTable<WorkerId, Worker>,
    pub(crate) tokens: Table<BoardId, Token>,
    /// What boards there are, and what they could take.
    pub(crate) boards: Boards,
    /// Boards that are set aside or have to prove themselves.
    pub(crate) kept: Table<BoardId, BoardRow>,
    pub(crate) timers: BTreeMap<BoardId, Timer>,
    /// Workers that an operator drained.
    pub(crate) drained: BTreeSet<WorkerId>,
    pub(crate) estimates: Estimates,
    /// The board of the last lease.
    pub(crate) last_leased: Option<BoardId>,
    pub(crate) alarms: Alarms,
    /// Since when most workers are silent together.
    pub(crate) silence: Option<Now>,
    /// Boards that may run their canary now.
    pub(crate) suspects: BTreeSet<BoardId>,
    /// Boards that became idle.
    pub(crate) idled: BTreeSet<BoardId>,
    /// Attempts that were recalled for an idle board, and those boards.
    pub(crate) called: BTreeMap<Token, BoardId>,
    pub(crate) callers: BTreeSet<BoardId>,
    /// Tasks that were recalled for an idle board and have not started since.
    pub(crate) moved: BTreeSet<TaskId>,
    /// A worker that gets no new work until it is empty, for a task that must be alone.
    pub(crate) kept_for_alone: Option<WorkerId>,
    /// Something changed for tasks that must be alone.
    pub(crate) alone_news: bool,
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
            queue: Queue::new(&config.weights),
            config,
            epoch,
            counter: 0,
            next_seq: recovered.next_seq,
            tasks: Table::default(),
            jobs: BTreeMap::new(),
            waiting: 0,
            attempts: Attempts::default(),
            workers: OrderedTable::default(),
            tokens: Table::default(),
            boards: Boards::default(),
            kept: Table::default(),
            timers: BTreeMap::new(),
            drained: recovered.drained,
            estimates: Estimates::default(),
            last_leased: None,
            alarms: Alarms::default(),
            silence: None,
            suspects: BTreeSet::new(),
            idled: BTreeSet::new(),
            called: BTreeMap::new(),
            callers: BTreeSet::new(),
            moved: BTreeSet::new(),
            kept_for_alone: None,
            alone_news: false,
            touched: BTreeSet::new(),
        };
        for (board, token) in recovered.tokens {
            scheduler.seen(token)?;
            scheduler.tokens.insert(board, token);
        }
        for estimate in recovered.estimates {
            scheduler.estimates.recover(estimate);
        }
        for row in recovered.boards {
            scheduler.take_up_board(row);
        }
        for row in recovered.tasks {
            scheduler.take_up(row)?;
        }
        scheduler.watch_ages();
        Ok(scheduler)
    }

    /// Takes one event in.
    pub fn step(&mut self, now: Now, event: Event) -> Effects {
        if let Event::LoopStalled { by } = event
            && !self.config.planted(Bug::StallUnnoticed)
        {
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
                Alarm::Board(board) => self.board_alarm(&mut fx, &board),
                Alarm::Idle(board) => {
                    self.idled.insert(board);
                }
                Alarm::Ageing => self.age(),
            }
        }
        self.dispatch(&mut fx);
        for task in std::mem::take(&mut self.touched) {
            if let Some(row) = self.tasks.get(&task).filter(|row| !row.standing.is_fresh()) {
                fx.writes.push(Write::PutTask(row.clone()));
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
            Event::Ready { tasks, image } => self.ready(fx, &tasks, &image),
            Event::PrepareFailed { task, error } => self.prepare_failed(fx, task, error),
            Event::CancelJob { job } => self.cancel_job(fx, job),
            Event::Forget { job } => self.forget(job),
            Event::WorkerUp { peer, incarnation, boards, held, draining } => {
                self.worker_up(fx, &peer, incarnation, boards, &held, draining);
            }
            Event::Frame { from, frame } => self.frame(fx, &from, frame),
            Event::SessionLost { peer } => self.session_lost(fx, &peer),
            Event::DialRefused { worker } => self.dial_refused(fx, &worker),
            Event::Drain { worker, on } => self.drain(fx, worker, on),
            Event::Mark { board, mark } => self.mark(fx, &board, mark),
            Event::NoCanary { board } => self.no_canary(fx, &board),
            Event::LoopStalled { .. } | Event::Tick => {}
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
            self.raise(&lease.board, lease.token);
            let until = self.now.plus(self.config.restart_grace);
            let worker = || Worker::new(Belief::Unheard { until }, self.now);
            self.workers.get_or_insert_with(&lease.worker, worker);
            self.alarms.set(Alarm::Worker(lease.worker.clone()), Some(until));
            self.attempts.insert(Attempt {
                number: row.standing.attempt,
                recovered: true,
                timed: false,
                alone: row.standing.alone(),
                image: row.standing.image.as_ref().map(|image| image.digest),
                ..self.attempt(row.id, lease.token, &lease.worker, &lease.board)
            });
        }
        match &row.standing.phase {
            Phase::Queued => {
                self.waiting += 1;
                self.queue.insert(&row, &self.boards, self.now);
            }
            Phase::Backoff { wait } => {
                self.waiting += 1;
                self.alarms.set(Alarm::Task(row.id), Some(self.now.plus(*wait)));
            }
            _ => {}
        }
        self.jobs.entry(row.job).or_default().add(&row);
        self.tasks.insert(row.id, Box::new(row));
        Ok(())
    }

    /// Remembers the highest token that a board was given.
    fn raise(&mut self, board: &BoardId, token: Token) {
        let last = self.tokens.entry(board.clone()).or_insert(token);
        *last = (*last).max(token);
    }

    fn take_up_board(&mut self, row: BoardRow) {
        if let Some(Mark::Reserved { left, .. }) = row.mark {
            self.time(&row.board, |timer, now| timer.reserved_until = Some(now.plus(left)));
        }
        self.kept.insert(row.board.clone(), row);
    }

    /// Sees to it that the task that has waited longest in its class moves up in time.
    pub(crate) fn watch_ages(&mut self) {
        let due = self.queue.oldest().map(|since| since.plus(self.config.ageing));
        self.alarms.set(Alarm::Ageing, due.map(|due| due.max(Now(self.now.0.saturating_add(1)))));
    }

    fn age(&mut self) {
        let ageing = u64::try_from(self.config.ageing.as_millis()).unwrap_or(u64::MAX);
        if let Some(before) = self.now.0.checked_sub(ageing) {
            self.queue.age(Now(before), self.now);
            self.alone_news |= self.kept_for_alone.is_some();
        }
        self.watch_ages();
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
}
