//! Telemetry: log lines on standard error, always; traces, metrics and logs to a collector over OTLP, and metrics
//! for Prometheus, where that is configured.
//!
//! A collector never slows the program: what waits for it is bounded, what does not fit or does not get there is
//! dropped and counted, and the end of the process waits for at most [`LAST_CALL`].

mod collector;
mod flow;
mod log;
pub mod metrics;
mod process;
pub mod rpc;
mod scrape;
mod settings;
pub mod trace;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use opentelemetry::{InstrumentationScope, KeyValue, global};
use opentelemetry_otlp::{LogExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    logs::{BatchLogProcessor, SdkLoggerProvider},
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{BatchSpanProcessor, SpanProcessor},
};

pub use log::LogFormat;
pub use settings::{KEYS, Places, Ratio, Settings};

use collector::{Exporters, exporters};
use flow::Counted;
use trace::{SINK, Sink};

use crate::tls::Untrusted;

/// How long the end of the process waits for the collector.
pub const LAST_CALL: Duration = Duration::from_secs(2);

/// How long the collector may take for one delivery.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Between two deliveries of spans and log lines, if there are not enough of them for one before.
const DELAY: Duration = Duration::from_secs(1);

/// Spans, or log lines, of one delivery.
const BATCH: usize = 512;

/// Why telemetry cannot be had as configured.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The collector's address.
    #[error(
        "telemetry cannot go to {endpoint:?}: {what}; give otlp_endpoint as http://HOST:PORT or https://HOST:PORT"
    )]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        what: String,
    },
    /// The collector is to be spoken to over TLS.
    #[error("telemetry cannot go to {endpoint}: {why}; {}", why.hint)]
    Tls {
        /// As configured.
        endpoint: String,
        /// What keeps us from that.
        why: Untrusted,
    },
    /// The address of the metrics.
    #[error("cannot serve metrics on {address}: {source}; give another metrics_listen, or leave it out")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// What runs in the background.
#[derive(Debug, Default)]
pub struct Telemetry {
    meters: Option<SdkMeterProvider>,
    logs: Option<SdkLoggerProvider>,
    /// Where Prometheus finds metrics.
    pub scraped_at: Option<SocketAddr>,
}

/// Starts logging, on standard error in the shape of `lines` or not there, and what else is configured. To be called within a runtime, before anything is served.
///
/// # Errors
/// When the collector's address is none, or that of the metrics is taken.
pub fn start(
    program: &'static str,
    lines: Option<LogFormat>,
    settings: &Settings,
) -> Result<Telemetry, TelemetryError> {
    let settings = settings.clone().or_env(|name| std::env::var(name).ok());
    let resource = resource(program);
    let mut telemetry = Telemetry::default();
    let mut meters = SdkMeterProvider::builder().with_resource(resource.clone());
    if let Some(endpoint) = &settings.otlp_endpoint {
        let Exporters { spans, logs, metrics } = exporters(endpoint, &settings)?;
        telemetry.logs = Some(logger(logs, &resource, settings.queue.count()));
        meters =
            meters.with_reader(PeriodicReader::builder(metrics).with_interval(settings.interval).build());
        // A second start in one process keeps the first.
        let _ = SINK.set(sink(spans, &resource, &settings));
    }
    log::start(lines, telemetry.logs.as_ref());
    let scraped = settings.metrics_listen.map(|listen| (listen, scrape::Reader::default()));
    if let Some((_, reader)) = &scraped {
        meters = meters.with_reader(reader.clone());
    }
    if settings.otlp_endpoint.is_some() || scraped.is_some() {
        let provider = meters.build();
        global::set_meter_provider(provider.clone());
        telemetry.meters = Some(provider);
        metrics::switch_on();
        process::watch(&tokio::runtime::Handle::current());
    }
    if let Some((listen, reader)) = scraped {
        let listening = scrape::serve(listen, reader);
        let address = listening.map_err(|source| TelemetryError::Listen { address: listen, source })?;
        tracing::info!(%address, "metrics are served");
        telemetry.scraped_at = Some(address);
    }
    if let Some(endpoint) = &settings.otlp_endpoint {
        tracing::info!(endpoint, ratio = f64::from(settings.sample_ratio), "telemetry is sent");
    }
    Ok(telemetry)
}

impl Telemetry {
    /// Sends what waits, as far as the collector takes it within [`LAST_CALL`].
    pub async fn stop(self) {
        // Each waits on its own thread; those that hang end with the process.
        let Self { meters, logs, .. } = self;
        let stop = move || {
            let (done, ended) = mpsc::channel();
            let flush = |work: Box<dyn FnOnce() + Send>| {
                let done = done.clone();
                std::thread::spawn(move || {
                    work();
                    let _ = done.send(());
                });
            };
            flush(Box::new(|| drop(SINK.get().map(|sink| sink.processor.shutdown_with_timeout(LAST_CALL)))));
            flush(Box::new(|| drop(meters.map(|meters| meters.shutdown_with_timeout(LAST_CALL)))));
            flush(Box::new(|| drop(logs.map(|logs| logs.shutdown_with_timeout(LAST_CALL)))));
            drop(done);
            let until = Instant::now() + LAST_CALL;
            while ended.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
        };
        let _ = tokio::task::spawn_blocking(stop).await;
    }
}

/// Which process this is.
fn resource(program: &'static str) -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let life = getrandom::u64().unwrap_or_default();
    // Attributes that the environment names come with the builder.
    Resource::builder()
        .with_service_name(program)
        .with_attributes([
            KeyValue::new("service.namespace", "edgeprof"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", format!("{life:016x}")),
            KeyValue::new("host.name", host.trim().to_owned()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ])
        .build()
}

/// The library's queue is larger than what we let in, so that nothing is dropped there without being counted.
fn sink(exporter: Counted<SpanExporter>, resource: &Resource, settings: &Settings) -> Sink {
    use opentelemetry_sdk::trace::BatchConfigBuilder;
    let places = settings.queue.count();
    exporter.flow.limit(places);
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(places + 2 * BATCH)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY);
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build();
    processor.set_resource(resource);
    let scope = InstrumentationScope::builder("edgeprof").with_version(env!("CARGO_PKG_VERSION")).build();
    Sink { processor, ratio: settings.sample_ratio.into(), scope }
}

fn logger(exporter: Counted<LogExporter>, resource: &Resource, queue: usize) -> SdkLoggerProvider {
    use opentelemetry_sdk::logs::BatchConfigBuilder;
    exporter.flow.limit(queue);
    let flow = Arc::clone(&exporter.flow);
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(queue + 2 * BATCH)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY);
    let next = BatchLogProcessor::builder(exporter).with_batch_config(config.build()).build();
    SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_log_processor(Counted { next, flow })
        .build()
}
