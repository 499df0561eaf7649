//! Connections that were accepted, as the gRPC server reads and writes them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use time::OffsetDateTime;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{either::Either, sync::WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::{
    Refusal, Refusals,
    gate::Ticket,
    keeper::Live,
    sent::{Sent, Told},
};
use crate::{
    peer::Peer,
    watched::{Watch, Watched},
};

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a TLS connection begins with: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Over which bytes go.
pub(super) type Io = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection that was accepted.
pub(super) type Incoming = Watched<Io, Guest>;

/// Who has connected, and what ends the connection.
#[derive(Debug)]
pub(super) struct Guest {
    peer: Peer,
    ticket: Ticket,
    greeting: Option<Greeting>,
    end: Option<End>,
    sent: Sent,
    refusals: Arc<Refusals>,
    plain: bool,
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
    live: Live,
}

impl End {
    pub(super) fn of(live: Live) -> Self {
        Self { fired: Box::pin(live.end.clone().cancelled_owned()), live }
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

    /// What that is, once it has come.
    fn refusal(&self) -> Refusal {
        if OffsetDateTime::now_utc() < self.live.until { Refusal::Revoked } else { Refusal::Expired }
    }
}

impl Incoming {
    pub(super) fn accepted(
        io: Io,
        peer: Peer,
        ticket: Ticket,
        until: Instant,
        end: Option<End>,
        refusals: Arc<Refusals>,
    ) -> Self {
        let displaced = Box::pin(ticket.displaced.clone().cancelled_owned());
        let greeting = Greeting { late: Box::pin(tokio::time::sleep_until(until)), displaced, seen: 0 };
        let plain = matches!(io, Io::Left(_));
        let (greeting, sent) = (Some(greeting), Sent::default());
        Self::new(io, Guest { peer, ticket, greeting, end, sent, refusals, plain })
    }
}

impl Guest {
    /// Whoever has not said yet what it wants is refused.
    fn refuse(&self, refusal: Refusal, why: &str) {
        if self.ticket.refuse() {
            self.refusals.tell(refusal, self.peer.address.ip(), None, why);
        }
    }
}

/// The beginning of a connection has to be that of HTTP/2, and in time: whoever says nothing, or something else,
/// holds a place that others want.
impl Watch for Guest {
    fn before(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let ended = self.end.as_mut().and_then(|end| Some((end.check(cx).err()?, end.refusal())));
        if let Some((error, refusal)) = ended {
            if self.greeting.is_some() {
                self.refuse(refusal, &error.to_string());
            }
            return Err(error);
        }
        let Some(greeting) = &mut self.greeting else { return Ok(()) };
        if greeting.displaced.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if greeting.late.as_mut().poll(cx).is_ready() {
            self.refuse(Refusal::Slow, "it said nothing in time");
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn after(&mut self, read: io::Result<&[u8]>) -> io::Result<()> {
        let read = read?;
        let Some(greeting) = &mut self.greeting else { return Ok(()) };
        let expected = PREFACE.get(greeting.seen..).unwrap_or_default();
        if read.iter().zip(expected).any(|(read, expected)| read != expected) {
            let tls = self.plain && greeting.seen == 0 && read.first() == Some(&TLS_HANDSHAKE);
            let why = if tls {
                "it speaks TLS, and this process has no certificates"
            } else {
                "it speaks no HTTP/2"
            };
            self.refuse(Refusal::Protocol, why);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        greeting.seen += read.len();
        if greeting.seen >= PREFACE.len() {
            self.greeting = None;
            if !self.ticket.greeted() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }

    /// Counts what was refused with what was written. Where the peer gets nothing any more, what it was to get counts
    /// all the same.
    fn wrote(&mut self, slices: &[io::IoSlice<'_>], written: &io::Result<usize>) {
        let mut left = *written.as_ref().unwrap_or(&usize::MAX);
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
        self.watch().peer.clone()
    }
}
