//! An OTLP collector that keeps what it gets, for tests to look at.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use edgeprof_service::{
    peer::Peer,
    shutdown::Tasks,
    tls::{Connections, Door, Keeper, incoming},
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{metric::Data, number_data_point},
    resource::v1::Resource,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{Request, Response, Status, transport::Server};

/// A span, as far as tests ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The trace that it is part of.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// The id of what it is a part of; empty for the first of a trace.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// The program that made it.
    pub service: String,
    /// Which life of it.
    pub life: String,
    /// What went wrong; empty where nothing did.
    pub error: String,
}

/// One value of a counter or a gauge.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The program that it is of.
    pub service: String,
    /// The instrument.
    pub name: String,
    /// Its attributes, as `key=value`.
    pub attributes: BTreeSet<String>,
    /// The value.
    pub value: f64,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Span>,
    points: Vec<Point>,
    callers: BTreeSet<String>,
}

/// A collector in this process; it takes no log lines.
#[derive(Debug)]
pub struct Collector {
    address: String,
    kept: Taker,
    /// Its threads end with it.
    _runtime: Runtime,
}

#[derive(Clone, Debug, Default)]
struct Taker(Arc<Mutex<Kept>>);

impl Collector {
    /// Listens on some port: over TLS where there are certificates, to whoever shows one of the lab's, or none.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(keeper: Option<Keeper>) -> Self {
        let runtime = Runtime::new().expect("threads");
        let listening = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listening.expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let kept = Taker::default();
        let door = Door::new(keeper.map(Arc::new), false, &Connections::default(), Arc::default());
        let server = Server::builder()
            .add_service(TraceServiceServer::new(kept.clone()))
            .add_service(MetricsServiceServer::new(kept.clone()));
        let _within = runtime.enter();
        let tasks = Tasks::new();
        let incoming = incoming(listener, door, &tasks);
        runtime.spawn(async move {
            let _tasks = tasks;
            server.serve_with_incoming(incoming).await
        });
        drop(_within);
        Self { address, kept, _runtime: runtime }
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All spans so far, in the order in which they came.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().spans.clone()
    }

    /// The last value of this program's instrument with these attributes, among others.
    pub fn last(&self, service: &str, name: &str, attributes: &[&str]) -> Option<f64> {
        let kept = self.kept.lock();
        let is = |point: &&Point| {
            point.service == service
                && point.name == name
                && attributes.iter().all(|attribute| point.attributes.contains(*attribute))
        };
        kept.points.iter().rev().find(is).map(|point| point.value)
    }

    /// Who has sent something, by certificate; `nobody` without one.
    pub fn callers(&self) -> BTreeSet<String> {
        self.kept.lock().callers.clone()
    }
}

impl Taker {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called<T>(&self, request: &Request<T>) {
        let identity = request.extensions().get::<Peer>().and_then(|peer| peer.identity.as_ref());
        let caller = identity.map_or_else(|| "nobody".to_owned(), ToString::to_string);
        self.lock().callers.insert(caller);
    }
}

#[tonic::async_trait]
impl TraceService for Taker {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.called(&request);
        for of in request.into_inner().resource_spans {
            let (service, life) = (
                text(of.resource.as_ref(), "service.name"),
                text(of.resource.as_ref(), "service.instance.id"),
            );
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                service: service.clone(),
                life: life.clone(),
                error: span.status.map(|status| status.message).unwrap_or_default(),
            });
            self.lock().spans.extend(spans);
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Taker {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.called(&request);
        for of in request.into_inner().resource_metrics {
            let service = text(of.resource.as_ref(), "service.name");
            for metric in of.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let points = match metric.data {
                    Some(Data::Gauge(gauge)) => gauge.data_points,
                    Some(Data::Sum(sum)) => sum.data_points,
                    _ => continue,
                };
                let points = points.into_iter().filter_map(|point| {
                    let Some(number_data_point::Value::AsDouble(value)) = point.value else { return None };
                    let attributes = point.attributes.iter();
                    let attributes = attributes.map(|one| format!("{}={}", one.key, said(one))).collect();
                    Some(Point { service: service.clone(), name: metric.name.clone(), attributes, value })
                });
                self.lock().points.extend(points);
            }
        }
        Ok(Response::new(Default::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(resource: Option<&Resource>, key: &str) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    attributes.iter().find(|one| one.key == key).map(said).unwrap_or_default()
}

fn said(one: &KeyValue) -> String {
    match one.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}
