//! A scheduler on a bench: short words for events, and what came of them.

use std::collections::BTreeMap;

use edgeprof_common::{
    AttemptNo, BoardHealth, BoardId, Digest, Epoch, ErrorClass, Incarnation, JobId, Priority, TaskError,
    TaskId, TaskState, Token, WorkerId,
};
use edgeprof_scheduler::{
    BoardReport, Command, Config, Effects, Event, Frame, Held, HeldState, Image, LeaseRef, NewTask, Now,
    Order, Outcome, Peer, Recovered, RejectReason, Requirement, Scheduler, Send, SessionId, TaskRow, Verdict,
    Write,
};

pub(crate) const JOB: JobId = JobId::from_raw(1);

pub(crate) struct Rig {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: u64,
    /// Of the last event.
    pub(crate) fx: Effects,
    /// What a store would have.
    pub(crate) rows: BTreeMap<TaskId, TaskRow>,
    pub(crate) tokens: BTreeMap<BoardId, Token>,
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
        labels: BTreeMap::new(),
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
            scheduler: Scheduler::new(Now(0), config, Epoch(1), Recovered::default()).unwrap(),
            now: 0,
            fx: Effects::default(),
            rows: BTreeMap::new(),
            tokens: BTreeMap::new(),
            epoch: 1,
        }
    }

    /// The coordinator dies and starts again with what was committed.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        let recovered =
            Recovered { tasks: self.rows.values().cloned().collect(), tokens: self.tokens.clone() };
        let config = Config::default();
        self.scheduler = Scheduler::new(Now(self.now), config, Epoch(self.epoch), recovered).unwrap();
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.fx = self.scheduler.step(Now(self.now), event);
        for write in &self.fx.writes {
            match write {
                Write::PutTask(row) => {
                    self.rows.insert(row.id, (**row).clone());
                }
                Write::PutLastToken { board, token } => {
                    self.tokens.insert(board.clone(), *token);
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

    /// A handshake of life 1, with idle boards and nothing held.
    pub(crate) fn up(&mut self, name: &str, session: u64, boards: &[&str]) {
        self.hello(name, session, 1, boards, vec![]);
    }

    pub(crate) fn hello(&mut self, name: &str, session: u64, life: u64, boards: &[&str], held: Vec<Held>) {
        let busy = |id: &str| held.iter().any(|held| held.lease.board.as_str() == id);
        let boards = boards.iter().map(|id| board(id, !busy(id))).collect();
        let incarnation = Incarnation::from_raw(life);
        self.event(Event::WorkerUp { peer: peer(name, session), incarnation, boards, held });
    }

    pub(crate) fn frame(&mut self, from: &Peer, frame: Frame) {
        self.event(Event::Frame { from: from.clone(), frame });
    }

    /// A heartbeat with these boards busy or idle as `held` has it.
    pub(crate) fn beat(&mut self, from: &Peer, boards: &[&str], held: Vec<Held>, last: u64) {
        let busy = |id: &str| held.iter().any(|held| held.lease.board.as_str() == id);
        let boards = boards.iter().map(|id| board(id, !busy(id))).collect();
        self.frame(from, Frame::Heartbeat { boards, held, last_command: Command(last) });
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
