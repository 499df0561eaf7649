//! What Prometheus finds: metrics in the OpenMetrics text format, with exemplars.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        InstrumentKind, ManualReader, Pipeline, Temporality,
        data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics},
        reader::MetricReader,
    },
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use super::metrics::{
    HISTOGRAMS,
    table::{ALL, Instrument},
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What was counted and observed, read when somebody scrapes.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: std::sync::Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut all = ResourceMetrics::default();
        // After the end there is nothing to be told.
        if self.0.collect(&mut all).is_err() {
            return Ok(());
        }
        for metric in all.scope_metrics().flat_map(|scope| scope.metrics()) {
            let Some(of) = ALL.iter().find(|of| of.name == metric.name()) else { continue };
            write(of, metric, &mut encoder)?;
        }
        Ok(())
    }
}

/// Histograms are not among them: those with exemplars are in the registry.
fn write(of: &Instrument, metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (name, unit) = (of.name.replace('.', "_"), unit(of));
    let label =
        |point: &opentelemetry::KeyValue| (point.key.to_string().replace('.', "_"), point.value.to_string());
    match metric.data() {
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            let mut encoder = encoder.encode_descriptor(&name, of.what, unit.as_ref(), MetricType::Gauge)?;
            for point in gauge.data_points() {
                let labels: Vec<_> = point.attributes().map(label).collect();
                encoder.encode_family(&labels)?.encode_gauge(&point.value())?;
            }
        }
        AggregatedMetrics::F64(MetricData::Sum(sum)) => {
            let mut encoder =
                encoder.encode_descriptor(&name, of.what, unit.as_ref(), MetricType::Counter)?;
            for point in sum.data_points() {
                let labels: Vec<_> = point.attributes().map(label).collect();
                encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&point.value(), None)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn unit(of: &Instrument) -> Option<Unit> {
    match of.suffix() {
        "" => None,
        suffix => Some(Unit::Other(suffix.to_owned())),
    }
}

pub(super) fn registry(reader: Reader) -> Registry {
    let mut registry = Registry::default();
    for (of, family) in HISTOGRAMS.values() {
        let (name, what) = (of.name.replace('.', "_"), of.what.trim_end_matches('.'));
        match unit(of) {
            Some(unit) => registry.register_with_unit(name, what, unit, family.clone()),
            None => registry.register(name, what, family.clone()),
        }
    }
    registry.register_collector(Box::new(reader));
    registry
}

/// Listens, and from then on answers for as long as the runtime lives. Gives the address.
///
/// # Errors
/// When the address is taken, or is not this machine's.
pub(super) fn serve(listen: SocketAddr, reader: Reader) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let registry = Arc::new(registry(reader));
    let metrics = move || {
        let registry = registry.clone();
        async move {
            let mut text = String::new();
            match encode(&mut text, &registry) {
                Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
                Err(error) => {
                    (axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
                }
            }
        }
    };
    let router = Router::new().route("/metrics", get(metrics)).route("/healthz", get(|| async { "ok\n" }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::*;
    use crate::telemetry::{
        metrics::{self, Histogram, observe, table},
        trace,
    };

    /// One process, one provider: what is asked of the whole is asked here.
    #[test]
    fn what_is_recorded_is_scraped_with_its_unit_and_the_trace_that_it_is_of() {
        let reader = Reader::default();
        let provider = SdkMeterProvider::builder().with_reader(reader.clone()).build();
        opentelemetry::global::set_meter_provider(provider);
        metrics::switch_on();
        let trace = trace::from_text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        Histogram::new(&table::DISPATCH).record(0.003, &[], trace.as_ref());
        Histogram::new(&table::RPC).record(
            0.2,
            &[("rpc.method", "a/b"), ("rpc.response.status_code", "OK")],
            None,
        );
        metrics::Counter::new(&table::ATTEMPTS).add(2.0, &[("kind", "k"), ("outcome", "lost")]);
        observe(&table::MEMORY, |seen| seen.is(4096.0, &[]));
        let mut text = String::new();
        encode(&mut text, &registry(reader)).unwrap();
        for line in [
            "# TYPE edgeprof_dispatch_duration_seconds histogram",
            "# UNIT edgeprof_dispatch_duration_seconds seconds",
            "edgeprof_dispatch_duration_seconds_count 1",
            "edgeprof_dispatch_duration_seconds_bucket{le=\"0.005\"} 1 # \
             {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 0.003",
            "edgeprof_attempts_total{kind=\"k\",outcome=\"lost\"} 2.0",
            "process_memory_usage_bytes 4096.0",
            "rpc_server_call_duration_seconds_bucket{le=\"+Inf\",rpc_method=\"a/b\",rpc_response_status_code=\"OK\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
