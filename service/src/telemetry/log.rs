//! Log lines on standard error, and the same to a collector.

use std::io::IsTerminal;

use clap::ValueEnum;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, fmt, prelude::*};

/// Shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `EDGEPROF_LOG` filters as tracing's `EnvFilter` does; the default is `info` for
/// edgeprof's own crates and `warn` for everything else. A collector gets edgeprof's own lines alone: what the
/// exporter's libraries say of a collector must not go there as well.
pub(super) fn start(lines: Option<LogFormat>, collector: Option<&SdkLoggerProvider>) {
    let filter = EnvFilter::try_from_env("EDGEPROF_LOG").unwrap_or_else(|_| {
        EnvFilter::new(
            "warn,edgeprof_coordinator=info,edgeprof_worker=info,edgeprof_service=info,edgeprof_scheduler=info,\
             edgeprof=info",
        )
    });
    let own = filter_fn(|metadata| metadata.target().starts_with("edgeprof"));
    let bridge = collector.map(|provider| OpenTelemetryTracingBridge::new(provider).with_filter(own));
    let registry = tracing_subscriber::registry().with(filter).with(bridge);
    let outcome = match lines {
        None => registry.try_init(),
        Some(LogFormat::Text) => {
            let colour = std::io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colour))
                .try_init()
        }
        Some(LogFormat::Json) => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    // A second start in one process (a test that hosts two daemons) keeps the first subscriber.
    drop(outcome);
}
