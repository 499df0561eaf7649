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
    transport::{Endpoint, Uri},
};

mod answered;

use answered::Open;
pub use answered::{Answered, Channel};

use crate::{
    tls::{Demand, Keeper, Plain, Secure, Untrusted},
    watched::Watched,
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
    #[error("not an address: {0:?}; expected HOST:PORT, https://HOST:PORT or http://HOST:PORT")]
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
    /// Somebody answered, and certificates keep us from speaking.
    #[error("{address}: {why}")]
    Untrusted {
        /// Who was dialled.
        address: String,
        /// Why.
        why: Untrusted,
    },
}

/// How peers are dialled: over plain TCP, or over TLS where there are certificates.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    over: Option<Arc<dyn Transport>>,
    plain: Plain,
    secure: Option<Secure>,
}

impl Dialer {
    /// Dials over `transport` instead of TCP.
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Self { over: Some(transport), ..Self::default() }
    }

    /// Dials over TLS, and demands who has to be there; an address with `http://` is still dialled in plain.
    pub fn secured(keeper: Arc<Keeper>, demand: Demand) -> Self {
        Self { secure: Some(Secure::new(keeper, demand)), ..Self::default() }
    }

    /// The same for somebody else. What it then knows of the other side is its own.
    #[must_use]
    pub fn demanding(&self, demand: Demand) -> Self {
        let secure = self.secure.as_ref().map(|secure| secure.demanding(demand));
        Self { over: self.over.clone(), plain: Plain::default(), secure }
    }

    /// Whether there are certificates.
    pub fn is_secured(&self) -> bool {
        self.secure.is_some()
    }

    /// Who this process shows that it is.
    pub fn identity(&self) -> Option<edgeprof_common::Identity> {
        self.secure.as_ref()?.identity()
    }

    /// The certificates of this process.
    pub fn keeper(&self) -> Option<&Arc<Keeper>> {
        self.secure.as_ref().map(Secure::keeper)
    }

    /// Who was demanded, or was found there where any would do; nobody knows without certificates.
    pub fn demand(&self) -> Option<Demand> {
        self.secure.as_ref().map(Secure::demand)
    }

    /// What certificates had to do with it that the last connection is broken.
    pub fn refusal(&self) -> Option<Untrusted> {
        self.secure
            .as_ref()
            .and_then(|secure| secure.outcome.refusal())
            .or_else(|| self.plain.outcome.refusal())
    }

    /// The address with its scheme: TLS where there are certificates, unless it says otherwise.
    pub fn url(&self, address: &str) -> String {
        let scheme = if self.is_secured() { "https" } else { "http" };
        if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") }
    }

    /// Dials `address` (`https://HOST:PORT`, `http://HOST:PORT` or `HOST:PORT`) once.
    ///
    /// # Errors
    /// When the address is malformed, nobody answers within `timeout`, or it is not who was demanded.
    pub async fn connect(&self, address: &str, timeout: Duration) -> Result<Channel, ConnectError> {
        let url = self.url(address);
        let endpoint = endpoint(&url, timeout).ok_or_else(|| ConnectError::Address(address.to_owned()))?;
        let secure = endpoint.uri().scheme_str() == Some("https");
        let transport: Arc<dyn Transport> = match (&self.over, &self.secure) {
            (Some(over), _) => over.clone(),
            (None, Some(tls)) if secure => Arc::new(tls.clone()),
            (None, None) if secure => {
                let why = Untrusted::new(
                    "there are no certificates to speak TLS with",
                    "name their folder with --tls-dir, as `edgeprof pki issue` writes it (docs/security.md)",
                );
                return Err(ConnectError::Untrusted { address: url, why });
            }
            _ => Arc::new(self.plain.clone()),
        };
        let over = Over::new(transport);
        let open = over.open.clone();
        match endpoint.connect_with_connector(over).await {
            Ok(channel) => Ok(Channel::new(channel, open)),
            Err(error) => Err(match self.refusal() {
                Some(why) => ConnectError::Untrusted { address: url, why },
                None => unreachable(url, &error),
            }),
        }
    }
}

/// Dials `address` over plain TCP, as [`Dialer::connect`] does.
///
/// # Errors
/// When the address is malformed or nobody answers within `timeout`.
pub async fn connect(address: &str, timeout: Duration) -> Result<Channel, ConnectError> {
    Dialer::default().connect(address, timeout).await
}

/// A transport as tonic takes it.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    transport: Arc<dyn Transport>,
    open: Open,
}

impl Over {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, open: Open::default() }
    }
}

impl Service<Uri> for Over {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, opened) = (self.transport.connect(&to), self.open.one());
        Box::pin(async move {
            let io = Watched::new(connecting.await?, opened);
            Ok(TokioIo::new(Box::new(io) as Box<dyn Io>))
        })
    }
}

fn endpoint(url: &str, timeout: Duration) -> Option<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .ok()
        .filter(|endpoint| matches!(endpoint.uri().scheme_str(), Some("http" | "https")))?
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    Some(endpoint)
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
