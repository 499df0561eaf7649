//! The one loop that owns the scheduler and everything that the coordinator knows. What happens comes
//! in as a [`Command`]; what leaves waits in `commit::Outbox` for the commit that justifies it.

mod access;
mod boards;
mod command;
mod commit;
mod effects;
mod forget;
mod jobs;
mod lists;
mod measure;
mod prepare;
mod recover;
mod sessions;
mod spans;
mod tasks;

pub use recover::RecoverError;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use edgeprof_common::{BoardId, Digest, JobId, JobState, Quant, TaskId, Token, WorkerId};
use edgeprof_proto::v1;
use edgeprof_scheduler::{BoardReport, Event, LeaseRef, Now, Scheduler, SessionId, TaskRow};
use edgeprof_service::shutdown::Tasks;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Quotas,
    artifacts::Artifacts,
    canary::Canary,
    ingest::Measured,
    preparing::{Preparer, Vocabulary},
    session::Outgoing,
    store::{
        Store, Transaction, Writer,
        rows::{Identity, ImageRow, JobRow, Outcome, Prepared, TaskDef},
    },
    submit::Present,
};

pub use access::Change;
pub use boards::{NotMarked, Reserved, Wish};
pub use command::{Before, Busy, Command, Failed, Known};
pub(crate) use prepare::Keys;
pub use tasks::Told;

/// Commands that may wait for the loop.
pub const QUEUE: usize = 1024;

/// Commands that share a commit, and how long more are taken in before it.
const BATCH: usize = 256;
const BATCH_TIME: Duration = Duration::from_millis(5);

/// The loop wakes at least this often, to notice that it stood still.
const PULSE: Duration = Duration::from_secs(1);

/// The last tokens of boards are written this often: one of each lease would cost a page of its own, and a board of a
/// thousand is not the neighbour of the next one that is leased.
const TOKENS: Duration = Duration::from_secs(10);

/// Watchers of ephemeral changes are told at most this often.
const COALESCE: Duration = Duration::from_millis(50);

/// What the loop needs from outside.
#[derive(Debug)]
pub struct Parts {
    /// Who this is.
    pub identity: Identity,
    /// The way to the disk.
    pub writer: Writer,
    /// What is on it: read for what is not known here any more.
    pub store: Arc<dyn Store>,
    /// Makes models ready.
    pub preparer: Arc<dyn Preparer>,
    /// Where models are and images go.
    pub artifacts: Artifacts,
    /// Owns the tasks that watch children.
    pub tasks: Tasks,
    /// The loop's own address, for the children's answers.
    pub commands: mpsc::Sender<Command>,
    /// What suspected boards have to run; without it they go without.
    pub canary: Option<Canary>,
    /// What submitters may have.
    pub quotas: Quotas,
    /// Spans and bounds of the scheduler.
    pub scheduler: edgeprof_scheduler::Config,
}

/// A job as it is shown.
#[derive(Debug)]
struct Job {
    row: JobRow,
    /// Number of its last committed or committing change.
    last_event: u64,
    /// Tasks that failed for good.
    failed: usize,
    watchers: Option<watch::Sender<Arc<v1::JobUpdate>>>,
    /// What its watchers have not been told.
    dirty: Dirty,
    /// When they were told last.
    told: Instant,
    /// As it was when all its tasks were looked at.
    outlook: Cell<Option<Outlook>>,
}

/// What is to be expected of a job.
#[derive(Clone, Copy, Debug)]
struct Outlook {
    /// When that was.
    at: Instant,
    /// Tasks ahead of the first that waits for a board, if one does.
    position: Option<u32>,
    /// When the last is likely to have ended.
    ends: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dirty {
    No,
    /// Progress, which may be skipped.
    Ephemeral,
    /// A numbered change.
    Change,
    /// Its end.
    End,
}

/// A session that is up.
#[derive(Debug)]
struct Session {
    worker: WorkerId,
    key: String,
    outgoing: Outgoing,
    stop: CancellationToken,
    /// The last heartbeat's boards: what they are known again by, and as they were read. Most say the same again.
    reported: (Digest, Arc<[BoardReport]>),
}

/// The result that the event at hand brought.
#[derive(Debug)]
struct Payload {
    lease: LeaseRef,
    message: Box<v1::Result>,
    measured: Option<Measured>,
    /// Why it can never be taken.
    undecodable: Option<String>,
}

/// The loop's state.
#[derive(Debug)]
pub struct Core {
    parts: Parts,
    scheduler: Scheduler,
    meters: measure::Meters,
    origin: Instant,
    /// When the last frame was read from its socket.
    heard: Instant,
    outbox: commit::Outbox,
    failed: Option<Failed>,
    /// What is to be committed with the commands at hand, and what waits for that.
    transaction: Transaction,
    /// Tasks whose rows are part of it, as they are at its end; without one, as they are now.
    touched: BTreeMap<TaskId, Option<Box<TaskRow>>>,
    tokens: BTreeMap<BoardId, Token>,
    outs: Vec<commit::Out>,
    payload: Option<Payload>,
    /// Boards whose canary was asked for and is not there.
    without_canary: Vec<BoardId>,

    /// Those that have not ended, and the last that have; the store has the others.
    jobs: BTreeMap<JobId, Job>,
    /// The same by the place of their first task in the order of submission.
    order: BTreeMap<u64, JobId>,
    keys: HashMap<String, JobId>,
    ended: forget::Ended,
    /// Jobs of the command at hand, whose submitters wait for an answer.
    submitted: Vec<jobs::Submitted>,
    defs: HashMap<TaskId, Arc<TaskDef>>,
    /// Tasks that have not ended.
    open: HashMap<TaskId, tasks::Open>,
    /// Since when a task has lines of its story that its row does not have.
    untold: HashMap<TaskId, Instant>,
    dirty: HashSet<JobId>,
    next_event: u64,
    next_aside: u64,

    images: HashMap<(Digest, Quant), ImageRow>,
    vocabularies: HashMap<Digest, Arc<Vocabulary>>,
    workloads: HashMap<Digest, Arc<Prepared>>,
    preparing: prepare::Queue,
    /// Prepared tasks whose boards may yet come, and when waiting ends.
    awaiting: VecDeque<prepare::Awaiting>,

    sessions: HashMap<SessionId, Session>,
    commands: HashMap<WorkerId, u64>,
    targets: BTreeMap<String, sessions::Target>,
    workers: BTreeMap<WorkerId, sessions::Worker>,
    boards: BTreeMap<BoardId, sessions::Board>,
    /// When reservations end, in ms since 1970.
    reserved: BTreeMap<BoardId, u64>,
    /// What can be planned with, as long as that is so.
    present: Option<Arc<[Present]>>,
    drained: BTreeSet<WorkerId>,
    taken_back: boards::TakenBack,
    access: access::State,
}

impl Core {
    /// Runs until told to stop, or until it cannot go on.
    ///
    /// # Errors
    /// When the store fails, or a newer life took over.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) -> Result<(), Failed> {
        let mut committed = self.parts.writer.committed();
        self.start_preparing();
        self.finish_step().await;
        let mut woke = Instant::now();
        let mut pulse = woke + PULSE;
        let mut tokens = woke + TOKENS;
        let outcome = loop {
            if let Some(failed) = self.failed.take() {
                break Err(failed);
            }
            let began = Instant::now();
            // What workers said meanwhile still waits in the queue.
            self.notice_stall(woke, woke);
            // However many commands keep the loop from sleeping.
            if began >= pulse {
                pulse = began + PULSE;
                // What was read from sockets since is evidence that a worker lives: time stays before it.
                let now = if commands.is_empty() { began } else { self.heard };
                self.step_at(now, Event::Tick);
                self.end_waiting();
                self.tell_stories();
                if began >= tokens {
                    tokens = began + TOKENS;
                    self.put_tokens();
                }
                self.picture();
                self.forget_ended();
                self.finish_step().await;
            }
            let wake = self.wake(pulse).max(began);
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                changed = committed.changed() => {
                    self.notice_stall(began, wake);
                    woke = Instant::now();
                    let state = committed.borrow_and_update().clone();
                    if changed.is_err() && matches!(state, crate::store::Committed::Nothing) {
                        break Ok(());
                    }
                    self.release(&state);
                }
                command = commands.recv() => match command {
                    Some(command) => {
                        self.notice_stall(began, wake);
                        woke = Instant::now();
                        self.handle(command);
                        self.handle_waiting(&mut commands);
                        self.finish_step().await;
                    }
                    None => break Ok(()),
                },
                () = tokio::time::sleep_until(wake) => {
                    self.notice_stall(began, wake);
                    woke = Instant::now();
                    self.step(Event::Tick);
                    self.finish_step().await;
                }
            }
        };
        for session in self.sessions.values() {
            session.stop.cancel();
        }
        if outcome.is_ok() {
            self.touch_untold(|_| true);
            self.put_tokens();
            self.finish_step().await;
        }
        self.parts.writer.close().await;
        outcome
    }

    fn at(&self, instant: Instant) -> Now {
        let since = instant.saturating_duration_since(self.origin);
        Now(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Takes in what else waits, for the same commit.
    fn handle_waiting(&mut self, commands: &mut mpsc::Receiver<Command>) {
        let end = Instant::now() + BATCH_TIME;
        for _ in 1..BATCH {
            match commands.try_recv() {
                Ok(command) if self.failed.is_none() => self.handle(command),
                _ => return,
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    fn wake(&self, mut wake: Instant) -> Instant {
        if let Some(at) = self.scheduler.next_wakeup() {
            wake = wake.min(self.origin + Duration::from_millis(at.0));
        }
        let untold = self.dirty.iter().filter_map(|id| self.jobs.get(id));
        let tell = untold.map(|job| job.told + jobs::pause(job.row.tasks.len())).min();
        tell.map_or(wake, |at| wake.min(at))
    }

    /// If the loop woke long after it wanted to, every worker looks silent and none is.
    fn notice_stall(&mut self, began: Instant, wake: Instant) {
        let late = Instant::now().saturating_duration_since(wake.max(began));
        if late > PULSE {
            tracing::warn!(seconds = late.as_secs_f64(), "the coordinator stood still");
            self.step(Event::LoopStalled { by: late });
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Audited(row, command) => self.audited(*row, *command),
            Command::Access(change) => self.change_access(change),
            Command::Submit { job, tasks, ready, forgotten, reply } => {
                let id = job.id;
                self.submit(*job, tasks, ready, forgotten, reply);
                self.did(self.jobs.contains_key(&id));
            }
            Command::Before { key, reply } => {
                let known = key.and_then(|key| self.known(&key));
                let before = Before { known, boards: self.present(), forgotten: self.ended.forgotten() };
                self.reply(reply, before);
            }
            Command::Job(id, reply) => {
                let job = self.view(id, true);
                self.reply(reply, job);
            }
            Command::Jobs(limit, reply) => {
                let newest = self.order.iter().rev().take(limit);
                let jobs = newest.filter_map(|(place, id)| Some((*place, self.view(*id, false)?))).collect();
                self.reply(reply, jobs);
            }
            Command::Tasks(id, reply) => {
                let tasks = self.jobs.get(&id).map(|job| job.row.tasks.clone());
                self.reply(reply, tasks);
            }
            Command::Cancel(id, reply) => {
                let before = self.scheduler.job(id).map(|job| job.state);
                self.step(Event::CancelJob { job: id });
                let job = self.view(id, true);
                // One that is not known here may have ended long ago.
                self.became(before.map(|state| Outcome::of_change(state == JobState::Open)));
                self.reply(reply, job);
            }
            Command::Watch(id, reply) => {
                let watcher = self.watch(id);
                self.reply(reply, watcher);
            }
            Command::Boards(reply) => {
                let boards = self.board_list();
                self.reply(reply, boards);
            }
            Command::Workers(reply) => {
                let workers = self.worker_list();
                self.reply(reply, workers);
            }
            Command::Stories(tasks, reply) => {
                let stories = tasks.into_iter().filter_map(|task| self.told(task)).collect();
                self.reply(reply, stories);
            }
            Command::Drain(worker, on, reply) => {
                let changes = self.drained.contains(&worker) != on;
                let status = self.drain(worker, on);
                self.became(Some(status.as_ref().map_or(Outcome::Refused, |_| Outcome::of_change(changes))));
                self.reply(reply, status);
            }
            Command::Mark(board, wish, reply) => {
                let mark = |core: &Self| core.scheduler.kept(&board).and_then(|kept| kept.mark.clone());
                let before = mark(self);
                let status = self.mark_board(&board, wish);
                let changed = mark(self) != before;
                self.became(Some(status.as_ref().map_or(Outcome::Refused, |_| Outcome::of_change(changed))));
                self.reply(reply, status);
            }
            Command::Reserved(board, reply) => {
                let reserved = self.reserved(&board);
                self.reply(reply, reserved);
            }
            Command::Session(event) => self.session(event),
            Command::Prepared(id, outcome) => self.prepared(id, outcome),
            Command::PrepareEnded(id) => self.prepare_ended(id),
            // Nobody may wait any more.
            Command::Alive(reply) => drop(reply.send(())),
        }
    }
}
