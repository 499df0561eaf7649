//! Outgoing gRPC connections, with dead peers noticed.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{
    codegen::Service,
    transport::{Channel, Endpoint, Uri},
};

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection in the making.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Opens the connections that channels run over.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Opens one to the host and port of `to`.
    fn connect(&self, to: &Uri) -> Connecting;
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not one.
    #[error("not an address: {0:?}; expected http://HOST:PORT")]
    Address(String),
    /// Nobody answered.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Who was dialled.
        address: String,
        /// The innermost cause, such as `Connection refused (os error 111)`.
        reason: String,
        /// Whether the peer's host answered that nobody listens: proof that no process is there.
        refused: bool,
    },
}

/// How peers are dialled: over TCP by default.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    transport: Option<Over>,
}

impl Dialer {
    /// Dials over `transport` instead of TCP.
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Self { transport: Some(Over(transport)) }
    }

    /// Dials `address` (`http://HOST:PORT`, or `HOST:PORT`) once.
    ///
    /// # Errors
    /// When the address is malformed or nobody answers within `timeout`.
    pub async fn connect(&self, address: &str, timeout: Duration) -> Result<Channel, ConnectError> {
        let (endpoint, url) = endpoint(address, timeout)?;
        let connected = match &self.transport {
            None => endpoint.connect().await,
            Some(over) => endpoint.connect_with_connector(over.clone()).await,
        };
        connected.map_err(|error| unreachable(url, &error))
    }
}

/// Dials `address` over TCP, as [`Dialer::connect`] does.
///
/// # Errors
/// When the address is malformed or nobody answers within `timeout`.
pub async fn connect(address: &str, timeout: Duration) -> Result<Channel, ConnectError> {
    Dialer::default().connect(address, timeout).await
}

/// A transport as tonic takes it.
#[derive(Clone, Debug)]
struct Over(Arc<dyn Transport>);

impl Service<Uri> for Over {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.connect(&to);
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}

fn endpoint(address: &str, timeout: Duration) -> Result<(Endpoint, String), ConnectError> {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url.clone())
        .map_err(|_| ConnectError::Address(address.to_owned()))?
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    Ok((endpoint, url))
}

fn unreachable(address: String, error: &tonic::transport::Error) -> ConnectError {
    let (mut reason, mut refused) = (error.to_string(), false);
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        reason = cause.to_string();
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            refused |= io.kind() == io::ErrorKind::ConnectionRefused;
        }
        source = cause.source();
    }
    ConnectError::Unreachable { address, reason, refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_dial_is_told_from_a_bad_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = connect(&format!("127.0.0.1:{port}"), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Unreachable { refused: true, .. }), "{error}");
        let error = connect("http://not an address", Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Address(_)));
    }
}
