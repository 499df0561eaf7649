//! The layer before every service: whoever may not is answered here.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use edgeprof_service::peer::Peer;
use http_body::{Frame, SizeHint};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes, Service,
        http::{HeaderMap, Request, Response, header::AUTHORIZATION},
    },
    transport::server::TcpConnectInfo,
};

use super::{Access, tokens::Live};
use crate::clock;

/// Puts a [`Guard`] before a service.
#[derive(Clone, Debug)]
pub struct GuardLayer {
    access: Arc<Access>,
}

impl GuardLayer {
    /// A layer that goes by `access`.
    #[must_use]
    pub const fn new(access: Arc<Access>) -> Self {
        Self { access }
    }
}

impl<S> tower_layer::Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { access: self.access.clone(), inner }
    }
}

/// Lets in who may, with a [`Caller`](super::Caller) in the request's extensions.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    access: Arc<Access>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Nobody behind this sees it.
        let authorization = request.headers_mut().remove(AUTHORIZATION);
        let peer = peer(&request);
        let shown = authorization.as_ref().map(|value| value.as_bytes());
        match self.access.admit(request.uri().path(), peer.as_ref(), shown) {
            Err(refusal) => {
                let answer = refusal.status().into_http();
                Box::pin(async move { Ok(answer) })
            }
            Ok(admitted) => {
                if let Some(caller) = admitted.caller {
                    request.extensions_mut().insert(caller);
                }
                let answer = self.inner.call(request);
                match admitted.token {
                    None => Box::pin(answer),
                    Some(token) => Box::pin(async move {
                        Ok(answer.await?.map(|body| {
                            Body::new(WhileGood { body, over: Box::pin(over(token)), ended: false })
                        }))
                    }),
                }
            }
        }
    }
}

/// The other end of the connection.
fn peer(request: &Request<Body>) -> Option<Peer> {
    let tcp = || request.extensions().get::<TcpConnectInfo>()?.remote_addr();
    let known = request.extensions().get::<Peer>().cloned();
    known.or_else(|| Some(Peer { address: tcp()?, identity: None }))
}

/// Waits until a token opens nothing any more.
async fn over(token: Arc<Live>) -> Status {
    let left = Duration::from_millis(token.row.expires_at.saturating_sub(clock::now_ms()));
    tokio::select! {
        () = token.over.cancelled() => Status::unauthenticated("the token was revoked"),
        () = tokio::time::sleep(left) => Status::unauthenticated("the token has expired"),
    }
}

/// An answer that ends early if the token that opened it does.
struct WhileGood {
    body: Body,
    over: Pin<Box<dyn Future<Output = Status> + Send>>,
    ended: bool,
}

impl http_body::Body for WhileGood {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = self.over.as_mut().poll(cx) {
            self.ended = true;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
