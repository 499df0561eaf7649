//! A scheduler on a bench: short words for events, and what came of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use edgeprof_common::{
    AttemptNo, BoardHealth, BoardId, Digest, Epoch, ErrorClass, Incarnation, JobId, Priority, TaskError,
    TaskId, TaskState, Token, WorkerId,
};
use edgeprof_scheduler::{
    BoardReport, BoardRow, Command, Config, Effects, Estimate, Event, Frame, Held, HeldState, Image,
    LeaseRef, Mark, NewTask, Notice, Now, Order, Outcome, Peer, Recovered, RejectReason, Requirement,
    Scheduler, Send, SessionId, Step, TaskRow, Verdict, Write,
};

pub(crate) const JOB: JobId = JobId::from_raw(1);

pub(crate) struct Rig {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: u64,
    /// Of the last event.
    pub(crate) fx: Effects,
    /// What a client submitted, in order.
    defs: Vec<NewTask>,
    /// What a store would have.
    pub(crate) rows: BTreeMap<TaskId, TaskRow>,
    pub(crate) tokens: BTreeMap<BoardId, Token>,
    pub(crate) kept: BTreeMap<BoardId, BoardRow>,
    reserved_until: BTreeMap<BoardId, u64>,
    drained: BTreeSet<WorkerId>,
    estimates: BTreeMap<(Digest, String), Estimate>,
    config: Config,
    epoch: u64,
}

pub(crate) fn task(n: u128) -> TaskId {
    TaskId::from_raw(n)
}

pub(crate) fn worker(name: &str) -> WorkerId {
    name.parse().unwrap()
}

pub(crate) fn peer(name: &str, session: u64) -> Peer {
    Peer { worker: worker(name), session: SessionId(session) }
}

pub(crate) fn image() -> Image {
    Image { digest: Digest::of(b"image"), model_bytes: 10, arena_bytes: 10 }
}

pub(crate) fn lab_fault() -> Outcome {
    Outcome::Failed(TaskError::new(ErrorClass::Infrastructure, "board_hung", "no answer"))
}

pub(crate) fn model_fault() -> Outcome {
    Outcome::Failed(TaskError::new(ErrorClass::Model, "bad_logits", "not finite"))
}

pub(crate) fn board(id: &str, idle: bool) -> BoardReport {
    BoardReport {
        id: id.parse().unwrap(),
        kind: "m4".into(),
        uid: None,
        labels: Arc::default(),
        health: BoardHealth::Good,
        reason: None,
        idle,
        queue: 0,
        model_bytes: 100,
        arena_bytes: 100,
        image: None,
    }
}

pub(crate) fn held(lease: &LeaseRef, state: HeldState) -> Held {
    Held { lease: lease.clone(), state }
}

pub(crate) fn new_task(n: u128) -> NewTask {
    NewTask {
        id: task(n),
        job: JOB,
        priority: Priority::Normal,
        requirement: Requirement::default(),
        image: Some(image()),
        submitter: String::new(),
        work: 1,
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self {
            scheduler: Scheduler::new(Now(0), config.clone(), Epoch(1), Recovered::default()).unwrap(),
            config,
            now: 0,
            fx: Effects::default(),
            defs: Vec::new(),
            kept: BTreeMap::new(),
            reserved_until: BTreeMap::new(),
            drained: BTreeSet::new(),
            estimates: BTreeMap::new(),
            rows: BTreeMap::new(),
            tokens: BTreeMap::new(),
            epoch: 1,
        }
    }

    /// The coordinator dies and starts again with what was committed.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        let recovered = self.recovered();
        let (now, epoch) = (Now(self.now), Epoch(self.epoch));
        self.scheduler = Scheduler::new(now, self.config.clone(), epoch, recovered).unwrap();
    }

    pub(crate) fn recovered(&self) -> Recovered {
        let row = |(seq, def): (usize, &NewTask)| {
            let fresh = || TaskRow::fresh(def.clone(), seq as u64);
            self.rows.get(&def.id).cloned().unwrap_or_else(fresh)
        };
        let board = |row: &BoardRow| {
            let mut row = row.clone();
            if let Some(Mark::Reserved { left, .. }) = &mut row.mark {
                *left = Duration::from_millis(self.reserved_until[&row.board].saturating_sub(self.now));
            }
            row
        };
        Recovered {
            tasks: self.defs.iter().enumerate().map(row).collect(),
            next_seq: 0,
            tokens: self.tokens.clone(),
            boards: self.kept.values().map(board).collect(),
            drained: self.drained.clone(),
            estimates: self.estimates.values().cloned().collect(),
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        if let Event::Submitted { tasks } = &event {
            self.defs.extend(tasks.iter().cloned());
        }
        self.fx = self.scheduler.step(Now(self.now), event);
        for write in &self.fx.writes {
            match write {
                Write::PutTask(row) => {
                    self.rows.insert(row.id, (**row).clone());
                }
                Write::PutLastToken { board, token } => {
                    self.tokens.insert(board.clone(), *token);
                }
                Write::PutBoard(row) if row.mark.is_none() && row.suspicion.is_none() => {
                    self.kept.remove(&row.board);
                }
                Write::PutBoard(row) => {
                    if let Some(Mark::Reserved { left, .. }) = row.mark {
                        self.reserved_until.insert(row.board.clone(), self.now + left.as_millis() as u64);
                    }
                    self.kept.insert(row.board.clone(), (**row).clone());
                }
                Write::PutDrained { worker, on: true } => {
                    self.drained.insert(worker.clone());
                }
                Write::PutDrained { worker, on: false } => {
                    self.drained.remove(worker);
                }
                Write::PutEstimate(estimate) => {
                    let key = (estimate.image, estimate.kind.clone());
                    self.estimates.insert(key, estimate.clone());
                }
                Write::RecordRun { .. } | Write::SetAside { .. } => {}
            }
        }
    }

    pub(crate) fn tick_at(&mut self, now: u64) {
        self.now = now;
        self.event(Event::Tick);
    }

    pub(crate) fn submit(&mut self, tasks: impl IntoIterator<Item = u128>) {
        let tasks = tasks.into_iter().map(new_task).collect();
        self.event(Event::Submitted { tasks });
    }

    /// Submits a task as a job of its own.
    pub(crate) fn submit_apart(&mut self, n: u128) {
        let job = JobId::from_raw(1000 + u64::try_from(n).unwrap());
        self.event(Event::Submitted { tasks: vec![NewTask { job, ..new_task(n) }] });
    }

    /// A person cancels the job of a task.
    pub(crate) fn cancel(&mut self, n: u128) {
        self.event(Event::CancelJob { job: self.row(n).job });
    }

    /// A worker is not heard any more, until it is given up for that.
    pub(crate) fn fall_silent(&mut self, name: &str, session: u64) {
        self.event(Event::SessionLost { peer: peer(name, session) });
        self.tick_at(self.now + 20_000);
    }

    /// A handshake of life 1, with idle boards and nothing held.
    pub(crate) fn up(&mut self, name: &str, session: u64, boards: &[&str]) {
        self.hello(name, session, 1, boards, vec![]);
    }

    pub(crate) fn hello(&mut self, name: &str, session: u64, life: u64, boards: &[&str], held: Vec<Held>) {
        let busy = |id: &str| held.iter().any(|held| held.lease.board.as_str() == id);
        let boards = boards.iter().map(|id| board(id, !busy(id))).collect();
        let incarnation = Incarnation::from_raw(life);
        self.event(Event::WorkerUp { peer: peer(name, session), incarnation, boards, held, draining: false });
    }

    pub(crate) fn frame(&mut self, from: &Peer, frame: Frame) {
        self.event(Event::Frame { from: from.clone(), frame });
    }

    /// A heartbeat with these boards busy or idle as `held` has it.
    pub(crate) fn beat(&mut self, from: &Peer, boards: &[&str], held: Vec<Held>, last: u64) {
        let busy = |id: &str| held.iter().any(|held| held.lease.board.as_str() == id);
        let boards = boards.iter().map(|id| board(id, !busy(id))).collect();
        self.frame(from, Frame::Heartbeat { boards, held, last_command: Command(last), draining: false });
    }

    pub(crate) fn result(&mut self, from: &Peer, lease: &LeaseRef, outcome: Outcome) {
        self.frame(from, Frame::Result { lease: lease.clone(), outcome });
    }

    pub(crate) fn reject(&mut self, from: &Peer, lease: &LeaseRef, reason: RejectReason) {
        self.frame(from, Frame::Rejected { lease: lease.clone(), reason, message: "no".into() });
    }

    pub(crate) fn state(&self, n: u128) -> TaskState {
        self.scheduler.task(task(n)).unwrap().row.state()
    }

    pub(crate) fn row(&self, n: u128) -> &TaskRow {
        self.scheduler.task(task(n)).unwrap().row
    }

    /// The current lease of a task.
    pub(crate) fn lease(&self, n: u128) -> LeaseRef {
        let lease = self.row(n).lease().expect("the task is leased");
        LeaseRef { token: lease.token, task: task(n), board: lease.board.clone() }
    }

    pub(crate) fn orders(&self) -> Vec<&Order> {
        let sends = self.fx.sends.iter().filter_map(|send| match send {
            Send::Command { order, .. } => Some(order),
            Send::Close { .. } => None,
        });
        sends.collect()
    }

    pub(crate) fn started(&self) -> Vec<(LeaseRef, AttemptNo)> {
        let start = |order: &Order| match order {
            Order::Start { lease, attempt } => Some((lease.clone(), *attempt)),
            _ => None,
        };
        self.orders().into_iter().filter_map(start).collect()
    }

    pub(crate) fn cancelled(&self) -> Vec<LeaseRef> {
        let cancel = |order: &Order| match order {
            Order::Cancel { lease } => Some(lease.clone()),
            _ => None,
        };
        self.orders().into_iter().filter_map(cancel).collect()
    }

    pub(crate) fn recalled(&self) -> Vec<LeaseRef> {
        let recall = |order: &Order| match order {
            Order::Recall { lease } => Some(lease.clone()),
            _ => None,
        };
        self.orders().into_iter().filter_map(recall).collect()
    }

    /// The canary run that the last event began.
    pub(crate) fn canary(&self) -> Option<LeaseRef> {
        self.orders().into_iter().find_map(|order| match order {
            Order::Canary { lease } => Some(lease.clone()),
            _ => None,
        })
    }

    /// Boards that the last event restarts.
    pub(crate) fn resets(&self) -> Vec<BoardId> {
        let reset = |order: &Order| match order {
            Order::Reset { board } => Some(board.clone()),
            _ => None,
        };
        self.orders().into_iter().filter_map(reset).collect()
    }

    /// A worker with boards that take `queue` attempts behind the one in work.
    pub(crate) fn up_with(&mut self, name: &str, session: u64, queue: u32, boards: &[&str]) {
        let boards = boards.iter().map(|id| BoardReport { queue, ..board(id, true) }).collect();
        let incarnation = Incarnation::from_raw(1);
        let peer = peer(name, session);
        self.event(Event::WorkerUp { peer, incarnation, boards, held: vec![], draining: false });
    }

    /// A task's attempt is accepted, starts, and ends well after `run` ms.
    pub(crate) fn work(&mut self, from: &Peer, n: u128, run: u64) {
        let lease = self.lease(n);
        self.start(from, n);
        self.now += run;
        self.result(from, &lease, Outcome::Succeeded);
    }

    pub(crate) fn start(&mut self, from: &Peer, n: u128) {
        self.frame(from, Frame::Accepted(self.lease(n)));
        self.frame(from, Frame::Started(self.lease(n)));
    }

    /// Lines of stories that the last event wrote.
    pub(crate) fn stories(&self) -> Vec<(TaskId, Step, Option<String>)> {
        let story = |notice: &Notice| match notice {
            Notice::Story { task, what, why, .. } => Some((*task, *what, why.clone())),
            _ => None,
        };
        self.fx.notices.iter().filter_map(story).collect()
    }

    /// Acknowledgements: whether each is of a duplicate.
    pub(crate) fn acks(&self) -> Vec<bool> {
        let ack = |order: &Order| match order {
            Order::Ack { duplicate, .. } => Some(*duplicate),
            _ => None,
        };
        self.orders().into_iter().filter_map(ack).collect()
    }

    pub(crate) fn closes(&self) -> usize {
        self.fx.sends.iter().filter(|send| matches!(send, Send::Close { .. })).count()
    }

    /// Tasks whose row is committed with the last effects.
    pub(crate) fn put(&self) -> Vec<TaskId> {
        let put = |write: &Write| match write {
            Write::PutTask(row) => Some(row.id),
            _ => None,
        };
        self.fx.writes.iter().filter_map(put).collect()
    }

    pub(crate) fn verdicts(&self) -> Vec<(TaskId, AttemptNo, &Verdict)> {
        let records = self.fx.writes.iter().filter_map(|write| match write {
            Write::RecordRun { task, attempt, verdict, .. } => Some((*task, *attempt, verdict)),
            _ => None,
        });
        records.collect()
    }
}
