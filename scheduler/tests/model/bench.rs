//! The real scheduler with a store, one worker and one board around it.

use std::{collections::BTreeMap, sync::Arc};

use edgeprof_common::{
    BoardHealth, BoardId, Digest, Epoch, ErrorClass, Incarnation, JobId, Priority, TaskError, TaskId, Token,
    WorkerId,
};
use edgeprof_scheduler::{
    BoardReport, Config, Event, Frame, Held, HeldState, Image, LeaseRef, NewTask, Now, Order, Outcome, Peer,
    Recovered, Requirement, Scheduler, Send, SessionId, TaskRow, Write,
};

const TASK: TaskId = TaskId::from_raw(1);
const JOB: JobId = JobId::from_raw(1);

pub(crate) struct Bench {
    scheduler: Scheduler,
    epoch: u64,
    now: u64,
    submitted: bool,
    stored: Option<TaskRow>,
    tokens: BTreeMap<BoardId, Token>,
    runs: usize,
    session: Option<SessionId>,
    sessions: u64,
    process: u64,
    /// An order that arrived and is not begun.
    offered: Option<LeaseRef>,
    running: Option<LeaseRef>,
    outbox: Option<(LeaseRef, Outcome)>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            scheduler: scheduler(1, Recovered::default()),
            epoch: 1,
            now: 0,
            submitted: false,
            stored: None,
            tokens: BTreeMap::new(),
            runs: 0,
            session: None,
            sessions: 0,
            process: 1,
            offered: None,
            running: None,
            outbox: None,
        }
    }

    pub(crate) fn row(&self) -> Option<&TaskRow> {
        self.scheduler.task(TASK).map(|task| task.row)
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    pub(crate) fn submit(&mut self) {
        self.submitted = true;
        self.step(Event::Submitted { tasks: vec![task()] });
    }

    pub(crate) fn cancel(&mut self) {
        self.step(Event::CancelJob { job: JOB });
    }

    pub(crate) fn link(&mut self) {
        self.sessions += 1;
        self.session = Some(SessionId(self.sessions));
        let running = self.running.iter().map(|lease| (lease, HeldState::Running));
        let kept = self.outbox.iter().map(|(lease, _)| (lease, HeldState::Outbox));
        let held = running.chain(kept).map(|(lease, state)| Held { lease: lease.clone(), state }).collect();
        let (peer, boards) = (self.peer(), vec![self.report()]);
        let incarnation = Incarnation::from_raw(self.process);
        self.step(Event::WorkerUp { peer, incarnation, boards, held, draining: false });
        self.deliver();
    }

    pub(crate) fn unlink(&mut self) {
        self.offered = None;
        let peer = self.peer();
        self.session = None;
        self.step(Event::SessionLost { peer });
    }

    pub(crate) fn begin(&mut self) {
        let lease = self.offered.take().expect("an offer that arrived");
        self.running = Some(lease.clone());
        self.frame(Frame::Accepted(lease.clone()));
        self.frame(Frame::Started(lease));
    }

    pub(crate) fn end(&mut self, success: bool) {
        let lease = self.running.take().expect("an attempt that runs");
        let failed = || Outcome::Failed(TaskError::new(ErrorClass::Model, "bad_logits", "not finite"));
        self.outbox = Some((lease, if success { Outcome::Succeeded } else { failed() }));
        self.deliver();
    }

    pub(crate) fn worker_restarts(&mut self) {
        self.process += 1;
        self.running = None;
        if self.session.is_some() {
            self.unlink();
        }
    }

    pub(crate) fn coordinator_restarts(&mut self) {
        (self.session, self.offered) = (None, None);
        self.epoch += 1;
        let fresh = self.submitted.then(|| TaskRow::fresh(task(), 0));
        let tasks = self.stored.clone().or(fresh).into_iter().collect();
        let tokens = self.tokens.clone();
        self.scheduler = scheduler(self.epoch, Recovered { tasks, tokens, ..Recovered::default() });
    }

    fn peer(&self) -> Peer {
        Peer { worker: worker(), session: self.session.expect("a session") }
    }

    fn report(&self) -> BoardReport {
        BoardReport {
            id: BoardId::on(&worker(), "b").expect("a board's name"),
            kind: "m4".into(),
            uid: None,
            labels: Arc::default(),
            health: BoardHealth::Good,
            reason: None,
            idle: self.running.is_none(),
            queue: 0,
            model_bytes: 100,
            arena_bytes: 100,
            image: None,
        }
    }

    fn frame(&mut self, frame: Frame) {
        if self.session.is_some() {
            let from = self.peer();
            self.step(Event::Frame { from, frame });
        }
    }

    /// Sends what is in the outbox; the worker keeps it until it is acknowledged.
    fn deliver(&mut self) {
        if let Some((lease, outcome)) = self.outbox.clone() {
            self.frame(Frame::Result { lease, outcome });
            let report = self.report();
            self.frame(Frame::Board(report));
            assert!(self.session.is_none() || self.outbox.is_none(), "a result is not acknowledged");
        }
    }

    /// One event; commits at once, then obeys what leaves.
    fn step(&mut self, event: Event) {
        self.now += 1;
        let fx = self.scheduler.step(Now(self.now), event);
        for write in fx.writes {
            match write {
                Write::PutTask(row) => self.stored = Some(*row),
                Write::PutLastToken { board, token } => {
                    let before = self.tokens.insert(board, token);
                    assert!(before < Some(token), "token {token} after {before:?}");
                }
                Write::RecordRun { .. } => self.runs += 1,
                _ => {}
            }
        }
        for send in fx.sends {
            let Send::Command { to, order, .. } = send else { continue };
            if Some(to.session) == self.session {
                self.obey(order);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Start { lease, .. } => {
                assert!(self.running.is_none(), "two attempts on a board");
                self.offered = Some(lease);
            }
            Order::Cancel { lease } => {
                self.offered = self.offered.take().filter(|offered| *offered != lease);
                if self.running.as_ref() == Some(&lease) {
                    self.running = None;
                    self.outbox = Some((lease, Outcome::Cancelled));
                    self.deliver();
                }
            }
            Order::Ack { lease, .. } => {
                self.outbox = self.outbox.take().filter(|(kept, _)| *kept != lease);
            }
            Order::Canary { .. } | Order::Recall { .. } | Order::Reset { .. } => {
                panic!("nobody is suspected here: {order:?}")
            }
        }
    }
}

fn scheduler(epoch: u64, recovered: Recovered) -> Scheduler {
    Scheduler::new(Now(0), Config::default(), Epoch(epoch), recovered).expect("an epoch above every token")
}

fn worker() -> WorkerId {
    "w".parse().expect("a worker's name")
}

fn task() -> NewTask {
    NewTask {
        id: TASK,
        job: JOB,
        priority: Priority::Normal,
        requirement: Requirement::default(),
        image: Some(Image { digest: Digest::of(b"image"), model_bytes: 10, arena_bytes: 10 }),
        submitter: String::new(),
        work: 1,
    }
}
