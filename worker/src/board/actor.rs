//! The task that owns a board: takes attempts, and brings the board back after a failure.

use std::{sync::Arc, time::Duration};

use edgeprof_common::{BoardHealth, Digest};
use edgeprof_proto::v1;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    check::{self, Check},
    console::{self, Console},
    device::{Device, Program, Source},
    error::BoardError,
    queue::Queue,
    stage::Stager,
    usage::Usage,
};
use crate::{spec::LeaseRef, trust::Trusted};

/// Between two looks for a board that failed: at first, and then twice as long each time up to these.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A port that is plugged in again is to be seen soon, and costs little to look for.
const LONGEST_PORT_PAUSE: Duration = Duration::from_secs(2);

/// What the hub asks of a board, beside attempts.
#[derive(Debug)]
pub enum Order {
    /// Say how the board is.
    Check(oneshot::Sender<Vec<Check>>),
    /// Restart it, and say why it is not good then.
    Reset(oneshot::Sender<Result<(), String>>),
    /// Give its line to a person.
    Console(Console),
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// With figures.
    Measured(Box<v1::Measurement>),
    /// With an error.
    Failed(edgeprof_common::TaskError),
    /// On command.
    Cancelled,
}

/// What a board tells the hub.
#[derive(Debug)]
pub enum Event {
    /// How the board is, and why.
    Health(BoardHealth, Option<String>),
    /// What runs on it: loaded firmware digest and version, image.
    Content(Option<(Digest, String)>, Option<Digest>),
    /// An attempt lacks these.
    Needs(LeaseRef, Vec<Digest>),
    /// An attempt runs.
    Started(LeaseRef),
    /// How far an attempt is.
    Progress(LeaseRef, &'static str, u64, u64),
    /// An attempt has ended, with the transcript of its line.
    Finished(LeaseRef, Outcome, String),
    /// The board's task has ended by a fault of this program: what it was.
    Broken(String),
}

/// Where the hub reaches a board's task.
#[derive(Debug)]
pub struct Inbox {
    /// Attempts.
    pub queue: Queue,
    /// Everything else that can wait for the attempt at work.
    pub orders: mpsc::Receiver<Order>,
    /// Restarts the board whatever it does.
    pub reset: Arc<Notify>,
    /// Whether attempts may start.
    pub trusted: Trusted,
}

/// Loaded digest and version of the firmware that runs, and the image.
type Content = (Option<(Digest, String)>, Option<Digest>);

/// The board's task.
#[derive(Debug)]
pub struct Actor {
    pub(super) device: Device,
    pub(super) stager: Stager,
    pub(super) inbox: Inbox,
    /// The firmware that last answered here: what the board is brought back with.
    pub(super) proven: Option<Program>,
    /// Why the board is not good.
    trouble: Option<String>,
    /// What the hub knows to run on it.
    told: Option<Content>,
    pub(super) usage: Usage,
    /// Who waits for what becomes of a restart.
    resetting: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Actor {
    /// A board that is not running yet.
    pub fn new(device: Device, stager: Stager, inbox: Inbox) -> Self {
        let usage = Usage::new(&stager.id, &device.kind().name);
        Self { device, stager, inbox, proven: None, trouble: None, told: None, usage, resetting: Vec::new() }
    }

    /// Serves attempts until `stop`, and leaves no emulator behind.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
        self.device.stop().await;
    }

    async fn serve(&mut self) {
        self.revive().await;
        loop {
            tokio::select! {
                order = self.inbox.orders.recv() => match order {
                    Some(order) => self.order(order).await,
                    None => return,
                },
                () = self.inbox.reset.notified() => self.recover(&BoardError::Reset).await,
                attempt = self.inbox.queue.first() => self.attempt(&attempt).await,
                error = self.device.idle() => {
                    warn!(board = %self.stager.id, %error, "an idle board failed");
                    self.recover(&error).await;
                }
            }
        }
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Check(reply) => self.check(reply).await,
            Order::Reset(reply) => {
                self.resetting.push(reply);
                self.recover(&BoardError::Reset).await;
            }
            Order::Console(console) => {
                self.health(BoardHealth::Maintenance, Some(console::OPEN.into())).await;
                tokio::select! {
                    () = console::serve(console, &mut self.device) => {}
                    () = self.inbox.reset.notified() => {}
                }
                // Whatever was typed, the board and its line are as new.
                self.recover(&BoardError::Reset).await;
            }
        }
    }

    pub(super) async fn health(&mut self, health: BoardHealth, reason: Option<String>) {
        self.trouble.clone_from(&reason);
        let outcome = match health {
            BoardHealth::Good => Some(Ok(())),
            BoardHealth::Bad => Some(Err(reason.clone().unwrap_or_default())),
            _ => None,
        };
        self.stager.tell(Event::Health(health, reason)).await;
        if let Some(outcome) = outcome {
            for waiting in self.resetting.drain(..) {
                let _ = waiting.send(outcome.clone());
            }
        }
    }

    /// Looks for the board until it can be used. Attempts wait meanwhile; the hub takes them back once the board
    /// is told to be bad.
    async fn revive(&mut self) {
        let longest = match self.device.source() {
            Source::Attached(_) => LONGEST_PORT_PAUSE,
            Source::Emulated(_) => LONGEST_PAUSE,
        };
        let mut pause = FIRST_PAUSE;
        let mut said = String::new();
        loop {
            let Err(failure) = self.device.revive(self.proven.as_ref()).await else { break };
            self.device.stop().await;
            let error = failure.task_error();
            let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            let reason = format!("{}{hint}", error.message);
            if said != reason {
                warn!(board = %self.stager.id, reason, "the board cannot be used");
                said.clone_from(&reason);
            }
            self.health(BoardHealth::Bad, Some(reason)).await;
            self.wait(Instant::now() + pause).await;
            pause = (pause * 2).min(longest);
        }
        self.tell_content().await;
        self.health(BoardHealth::Good, None).await;
    }

    /// Answers questions to a board that cannot be used, until it is time to look again, or somebody wants that.
    async fn wait(&mut self, until: Instant) {
        loop {
            let order = tokio::select! {
                () = sleep_until(until) => return,
                () = self.inbox.reset.notified() => return,
                order = self.inbox.orders.recv() => order,
            };
            match order {
                Some(Order::Check(reply)) => self.check(reply).await,
                Some(Order::Reset(reply)) => return self.resetting.push(reply),
                Some(Order::Console(console)) => {
                    let why = self.trouble.clone().unwrap_or_default();
                    console.refuse(format!("the board cannot be used: {why}"));
                }
                None => return sleep_until(until).await,
            }
        }
    }

    /// Restarts the board with the firmware that answered last, until it answers again.
    pub(super) async fn recover(&mut self, why: &BoardError) {
        self.health(BoardHealth::Unknown, Some(format!("restarting after: {why}"))).await;
        self.stager.spare = None;
        self.device.stop().await;
        self.revive().await;
        info!(board = %self.stager.id, "the board is good again");
    }

    /// Tells how the board is, as far as it can be looked at now.
    async fn check(&mut self, reply: oneshot::Sender<Vec<Check>>) {
        let checks = check::device(&mut self.device, self.proven.as_ref(), self.trouble.as_deref()).await;
        // Who asked may have gone.
        let _ = reply.send(checks);
        self.tell_content().await;
    }

    pub(super) async fn tell_content(&mut self) {
        let content: Content = match (self.device.content(), &self.proven) {
            (Some((version, image)), Some(program)) => (Some((program.parsed.loaded, version)), image),
            _ => (None, None),
        };
        if self.told.as_ref() != Some(&content) {
            self.told = Some(content.clone());
            self.stager.tell(Event::Content(content.0, content.1)).await;
        }
    }
}
