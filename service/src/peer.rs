//! Who is at the other end of a connection that was accepted.

use std::net::SocketAddr;

use edgeprof_common::Identity;

/// The other end, as a request's extensions carry it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it calls from.
    pub address: SocketAddr,
    /// Who its certificate says it is; absent on a connection without TLS, and for a client that has no
    /// certificate and is yet to show a token.
    pub identity: Option<Identity>,
}
