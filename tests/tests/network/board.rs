//! Boards that take their time and measure nothing, behind the worker's real hub.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use edgeprof_common::{BoardHealth, BoardId, Token};
use edgeprof_proto::v1;
use edgeprof_worker::{
    board::{
        actor::{Event, Inbox, Outcome},
        queue::Attempt,
        stage::Stager,
    },
    spec::Spec,
};
use tokio::time::{Instant, sleep};

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
    /// How long a start takes: each board of a worker has its own.
    pub(crate) start: Duration,
    /// How long a run takes.
    pub(crate) takes: Duration,
    /// Brings blobs, and tells the hub.
    pub(crate) stager: Stager,
    /// From the hub.
    pub(crate) inbox: Inbox,
    /// What is noted of it.
    pub(crate) notes: Notes,
    /// What happens.
    pub(crate) story: Story,
}

impl Board {
    /// Serves attempts until the hub is gone. Nobody asks here how a board is.
    pub(crate) async fn run(mut self) {
        self.notes.with(&self.stager.id, |note| note.ended = None);
        self.stager.tell(Event::Health(BoardHealth::Good, None)).await;
        loop {
            let attempt = self.inbox.queue.first().await;
            self.attempt(&attempt).await;
        }
    }

    async fn attempt(&mut self, attempt: &Attempt) {
        let (lease, id) = (&attempt.lease, self.stager.id.clone());
        let ready = async {
            let staged = self.stager.stage(attempt).await;
            self.inbox.trusted.granted().await;
            // A watch wakes who waits for it in a random order, which would not replay.
            sleep(self.start).await;
            staged
        };
        let staged = tokio::select! {
            biased;
            () = attempt.cancel.cancelled() => return,
            staged = ready => staged,
        };
        if !self.inbox.queue.start(lease.token) {
            return;
        }
        self.story.tell(format_args!("{id} takes {} under {}", lease.task, lease.token));
        self.notes.with(&id, |note| {
            note.fenced &= note.last < Some(lease.token);
            note.last = Some(lease.token);
            note.taken += 1;
            note.gap = note.gap.max(note.ended.map(|ended| ended.elapsed()));
        });
        self.stager.tell(Event::Started(lease.clone())).await;
        let run = async {
            if let Err(error) = staged {
                return Outcome::Failed(error.task_error());
            }
            sleep(self.takes).await;
            self.notes.with(&id, |note| note.finished += 1);
            Outcome::Measured(Box::new(measurement(&attempt.spec)))
        };
        let outcome = tokio::select! {
            biased;
            () = attempt.cancel.cancelled() => Outcome::Cancelled,
            outcome = run => outcome,
        };
        self.story.tell(format_args!("{id} ended {} under {}", lease.task, lease.token));
        self.notes.with(&id, |note| note.ended = Some(Instant::now()));
        self.stager.tell(Event::Finished(lease.clone(), outcome, String::new())).await;
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
