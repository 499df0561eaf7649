//! Outgoing gRPC connections, with dead peers noticed.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

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

/// Dials `address` (`http://HOST:PORT`, or `HOST:PORT`) once.
///
/// # Errors
/// When the address is malformed or nobody answers within `timeout`.
pub async fn connect(address: &str, timeout: Duration) -> Result<Channel, ConnectError> {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url.clone())
        .map_err(|_| ConnectError::Address(address.to_owned()))?
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| {
        let (mut reason, mut refused) = (error.to_string(), false);
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(cause) = source {
            reason = cause.to_string();
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                refused |= io.kind() == std::io::ErrorKind::ConnectionRefused;
            }
            source = cause.source();
        }
        ConnectError::Unreachable { address: url, reason, refused }
    })
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
