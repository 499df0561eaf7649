//! Getting here what an attempt needs, for the one that is next on a board while another runs.

use std::sync::Arc;

use edgeprof_common::{BoardId, Digest, Token};
use tokio::{sync::mpsc, time::timeout};

use super::{
    actor::Event,
    error::BoardError,
    queue::{Attempt, Queue},
    spare::{Recipe, Spare},
};
use crate::{
    blobs::{Blobs, Pin},
    config::Limits,
    spec::LeaseRef,
};

/// What a board needs on disk before it can run an attempt. While this lives it stays there.
#[derive(Debug)]
pub struct Staged {
    /// The firmware's file.
    pub firmware: Pin,
    /// The board image.
    pub image: Pin,
}

/// Asks for blobs in the name of a board, and tells the hub.
#[derive(Debug)]
pub struct Stager {
    /// The board.
    pub id: BoardId,
    /// The cache.
    pub blobs: Blobs,
    /// How long things may take.
    pub limits: Limits,
    /// To the hub.
    pub events: mpsc::Sender<(BoardId, Event)>,
    /// What was staged ahead, and for whom.
    ahead: Option<(Token, Staged)>,
    /// The emulator for it, where it needs another.
    pub(super) spare: Option<Spare>,
}

impl Stager {
    /// Nothing is staged.
    pub fn new(id: BoardId, blobs: Blobs, limits: Limits, events: mpsc::Sender<(BoardId, Event)>) -> Self {
        Self { id, blobs, limits, events, ahead: None, spare: None }
    }

    /// Tells the hub.
    pub async fn tell(&self, event: Event) {
        // The hub outlives the boards; where it is gone the worker is stopping.
        let _ = self.events.send((self.id.clone(), event)).await;
    }

    /// Tells the hub if it has time: it can do without.
    pub fn report(&self, lease: &LeaseRef, phase: &'static str, done: u64, total: u64) {
        let event = Event::Progress(lease.clone(), phase, done, total);
        let _ = self.events.try_send((self.id.clone(), event));
    }

    /// Waits until firmware and image are here.
    ///
    /// # Errors
    /// When they do not come, or cannot be kept.
    pub async fn stage(&mut self, attempt: &Attempt) -> Result<Staged, BoardError> {
        match self.ahead.take() {
            Some((token, staged)) if token == attempt.lease.token => Ok(staged),
            _ => self.fetch(attempt).await,
        }
    }

    /// Stages whatever is first in `queue`, for as long as it is polled, and starts its emulator.
    pub async fn ahead(&mut self, queue: &Queue, spare: Option<&Recipe>) {
        loop {
            let next: Arc<Attempt> = queue.first().await;
            let staged = tokio::select! {
                () = next.cancel.cancelled() => continue,
                staged = self.fetch(&next) => staged,
            };
            // A failure is told when its turn comes: by then it may be another.
            if let Ok(staged) = staged {
                let pins =
                    self.blobs.pin(&staged.firmware.digest()).zip(self.blobs.pin(&staged.image.digest()));
                self.spare = spare
                    .zip(pins)
                    .and_then(|(recipe, (firmware, image))| recipe.start(Staged { firmware, image }));
                self.ahead = Some((next.lease.token, staged));
            }
            next.cancel.cancelled().await;
            (self.ahead, self.spare) = (None, None);
        }
    }

    /// What is here already is pinned at once: the other's arrival must not push it out.
    async fn fetch(&self, attempt: &Attempt) -> Result<Staged, BoardError> {
        let (lease, spec) = (&attempt.lease, &attempt.spec);
        let mut arrivals = self.blobs.arrivals();
        let (mut firmware, mut image) = (None, None);
        let mut asked: Vec<Digest> = Vec::new();
        let after = self.limits.blob_timeout;
        loop {
            firmware = firmware.or_else(|| self.blobs.pin(&spec.firmware));
            image = image.or_else(|| self.blobs.pin(&spec.image));
            let mut missing = Vec::new();
            match (firmware, image) {
                (Some(firmware), Some(image)) => return Ok(Staged { firmware, image }),
                (f, i) => {
                    missing.extend(f.is_none().then_some(spec.firmware));
                    missing.extend(i.is_none().then_some(spec.image));
                    (firmware, image) = (f, i);
                }
            }
            if asked.is_empty() {
                // Of earlier attempts.
                missing.iter().for_each(|digest| self.blobs.forgive(digest));
            } else if let Some(why) = missing.iter().find_map(|digest| self.blobs.failure(digest)) {
                return Err(BoardError::BlobLost(why));
            }
            if missing != asked {
                self.report(lease, "stage", 2 - missing.len() as u64, 2);
                self.tell(Event::Needs(lease.clone(), missing.clone())).await;
                asked.clone_from(&missing);
            }
            if timeout(after, arrivals.changed()).await.is_err() {
                let digest = missing.first().unwrap_or(&spec.image).to_string();
                return Err(BoardError::BlobMissing { digest, after });
            }
        }
    }
}
