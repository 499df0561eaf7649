//! A coordinator's host: the real loop and sessions over a store in memory.

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use edgeprof_common::{Digest, ErrorClass, TaskError};
use edgeprof_coordinator::{
    artifacts::Artifacts,
    core::{Command, Core, Parts, QUEUE},
    discovery::dial_static,
    preparing::{Outcome, Preparer, Ready, Request, Vocabulary},
    session::Context,
    store::{
        Writer,
        rows::{self, ImageRow},
    },
};
use edgeprof_service::{channel::Dialer, shutdown::Tasks};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    lab::folder,
    ledger::Ledger,
    net::{Cuts, PORT, Simulated},
    story::Story,
};

/// Bytes of the firmware.
const FIRMWARE: &[u8] = b"firmware";

/// The host, and what outlives its crashes.
#[derive(Debug)]
pub(crate) struct Coordinator {
    /// Its name, which is the host's too.
    pub(crate) name: String,
    /// Its store.
    pub(crate) ledger: Arc<Ledger>,
    /// The firmware of every task.
    pub(crate) firmware: Digest,
    /// Why its loop ended by itself, if it did.
    pub(crate) ended: Mutex<Option<String>>,
    workers: Vec<String>,
    prepared: Instantly,
    commit: Duration,
    seed: u64,
    cuts: Cuts,
    story: Story,
    data: TempDir,
    /// To the loop of the present life.
    commands: Mutex<Option<mpsc::Sender<Command>>>,
}

/// What a coordinator is made from.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its store.
    pub(crate) ledger: Arc<Ledger>,
    /// Whom it dials.
    pub(crate) workers: Vec<String>,
    /// Bytes of the board image.
    pub(crate) image: usize,
    /// Tokens of every prompt.
    pub(crate) prompt: u32,
    /// How long a commit takes.
    pub(crate) commit: Duration,
    /// Of the jitter.
    pub(crate) seed: u64,
    /// What does not get through.
    pub(crate) cuts: Cuts,
    /// What happens.
    pub(crate) story: Story,
}

impl Coordinator {
    /// A coordinator that has not started yet.
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { name, ledger, workers, image, prompt, commit, seed, cuts, story } = setup;
        let data = folder();
        let artifacts = Artifacts::open(data.path(), u64::MAX).unwrap();
        let firmware = artifacts.keep(FIRMWARE).unwrap();
        let (ended, commands) = (Mutex::default(), Mutex::default());
        let prepared = Instantly { artifacts, image: vec![7; image], prompt };
        Self {
            name: name.into(),
            ledger,
            firmware,
            ended,
            workers,
            prepared,
            commit,
            seed,
            cuts,
            story,
            data,
            commands,
        }
    }

    /// Runs until the host crashes, or until the loop ends by itself.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let store = self.ledger.clone();
        let identity = rows::claim(&*store)?;
        self.story.tell(format_args!("{} starts epoch {}", self.name, identity.life.epoch.0));
        let artifacts = Artifacts::open(self.data.path(), u64::MAX)?;
        let tasks = Tasks::new();
        let (commands, waiting) = mpsc::channel(QUEUE);
        let parts = Parts {
            identity,
            writer: Writer::start_task(store.clone(), self.commit),
            store,
            preparer: Arc::new(self.prepared.clone()),
            artifacts: artifacts.clone(),
            tasks: tasks.clone(),
            commands: commands.clone(),
            canary: None,
            quotas: edgeprof_coordinator::access::Quotas::default(),
            scheduler: edgeprof_scheduler::Config::default(),
        };
        let core = Core::recover(parts)?;
        let simulated = Simulated { from: self.name.clone(), cuts: self.cuts.clone() };
        let context = Context {
            commands: commands.clone(),
            identity,
            site: "net".into(),
            dialer: Dialer::over(Arc::new(simulated)),
            jitter: self.seed,
            data: self.data.path().into(),
            artifacts,
            sessions: Arc::new(AtomicU64::new(1)),
            stop: tasks.stop_token(),
        };
        *self.commands.lock().unwrap() = Some(commands);
        let addresses: Vec<_> = self.workers.iter().map(|worker| format!("{worker}:{PORT}")).collect();
        let _fixed = dial_static(&addresses, &context, &tasks);
        let outcome = core.run(waiting, tasks.stop_token()).await;
        let why = outcome.err().map_or_else(|| "it was told to".to_owned(), |error| error.to_string());
        self.story.tell(format_args!("{} ended: {why}", self.name));
        *self.ended.lock().unwrap() = Some(why);
        tasks.stop().await;
        Ok(())
    }

    /// What workers need for an attempt.
    pub(crate) fn blobs(&self) -> [&[u8]; 2] {
        [FIRMWARE, &self.prepared.image]
    }

    /// The way to the loop, where it runs.
    pub(crate) fn commands(&self) -> Option<mpsc::Sender<Command>> {
        self.commands.lock().unwrap().clone().filter(|commands| !commands.is_closed())
    }
}

/// Stands in for the children that read model files: every model has the same image.
#[derive(Clone, Debug)]
struct Instantly {
    artifacts: Artifacts,
    prompt: u32,
    image: Vec<u8>,
}

impl Instantly {
    fn image(&self) -> Result<(ImageRow, Arc<Vocabulary>), Box<dyn std::error::Error>> {
        let empty = serde_json::json!({ "bos": null, "pieces": [], "spaced": [] });
        let vocabulary: Vocabulary = serde_json::from_value(empty)?;
        let row = ImageRow {
            image: self.artifacts.keep(&self.image)?,
            size: self.image.len() as u64,
            vocabulary: self.artifacts.keep(&vocabulary.to_bytes())?,
        };
        Ok((row, Arc::new(vocabulary)))
    }
}

#[tonic::async_trait]
impl Preparer for Instantly {
    async fn run(&self, request: Request, answers: mpsc::Sender<Outcome>) {
        let image = match self.image() {
            Ok((row, vocabulary)) => Outcome::Image(row, vocabulary),
            Err(error) => {
                let broken = TaskError::new(ErrorClass::Infrastructure, "prepare_failed", error.to_string());
                Outcome::Broken(broken)
            }
        };
        let _ = answers.send(image).await;
        for index in 0..request.workloads.len() {
            let ready = Ready {
                tokens: (0..self.prompt).collect(),
                stop_tokens: Vec::new(),
                ctx: 2 * self.prompt,
                arena_bytes: 1024,
                reference: None,
            };
            let _ = answers.send(Outcome::Workload(index, Ok(ready))).await;
        }
    }
}
