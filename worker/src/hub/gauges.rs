//! What the hub shows of itself, looked at by whoever wants metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use edgeprof_service::telemetry::metrics::{observe, table};

use crate::blobs::Blobs;

/// As of the last heartbeat.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    outbox: AtomicUsize,
    session: AtomicBool,
}

impl Gauges {
    /// Observed from now on.
    pub(super) fn observed(limit: usize, blobs: &Blobs) -> Arc<Self> {
        let gauges = Arc::new(Self::default());
        let (seen, cache) = (gauges.clone(), blobs.clone());
        observe(&table::OUTBOX_DEPTH, move |is| is.is(seen.outbox.load(Relaxed) as f64, &[]));
        observe(&table::OUTBOX_LIMIT, move |is| is.is(limit as f64, &[]));
        let seen = gauges.clone();
        observe(&table::SESSIONS, move |is| is.is(f64::from(u8::from(seen.session.load(Relaxed))), &[]));
        observe(&table::CACHE_SIZE, move |is| is.is(cache.bytes() as f64, &[]));
        gauges
    }

    pub(super) fn set(&self, outbox: usize, session: bool) {
        self.outbox.store(outbox, Relaxed);
        self.session.store(session, Relaxed);
    }
}
