//! The way to the collector: in the clear, or over TLS.

use std::{path::PathBuf, sync::Arc};

use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
};
use tonic::transport::{Channel, Endpoint};

use super::{
    Settings, TIMEOUT, TelemetryError,
    flow::{Counted, FLOWS},
};
use crate::{
    channel::Over,
    tls::{Named, Untrusted},
};

pub(super) struct Exporters {
    pub(super) spans: Counted<SpanExporter>,
    pub(super) logs: Counted<LogExporter>,
    pub(super) metrics: Counted<MetricExporter>,
}

/// All three over one connection, which is not dialled before there is something to send.
pub(super) fn exporters(endpoint: &str, settings: &Settings) -> Result<Exporters, TelemetryError> {
    let channel = channel(endpoint, settings)?;
    let build = || -> Result<_, ExporterBuildError> {
        let [traces, logs, metrics] = &*FLOWS;
        let spans = SpanExporter::builder().with_tonic().with_channel(channel.clone());
        let lines = LogExporter::builder().with_tonic().with_channel(channel.clone());
        let values = MetricExporter::builder().with_tonic().with_channel(channel.clone());
        Ok(Exporters {
            spans: Counted { next: spans.with_timeout(TIMEOUT).build()?, flow: traces.clone() },
            logs: Counted { next: lines.with_timeout(TIMEOUT).build()?, flow: logs.clone() },
            metrics: Counted { next: values.with_timeout(TIMEOUT).build()?, flow: metrics.clone() },
        })
    };
    build()
        .map_err(|error| TelemetryError::Endpoint { endpoint: endpoint.to_owned(), what: error.to_string() })
}

fn channel(endpoint: &str, settings: &Settings) -> Result<Channel, TelemetryError> {
    let wrong = |what: String| TelemetryError::Endpoint { endpoint: endpoint.to_owned(), what };
    let dialled = Endpoint::from_shared(endpoint.to_owned()).map_err(|_| wrong("it is no address".into()))?;
    let dialled = dialled.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    let uri = dialled.uri();
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(dialled.connect_lazy()),
        (Some("https"), Some(host)) => {
            let tls = secured(host, settings)
                .map_err(|why| TelemetryError::Tls { endpoint: endpoint.to_owned(), why })?;
            Ok(dialled.connect_with_connector_lazy(Over::new(Arc::new(tls))))
        }
        (Some(other), Some(_)) => Err(wrong(format!("{other} is not spoken"))),
        _ => Err(wrong("it has no scheme".into())),
    }
}

fn secured(host: &str, settings: &Settings) -> Result<Named, Untrusted> {
    let ca = settings.otlp_ca.as_ref().ok_or_else(|| {
        Untrusted::new(
            "it is not known which authority is to have signed the collector's certificate",
            "name a file with the authority's certificate: telemetry.otlp_ca, or OTEL_EXPORTER_OTLP_CERTIFICATE",
        )
    })?;
    let own = match (&settings.otlp_cert, &settings.otlp_key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            return Err(Untrusted::new(
                "a certificate without its key, or a key without its certificate, is of no use",
                "give both telemetry.otlp_cert and telemetry.otlp_key, or neither",
            ));
        }
    };
    let own = own.map(|(cert, key): (&PathBuf, &PathBuf)| (cert.as_path(), key.as_path()));
    Named::new(ca, settings.otlp_name.as_deref().unwrap_or(host), own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(endpoint: &str, settings: Settings) -> String {
        exporters(endpoint, &settings).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn what_is_no_collector_is_named_with_the_way_out() {
        for (endpoint, word) in [
            ("", "no address"),
            ("a b", "no address"),
            ("127.0.0.1:4317", "no scheme"),
            ("collector:4317", "no scheme"),
            ("/v1/traces", "no scheme"),
            ("ftp://collector:1", "ftp is not spoken"),
            ("https://collector:4317", "telemetry.otlp_ca"),
        ] {
            let said = refused(endpoint, Settings::default());
            assert!(said.contains(word) && said.contains(endpoint), "{endpoint:?}: {said}");
        }
        let ca = || Some("/nowhere/ca.pem".into());
        let said = refused("https://c:1", Settings { otlp_ca: ca(), ..Settings::default() });
        assert!(said.contains("/nowhere/ca.pem"), "{said}");
        let half = Settings { otlp_ca: ca(), otlp_key: Some("key.pem".into()), ..Settings::default() };
        assert!(refused("https://c:1", half).contains("otlp_cert"));
    }
}
