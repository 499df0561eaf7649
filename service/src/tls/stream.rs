//! Connections that were accepted, as the gRPC server reads and writes them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::{
    Refusal, Refusals,
    gate::Ticket,
    keeper::Live,
    sent::{Sent, Told},
};
use crate::peer::Peer;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a TLS connection begins with: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection that was accepted.
#[derive(Debug)]
pub struct Incoming {
    io: Io,
    peer: Peer,
    ticket: Ticket,
    greeting: Option<Greeting>,
    end: Option<End>,
    sent: Sent,
    refusals: Arc<Refusals>,
}

#[derive(Debug)]
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Until the first bytes are there.
#[derive(Debug)]
struct Greeting {
    late: Pin<Box<Sleep>>,
    displaced: Pin<Box<WaitForCancellationFutureOwned>>,
    seen: usize,
}

/// When the certificate is good no more.
#[derive(Debug)]
pub(super) struct End {
    fired: Pin<Box<WaitForCancellationFutureOwned>>,
    _live: Live,
}

impl End {
    pub(super) fn of(live: Live) -> Self {
        Self { fired: Box::pin(live.end.clone().cancelled_owned()), _live: live }
    }

    /// An error once it has come.
    pub(super) fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.fired.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the certificate of the other side has expired or was revoked",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl Incoming {
    pub(super) fn new(
        io: Io,
        peer: Peer,
        ticket: Ticket,
        until: Instant,
        end: Option<End>,
        refusals: Arc<Refusals>,
    ) -> Self {
        let displaced = Box::pin(ticket.displaced.clone().cancelled_owned());
        let greeting = Greeting { late: Box::pin(tokio::time::sleep_until(until)), displaced, seen: 0 };
        Self { io, peer, ticket, greeting: Some(greeting), end, sent: Sent::default(), refusals }
    }

    /// The beginning of a connection has to be that of HTTP/2, and in time: whoever says nothing, or something
    /// else, holds a place that others want.
    fn greet(&mut self, cx: &mut Context<'_>, read: Option<&[u8]>) -> io::Result<()> {
        let Some(greeting) = &mut self.greeting else { return Ok(()) };
        let Some(read) = read else {
            if greeting.displaced.as_mut().poll(cx).is_ready() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if greeting.late.as_mut().poll(cx).is_ready() {
                self.refusals.tell(Refusal::Slow, self.peer.address.ip(), None, "it said nothing in time");
                return Err(io::ErrorKind::TimedOut.into());
            }
            return Ok(());
        };
        let expected = PREFACE.get(greeting.seen..).unwrap_or_default();
        if read.iter().zip(expected).any(|(read, expected)| read != expected) {
            let plain = matches!(self.io, Io::Plain(_));
            let tls = plain && greeting.seen == 0 && read.first() == Some(&TLS_HANDSHAKE);
            let why = if tls {
                "it speaks TLS, and this process has no certificates"
            } else {
                "it speaks no HTTP/2"
            };
            self.refusals.tell(Refusal::Protocol, self.peer.address.ip(), None, why);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        greeting.seen += read.len();
        if greeting.seen >= PREFACE.len() {
            self.greeting = None;
            self.ticket.greeted();
        }
        Ok(())
    }
}

impl Incoming {
    /// Counts what was refused with these slices, of which the peer has got so many bytes. Where it gets none any
    /// more, what it was to get counts all the same.
    fn count(&mut self, polled: &Poll<io::Result<usize>>, slices: &[io::IoSlice<'_>]) {
        let mut left = match polled {
            Poll::Ready(Ok(written)) => *written,
            Poll::Ready(Err(_)) => usize::MAX,
            Poll::Pending => return,
        };
        for slice in slices {
            let (bytes, _) = slice.split_at(slice.len().min(left));
            left -= bytes.len();
            self.sent.read(bytes, |Told { refusal, reason }| match refusal {
                Refusal::Protocol => {
                    let why = format!("it breaks HTTP/2: {reason}");
                    self.refusals.tell(refusal, self.peer.address.ip(), None, &why);
                }
                // Of one request among others: whoever sends it can send many.
                _ => self.refusals.count(refusal),
            });
        }
    }
}

impl Connected for Incoming {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(end) = &mut this.end {
            end.check(cx)?;
        }
        this.greet(cx, None)?;
        let before = buf.filled().len();
        let polled = match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        };
        if let Poll::Ready(Ok(())) = polled {
            this.greet(cx, buf.filled().get(before..))?;
        }
        polled
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        };
        self.count(&polled, &[io::IoSlice::new(bytes)]);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Io::Tls(io) => Pin::new(io).poll_write_vectored(cx, slices),
        };
        self.count(&polled, slices);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
