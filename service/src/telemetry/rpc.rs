//! Traces over gRPC: the client's side puts the context of the work at hand into the request, the server's side
//! takes it out, and measures every call.

use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::Instant,
};

use tonic::{Request, Status, codegen::http, service::Interceptor};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    metrics::{self, Histogram, table::RPC},
    trace::{self, FutureExt, Kind, Span, TRACEPARENT},
};

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

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, B, R> Service<http::Request<B>> for TracedService<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        // Others' services, such as health, are asked all the time and say nothing.
        let method = request.uri().path().trim_start_matches('/');
        if !method.starts_with("edgeprof.") || !(trace::is_on() || metrics::is_on()) {
            return Box::pin(self.inner.call(request));
        }
        let method = method.to_owned();
        let caller =
            request.headers().get(TRACEPARENT).and_then(|text| trace::from_text(text.to_str().ok()?));
        let span = match &caller {
            Some(caller) => Span::child(caller, method.clone()),
            None => Span::root(method.clone()),
        };
        let span =
            span.with_kind(Kind::Server).with("rpc.system.name", "grpc").with("rpc.method", method.clone());
        let (began, context) = (Instant::now(), span.context().clone());
        let answer = self.inner.call(request).with_context(trace::within(&context));
        Box::pin(async move {
            let answer = answer.await;
            let code = match &answer {
                Ok(response) => code(response.headers()),
                Err(_) => "UNKNOWN",
            };
            let labels = [("rpc.method", method.as_str()), ("rpc.response.status_code", code)];
            CALLS.took(began.elapsed(), &labels, Some(&context));
            let span = span.with("rpc.response.status_code", code);
            if code == "OK" { span } else { span.failed(code) }.end();
            answer
        })
    }
}

/// An answer that failed at once says so in its head; what else there is comes in trailers, behind the answer.
fn code(headers: &http::HeaderMap) -> &'static str {
    use tonic::Code;
    let code = headers.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    match code {
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
    }
}
