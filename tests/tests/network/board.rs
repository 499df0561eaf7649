//! Boards that take their time and measure nothing, behind the worker's real hub.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use edgeprof_common::{BoardHealth, BoardId, Token};
use edgeprof_proto::v1;
use edgeprof_worker::{
    blobs::Blobs,
    board::actor::{Attempt, Event, Order, Outcome},
    spec::Spec,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::story::Story;

/// What is noted of every board, whatever becomes of its host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<BTreeMap<BoardId, Note>>>);

/// What is noted of one.
#[derive(Debug)]
struct Note {
    /// The last token obeyed.
    last: Option<Token>,
    /// Every token obeyed was higher than the one before it.
    fenced: bool,
    /// Attempts taken.
    taken: usize,
    /// Attempts that ran to their end.
    finished: usize,
    /// When the last one ended, unless the board was restarted since.
    ended: Option<Instant>,
    /// The longest time that the board had nothing between two attempts.
    gap: Option<Duration>,
}

impl Default for Note {
    fn default() -> Self {
        Self { last: None, fenced: true, taken: 0, finished: 0, ended: None, gap: None }
    }
}

impl Notes {
    /// Whether every board obeyed each time a higher token than before.
    pub(crate) fn fenced(&self) -> bool {
        self.0.lock().unwrap().values().all(|note| note.fenced)
    }

    /// Attempts that boards took.
    pub(crate) fn taken(&self) -> usize {
        self.0.lock().unwrap().values().map(|note| note.taken).sum()
    }

    /// Attempts that ran to their end.
    pub(crate) fn finished(&self) -> usize {
        self.0.lock().unwrap().values().map(|note| note.finished).sum()
    }

    /// The longest time that any board had nothing between two attempts.
    pub(crate) fn longest_gap(&self) -> Option<Duration> {
        self.0.lock().unwrap().values().filter_map(|note| note.gap).max()
    }

    fn with<T>(&self, board: &BoardId, change: impl FnOnce(&mut Note) -> T) -> T {
        change(self.0.lock().unwrap().entry(board.clone()).or_default())
    }
}

/// A board.
#[derive(Debug)]
pub(crate) struct Board {
    /// Its id.
    pub(crate) id: BoardId,
    /// How long a run takes.
    pub(crate) takes: Duration,
    /// The worker's cache.
    pub(crate) blobs: Blobs,
    /// To the hub.
    pub(crate) events: mpsc::Sender<(BoardId, Event)>,
    /// What is noted of it.
    pub(crate) notes: Notes,
    /// What happens.
    pub(crate) story: Story,
}

impl Board {
    /// Serves attempts until the hub is gone.
    pub(crate) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        self.notes.with(&self.id, |note| note.ended = None);
        self.tell(Event::Health(BoardHealth::Good, None)).await;
        while let Some(order) = orders.recv().await {
            // Nobody asks here how a board is.
            if let Order::Attempt(attempt) = order {
                self.attempt(*attempt).await;
            }
        }
    }

    async fn tell(&self, event: Event) {
        // The hub outlives the boards; where it is gone the host crashes.
        let _ = self.events.send((self.id.clone(), event)).await;
    }

    async fn attempt(&self, attempt: Attempt) {
        let Attempt { lease, spec, cancel, recall } = attempt;
        let token = lease.token;
        self.story.tell(format_args!("{} takes {} under {token}", self.id, lease.task));
        self.notes.with(&self.id, |note| {
            note.fenced &= note.last < Some(token);
            note.last = Some(token);
            note.taken += 1;
            note.gap = note.gap.max(note.ended.map(|ended| ended.elapsed()));
        });
        let staged = async {
            self.stage(&lease, &spec).await;
            self.tell(Event::Started(lease.clone())).await;
        };
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => Outcome::Cancelled,
            () = recall.cancelled() => Outcome::Recalled,
            () = staged => tokio::select! {
                biased;
                () = cancel.cancelled() => Outcome::Cancelled,
                () = sleep(self.takes) => Outcome::Measured(Box::new(measurement(&spec))),
            },
        };
        if matches!(outcome, Outcome::Measured(_)) {
            self.notes.with(&self.id, |note| note.finished += 1);
        }
        self.story.tell(format_args!("{} ended {} under {token}", self.id, lease.task));
        self.notes.with(&self.id, |note| note.ended = Some(Instant::now()));
        self.tell(Event::Finished(lease, outcome, String::new())).await;
    }

    /// Waits until the blobs are here.
    async fn stage(&self, lease: &edgeprof_worker::spec::LeaseRef, spec: &Spec) {
        let mut arrivals = self.blobs.arrivals();
        let mut asked = Vec::new();
        loop {
            let needs = [spec.firmware.digest, spec.image.digest];
            let missing: Vec<_> = needs.into_iter().filter(|digest| !self.blobs.has(digest)).collect();
            if missing.is_empty() {
                return;
            }
            if missing != asked {
                self.tell(Event::Needs(lease.clone(), missing.clone())).await;
                asked = missing;
            }
            if arrivals.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Figures that contradict nothing.
fn measurement(spec: &Spec) -> v1::Measurement {
    let sample = v1::Sample {
        counter: "instructions".into(),
        load: 1,
        prefill: vec![1],
        prefill_tokens: vec![spec.n_prompt()],
        decode: Vec::new(),
    };
    v1::Measurement {
        provenance: "emulated".into(),
        firmware: Some(v1::RunFirmware {
            digest: spec.loaded.map(|digest| digest.to_string()).unwrap_or_default(),
            version: "0.1.0".into(),
            compiler: None,
        }),
        engine_version: "0.1.0".into(),
        samples: vec![sample; spec.repetitions as usize],
        output_tokens: vec![1],
        stop_reason: "length".into(),
        memory: Some(v1::Memory { arena: 1, method: "played".into(), ..Default::default() }),
        ..Default::default()
    }
}
