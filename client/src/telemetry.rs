//! What a command tells a collector, if `OTEL_EXPORTER_OTLP_ENDPOINT` names one: its trace, which goes on in the
//! coordinator and its workers, a line about its end, and how long it took.

use std::{path::Path, time::Instant};

use edgeprof_service::{
    telemetry::{
        self, Settings,
        metrics::{Histogram, table},
        trace::{self, FutureExt, Kind, Span},
    },
    tls::TlsConfig,
};

use crate::{
    args::Command,
    exit::{Exit, Failure},
};

/// Runs a command within a trace of its own.
pub(crate) async fn observed(
    name: &'static str,
    certificates: Option<&Path>,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let lab = certificates.map(TlsConfig::folder).unwrap_or_default();
    let settings = Settings::from_env().within(&lab);
    if settings.otlp_endpoint.is_none() {
        return command.await;
    }
    let telemetry = telemetry::start("edgeprof", None, &settings);
    let telemetry = telemetry.map_err(|error| Failure::usage(error.to_string()))?;
    let span = Span::root(name).with_kind(Kind::Client).with("edgeprof.command", name);
    let (began, context) = (Instant::now(), span.context().clone());
    let outcome = command.with_context(trace::within(&context)).await;
    let (word, why) = match &outcome {
        Ok(Exit::Ok) => ("done", None),
        Ok(Exit::CellFailed | Exit::Problem) => ("problem", None),
        Err(failure) => ("failed", Some(failure.message())),
    };
    let labels = [("command", name), ("outcome", word)];
    Histogram::new(&table::COMMAND).took(began.elapsed(), &labels, Some(&context));
    async { tracing::info!(command = name, outcome = word, why, "command ended") }
        .with_context(trace::within(&context))
        .await;
    match why {
        Some(why) => span.failed(why),
        None => span,
    }
    .end();
    telemetry.stop().await;
    outcome
}

/// What a command's trace is called.
pub(crate) const fn name(command: &Command) -> &'static str {
    match command {
        Command::Submit { .. } => "submit",
        Command::Run { .. } => "run",
        Command::Watch { .. } => "watch",
        Command::Cancel { .. } => "cancel",
        Command::Results { .. } => "results",
        Command::Drain { .. } => "drain",
        _ => "command",
    }
}
