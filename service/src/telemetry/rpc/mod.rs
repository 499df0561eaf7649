//! Traces over gRPC: the client's side puts the context of the work at hand into the request, the server's side
//! takes it out, and measures every call.

mod answer;

use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::Instant,
};

use tonic::{Request, Status, codegen::http, service::Interceptor};
use tower_layer::Layer;
use tower_service::Service;

pub use answer::Answer;

use super::{
    metrics::{self, Histogram, table::RPC},
    trace::{self, FutureExt, Kind, Span, TRACEPARENT},
};

/// A method that is not ours, as OpenTelemetry calls it.
const OTHER: &str = "_OTHER";

/// The attribute that says how a call ended.
const STATUS: &str = "rpc.response.status_code";

static CALLS: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(&RPC));

/// Adds the context of the work at hand to every request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inject;

impl Interceptor for Inject {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(context) = trace::current()
            && let Ok(text) = trace::to_text(&context).parse()
        {
            request.metadata_mut().insert(TRACEPARENT, text);
        }
        Ok(request)
    }
}

/// Makes a span of every call, within the caller's trace or one of its own, and measures it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traced;

impl<S> Layer<S> for Traced {
    type Service = TracedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TracedService { inner }
    }
}

/// A service whose calls are traced.
#[derive(Clone, Debug)]
pub struct TracedService<S> {
    inner: S,
}

type Answering<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, B, R> Service<http::Request<B>> for TracedService<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = http::Response<Answer<R>>;
    type Error = S::Error;
    type Future = Answering<Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        // Others' services, such as health, are asked all the time and say nothing.
        let method = request.uri().path().trim_start_matches('/');
        if !method.starts_with("edgeprof.") || !(trace::is_on() || metrics::is_on()) {
            let answer = self.inner.call(request);
            return Box::pin(async { Ok(answer.await?.map(|body| Answer::new(body, None))) });
        }
        let method = method.to_owned();
        let caller =
            request.headers().get(TRACEPARENT).and_then(|text| trace::from_text(text.to_str().ok()?));
        let span = match &caller {
            Some(caller) => Span::child(caller, method.clone()),
            None => Span::root(method.clone()),
        };
        let span = span.with_kind(Kind::Server).with("rpc.system.name", "grpc");
        let (began, context) = (Instant::now(), span.context().clone());
        let answer = self.inner.call(request).with_context(trace::within(&context));
        Box::pin(async move {
            let answer = answer.await;
            // What fails at once says so in its head; else it is said in trailers, behind the answer.
            let at_once = match &answer {
                Ok(response) => code(response.headers()),
                Err(_) => Some("UNKNOWN"),
            };
            // Anybody can ask for methods that there are not, and each would have figures of its own.
            let known = at_once != Some("UNIMPLEMENTED");
            let (method, span) = if known { (method, span) } else { (OTHER.to_owned(), span.named(OTHER)) };
            let labels = [("rpc.method", method.as_str()), (STATUS, at_once.unwrap_or("OK"))];
            CALLS.took(began.elapsed(), &labels, Some(&context));
            let span = span.with("rpc.method", method);
            let call = match at_once {
                Some(code) => {
                    ended(span, code);
                    None
                }
                None => Some(span),
            };
            Ok(answer?.map(|body| Answer::new(body, call)))
        })
    }
}

/// A call is over.
fn ended(call: Span, code: &'static str) {
    let call = call.with(STATUS, code);
    if code == "OK" { call } else { call.failed(code) }.end();
}

/// What the head of an answer, or its trailers, say of how it ended, if anything.
fn code(headers: &http::HeaderMap) -> Option<&'static str> {
    use tonic::Code;
    let code = match Code::from_bytes(headers.get("grpc-status")?.as_bytes()) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    };
    Some(code)
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::telemetry::scrape::{Reader, registry};

    /// Answers one method, with the trace that it is called in.
    struct Fake;

    impl Service<http::Request<()>> for Fake {
        type Response = http::Response<()>;
        type Error = std::convert::Infallible;
        type Future = Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<()>) -> Self::Future {
            let code = if request.uri().path().ends_with("/Known") { "0" } else { "12" };
            ready(Ok(http::Response::builder().header("grpc-status", code).body(()).unwrap()))
        }
    }

    #[tokio::test]
    async fn calls_are_measured_by_method_and_those_that_do_not_exist_as_one() {
        metrics::switch_on();
        let mut service = Traced.layer(Fake);
        for path in
            ["/edgeprof.v1.Profiler/Known", "/edgeprof.v1.Profiler/A1", "/edgeprof.B/2", "/grpc.Health/Check"]
        {
            let request =
                http::Request::builder().uri(path).header(TRACEPARENT, "nonsense").body(()).unwrap();
            service.call(request).await.unwrap();
        }
        let mut text = String::new();
        encode(&mut text, &registry(Reader::default())).unwrap();
        let counts: Vec<_> =
            text.lines().filter(|l| l.starts_with("rpc_server_call_duration_seconds_count")).collect();
        assert_eq!(counts.len(), 2, "{counts:?}");
        let of = |method: &str| {
            counts.iter().find(|line| line.contains(method)).and_then(|line| line.split(' ').nth(1))
        };
        assert_eq!((of("edgeprof.v1.Profiler/Known\""), of("_OTHER")), (Some("1"), Some("2")));
    }

    #[tokio::test]
    async fn the_context_of_the_work_at_hand_goes_with_a_request() {
        let injected = || Inject.call(Request::new(())).unwrap().metadata().get(TRACEPARENT).cloned();
        assert_eq!(injected(), None);
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = trace::within(&trace::from_text(text).unwrap());
        let found = async { injected() }.with_context(context).await;
        assert_eq!(found.unwrap().to_str().unwrap(), text);
    }
}
