//! Calls, none of which outlives its connection.
//!
//! A request that is handed to a connection at the moment of its end can be lost without an error: hyper hands it over
//! in a tokio channel, and what is sent into one while its receiver is dropped may stay there until the last sender
//! has gone (as in tokio issue 7714). The next request on the channel would let go of that sender; a lone one waits
//! for ever. One that is lost while other calls still end on the connection waits for those too.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tonic::{
    Status,
    body::Body,
    codegen::{Service, StdError, http},
};

use crate::watched::Watch;

/// How long a call waits where there is no connection. Whoever has a request dials at once.
const FORSAKEN: Duration = Duration::from_secs(2);

/// A gRPC channel that dials again by itself. Cheap to clone; clones share its connection.
pub type Channel = Answered<tonic::transport::Channel>;

/// Calls that fail where there is no connection, nor one in the making, that could bring their answer.
#[derive(Clone, Debug)]
pub struct Answered<S> {
    calls: S,
    open: Open,
}

impl<S> Answered<S> {
    pub(super) const fn new(calls: S, open: Open) -> Self {
        Self { calls, open }
    }
}

impl<S> Service<http::Request<Body>> for Answered<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Error: Into<StdError>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.calls.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answer, open) = (self.calls.call(request), self.open.clone());
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = answer => answer.map_err(Into::into),
                () = open.forsaken() => {
                    Err(Status::unavailable("the connection ended, and the request with it").into())
                }
            }
        })
    }
}

/// How many connections of a channel there are, with those in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Open(Arc<watch::Sender<usize>>);

impl Open {
    /// One more, until it is dropped.
    pub(super) fn one(&self) -> Opened {
        self.0.send_modify(|open| *open += 1);
        Opened(self.clone())
    }

    /// Comes back once there was none for a while.
    async fn forsaken(&self) {
        let mut open = self.0.subscribe();
        while open.wait_for(|open| *open == 0).await.is_ok()
            && timeout(FORSAKEN, open.wait_for(|open| *open > 0)).await.is_ok()
        {}
    }
}

/// A connection, or one in the making.
#[derive(Debug)]
pub(super) struct Opened(Open);

impl Watch for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Pending, pending};

    use tokio::time::{Instant, sleep};
    use tonic::Code;

    use super::*;

    /// Loses each request.
    struct Loses;

    impl Service<http::Request<Body>> for Loses {
        type Response = http::Response<Body>;
        type Error = StdError;
        type Future = Pending<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_lost_with_its_connection_is_given_up_once_nobody_dials() {
        let open = Open::default();
        let mut calls = Answered::new(Loses, open.clone());
        let (start, connection) = (Instant::now(), open.one());
        let ends = async {
            sleep(Duration::from_secs(3600)).await;
            drop(connection);
            sleep(FORSAKEN / 2).await;
            let dials = open.one();
            sleep(Duration::from_secs(60)).await;
            drop(dials);
        };
        let (answer, ()) = tokio::join!(calls.call(http::Request::new(Body::empty())), ends);
        let status = Status::from_error(answer.unwrap_err());
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "the connection ended, and the request with it")
        );
        let waited = start.elapsed().checked_sub(Duration::from_secs(3660) + FORSAKEN * 3 / 2).unwrap();
        assert!(
            waited < Duration::from_millis(10),
            "an answer may take as long as its connection lasts: {waited:?}"
        );
    }
}
