//! What is on its way to a collector: bounded, and what does not get there is counted.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use std::time::Duration;

/// The three flows of this process.
pub(super) static FLOWS: LazyLock<[Arc<Flow>; 3]> =
    LazyLock::new(|| ["traces", "logs", "metrics"].map(|signal| Arc::new(Flow::new(signal))));

/// One signal's way to the collector.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) signal: &'static str,
    limit: AtomicUsize,
    waiting: AtomicUsize,
    pub(super) sent: AtomicU64,
    /// Dropped because as many as may waited already.
    pub(super) full: AtomicU64,
    /// Dropped because the collector did not take them.
    pub(super) refused: AtomicU64,
    /// It was said that the collector takes nothing.
    complained: AtomicBool,
}

impl Flow {
    pub(super) const fn new(signal: &'static str) -> Self {
        Self {
            signal,
            limit: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            full: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            complained: AtomicBool::new(false),
        }
    }

    pub(super) fn limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// Whether there is room for one more, which then waits.
    pub(super) fn enter(&self) -> bool {
        let room = self.waiting.fetch_add(1, Relaxed) < self.limit.load(Relaxed);
        if !room {
            self.waiting.fetch_sub(1, Relaxed);
            self.full.fetch_add(1, Relaxed);
        }
        room
    }

    /// So many that waited have left, and what became of them.
    fn leave(&self, n: usize, outcome: OTelSdkResult) -> OTelSdkResult {
        // What waits is counted for spans and logs; metrics wait nowhere.
        let _ = self.waiting.fetch_update(Relaxed, Relaxed, |waiting| Some(waiting.saturating_sub(n)));
        let count = if outcome.is_ok() { &self.sent } else { &self.refused };
        count.fetch_add(n as u64, Relaxed);
        match &outcome {
            Ok(()) if self.complained.swap(false, Relaxed) => {
                tracing::info!(signal = self.signal, "the collector takes telemetry again");
            }
            Err(error) if !self.complained.swap(true, Relaxed) => {
                tracing::warn!(signal = self.signal, %error,
                    "the collector takes nothing; telemetry is dropped and counted until it does");
            }
            _ => {}
        }
        outcome
    }
}

/// An exporter or a processor whose items are counted in a flow.
#[derive(Debug)]
pub(super) struct Counted<T> {
    pub(super) next: T,
    pub(super) flow: Arc<Flow>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let n = batch.len();
        self.flow.leave(n, self.next.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let n = batch.iter().count();
        self.flow.leave(n, self.next.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Counted<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.flow.enter() {
            self.next.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let n = metrics.scope_metrics().map(|scope| scope.metrics().count()).sum();
        self.flow.leave(n, self.next.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.next.temporality()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn what_finds_no_room_or_no_collector_is_counted_and_room_comes_back() {
        let flow = Flow::new("traces");
        flow.limit(2);
        assert_eq!([flow.enter(), flow.enter(), flow.enter()], [true, true, false]);
        assert_eq!(flow.full.load(Relaxed), 1);
        assert!(flow.leave(2, Err(OTelSdkError::AlreadyShutdown)).is_err());
        assert_eq!((flow.refused.load(Relaxed), flow.sent.load(Relaxed)), (2, 0));
        assert!(flow.enter() && flow.leave(1, Ok(())).is_ok());
        assert_eq!(flow.sent.load(Relaxed), 1);
    }
}
