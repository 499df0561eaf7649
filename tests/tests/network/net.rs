//! Simulated connections, as tonic takes them.

use std::{
    collections::BTreeSet,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use edgeprof_service::channel::{Connecting, Io, Transport};
use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Uri, server::Connected};
use turmoil::net::{TcpListener, TcpStream};

/// Where every worker listens.
pub(crate) const PORT: u16 = 7000;

/// Pairs of hosts between which nothing gets through, in the order sender, receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Cuts {
    /// Nothing from `from` reaches `to` any more.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.0.lock().unwrap().insert((from.into(), to.into()));
    }

    /// Everything does again.
    pub(crate) fn mend(&self, from: &str, to: &str) {
        self.0.lock().unwrap().remove(&(from.into(), to.into()));
    }

    fn between(&self, a: &str, b: &str) -> bool {
        let cuts = self.0.lock().unwrap();
        cuts.contains(&(a.into(), b.into())) || cuts.contains(&(b.into(), a.into()))
    }
}

/// Dials over the simulated network, from the host `from`.
#[derive(Debug)]
pub(crate) struct Simulated {
    /// Who dials.
    pub(crate) from: String,
    /// What does not get through.
    pub(crate) cuts: Cuts,
}

impl Transport for Simulated {
    fn connect(&self, to: &Uri) -> Connecting {
        let (from, cuts) = (self.from.clone(), self.cuts.clone());
        let host = to.host().unwrap_or_default().to_owned();
        let port = to.port_u16().unwrap_or(PORT);
        Box::pin(async move {
            match TcpStream::connect((turmoil::lookup(host.as_str()), port)).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Io>),
                // A lost SYN looks like a refusal here; on a real network it looks like nothing at all, and
                // only a refusal proves that no process is there.
                Err(_) if cuts.between(&from, &host) => pending().await,
                Err(error) => Err(error),
            }
        })
    }
}

/// How a worker reads from its connections.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Once set, nothing more.
    pub(crate) stuck: AtomicBool,
    /// Bytes that it has read.
    pub(crate) bytes: AtomicUsize,
}

/// A connection that a worker accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    stream: TcpStream,
    reading: Arc<Reading>,
}

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Once stuck it never reads again, so nobody has to wake it.
        if self.reading.stuck.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        self.reading.bytes.fetch_add(into.filled().len() - before, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connections to this host, which are read from so.
pub(crate) async fn listen(reading: Arc<Reading>) -> io::Result<impl Stream<Item = io::Result<Accepted>>> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).await?;
    Ok(stream::unfold((listener, reading), |(listener, reading)| async {
        let accepted = listener.accept().await;
        let accepted = accepted.map(|(stream, _)| Accepted { stream, reading: reading.clone() });
        Some((accepted, (listener, reading)))
    }))
}
