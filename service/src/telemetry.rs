//! Logging: structured lines on standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

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
/// edgeprof's own crates and `warn` for everything else.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("EDGEPROF_LOG").unwrap_or_else(|_| {
        EnvFilter::new(
            "warn,edgeprof_coordinator=info,edgeprof_worker=info,edgeprof_service=info,edgeprof_scheduler=info",
        )
    });
    let registry = tracing_subscriber::registry().with(filter);
    let outcome = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colour))
                .try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    // A second start in one process (a test that hosts two daemons) keeps the first subscriber.
    drop(outcome);
}
