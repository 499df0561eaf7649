//! Accepts: bounded, each handshake on its own, none waited for.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use edgeprof_identity::Certificate;
use rustls::{
    ServerConfig,
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::transport::server::Connected;

use super::{
    Connections, Gate, Keeper, Refusal, Refusals,
    gate::Ticket,
    keeper::Side,
    loaded::{ALPN, Loaded, VERSIONS},
    stream::{End, Incoming, Io},
    verify::{AtTheDoor, Judged},
};
use crate::{
    peer::Peer,
    shutdown::Tasks,
    telemetry::metrics::{observe, table},
};

/// Connections that wait for the server to take them.
const READY: usize = 64;

/// How long whoever was refused may take to read why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How long nothing is accepted once the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

/// How often it is told how many were refused, where more have been.
const TELL: Duration = Duration::from_secs(10);

/// What a gRPC server takes as a connection.
pub trait Connection:
    AsyncRead + AsyncWrite + Connected<ConnectInfo = Peer> + Send + Unpin + 'static
{
}

impl Connection for Incoming {}

/// Whom a daemon lets in.
#[derive(Clone, Debug)]
pub struct Door {
    /// Its certificates; without any it serves plain TCP.
    pub keeper: Option<Arc<Keeper>>,
    /// Whether only the lab's coordinator may connect, as to a worker; else clients may, and those without a
    /// certificate are let in for others to judge.
    pub coordinator_only: bool,
    /// Bounds.
    pub gate: Gate,
    /// How long a handshake may take.
    pub greeting_time: Duration,
    /// Where refusals are counted.
    pub refusals: Arc<Refusals>,
}

impl Door {
    /// With these bounds.
    pub fn new(
        keeper: Option<Arc<Keeper>>,
        coordinator_only: bool,
        bounds: &Connections,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            keeper,
            coordinator_only,
            gate: Gate::new(bounds),
            greeting_time: bounds.greeting_time,
            refusals,
        }
    }
}

/// Connections to `listener` that were let in, until `tasks` stop.
pub fn incoming(
    listener: TcpListener,
    door: Door,
    tasks: &Tasks,
) -> impl Stream<Item = io::Result<impl Connection + use<>>> + use<> {
    let (ready, served) = mpsc::channel(READY);
    watch(&door);
    if let Some(keeper) = &door.keeper {
        tasks.spawn_until_stop(keeper.clone().watch());
    }
    tasks.spawn_until_stop(tell(door.refusals.clone()));
    tasks.spawn_until_stop(accept(listener, door, ready, tasks.clone()));
    ReceiverStream::new(served)
}

/// Observes who is there, and who was not let in.
fn watch(door: &Door) {
    let gate = door.gate.clone();
    observe(&table::CONNECTIONS, move |seen| seen.is(gate.open() as f64, &[]));
    let refusals = door.refusals.clone();
    observe(&table::REFUSED, move |seen| {
        for (reason, count) in refusals.all() {
            seen.is(count as f64, &[("reason", reason)]);
        }
    });
}

async fn accept(listener: TcpListener, door: Door, ready: mpsc::Sender<io::Result<Incoming>>, tasks: Tasks) {
    loop {
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // One that has gone again says nothing of the next.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
                {
                    door.refusals.tell(Refusal::Descriptors, [0, 0, 0, 0].into(), None, &error.to_string());
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        match door.gate.admit(from.ip()) {
            Err(refusal) => door.refusals.count(refusal),
            Ok((ticket, displaced)) => {
                if displaced {
                    door.refusals.count(Refusal::Displaced);
                }
                let (door, ready) = (door.clone(), ready.clone());
                tasks.spawn_until_stop(async move {
                    // A short frame must not wait for the acknowledgement of the one before it.
                    let _ = tcp.set_nodelay(true);
                    let displaced = ticket.displaced.clone();
                    let incoming = tokio::select! {
                        () = displaced.cancelled() => return,
                        incoming = greet(tcp, from, ticket, &door) => incoming,
                    };
                    if let Some(incoming) = incoming {
                        let _ = ready.send(Ok(incoming)).await;
                    }
                });
            }
        }
    }
}

async fn greet(tcp: TcpStream, from: SocketAddr, ticket: Ticket, door: &Door) -> Option<Incoming> {
    let until = Instant::now() + door.greeting_time;
    let refusals = door.refusals.clone();
    let Some(keeper) = &door.keeper else {
        let peer = Peer { address: from, identity: None };
        return Some(Incoming::accepted(Io::Left(tcp), peer, ticket, until, None, refusals));
    };
    let loaded = keeper.loaded();
    let seen = Arc::new(Mutex::new(None));
    let config = match config(&loaded, door, &seen) {
        Ok(config) => config,
        Err(error) => {
            if ticket.refuse() {
                refusals.tell(Refusal::Handshake, from.ip(), None, &error.to_string());
            }
            return None;
        }
    };
    let accepting = TlsAcceptor::from(Arc::new(config)).accept(tcp).into_fallible();
    let accepted = timeout_at(until, accepting).await;
    let judged = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Whoever is refused for a certificate is refused for nothing that comes of it.
    let certificate = judged.transpose().unwrap_or_else(|judged: Judged| {
        if ticket.refuse() {
            refusals.tell(judged.refusal, from.ip(), judged.certificate.as_deref(), &judged.why);
        }
        None
    });
    match accepted {
        Ok(Ok(tls)) => {
            let end = certificate.as_ref().map(|certificate| live(keeper, &tls, certificate, &loaded));
            let identity = certificate.and_then(|certificate| certificate.identity);
            let peer = Peer { address: from, identity };
            Some(Incoming::accepted(Io::Right(Box::new(tls)), peer, ticket, until, end, refusals))
        }
        Ok(Err((error, tcp))) => {
            if ticket.refuse() {
                failed(&error, certificate.as_ref(), from.ip(), &refusals);
            }
            let _ = timeout(LAST_WORD, last_word(tcp)).await;
            None
        }
        Err(_) => {
            if ticket.refuse() {
                refusals.tell(Refusal::Slow, from.ip(), None, "the handshake took too long");
            }
            None
        }
    }
}

fn live(
    keeper: &Arc<Keeper>,
    tls: &TlsStream<TcpStream>,
    certificate: &Certificate,
    loaded: &Arc<Loaded>,
) -> End {
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
    End::of(keeper.register(Side::Client, chain, certificate.not_after, loaded))
}

/// What a failed handshake was.
fn failed(error: &io::Error, certificate: Option<&Certificate>, from: IpAddr, refusals: &Refusals) {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let refusal = cause.map_or(Refusal::Handshake, Refusal::of);
    let why = match (refusal, cause) {
        (Refusal::NoCertificate, _) => "it showed no certificate".into(),
        (Refusal::Protocol, _) => "it speaks no TLS".into(),
        (_, Some(rustls::Error::AlertReceived(alert))) => {
            format!("it does not take the certificate of this process ({alert:?})")
        }
        (_, Some(other)) => other.to_string(),
        (_, None) => error.to_string(),
    };
    refusals.tell(refusal, from, certificate, &why);
}

/// What the peer has sent meanwhile is read, so that closing does not take back the alert that says why.
async fn last_word(mut tcp: TcpStream) {
    let _ = tcp.shutdown().await;
    let mut rest = tcp.take(64 << 10);
    let mut buffer = [0; 1024];
    while let Ok(1..) = rest.read(&mut buffer).await {}
}

fn config(
    loaded: &Arc<Loaded>,
    door: &Door,
    seen: &Arc<Mutex<Option<Result<Certificate, Judged>>>>,
) -> Result<ServerConfig, rustls::Error> {
    let mine = loaded.mine.as_ref().ok_or(rustls::Error::NoCertificatesPresented)?;
    let verifier = AtTheDoor {
        trust: loaded.trust.clone(),
        coordinator_only: door.coordinator_only,
        seen: seen.clone(),
    };
    let mut config = ServerConfig::builder_with_provider(loaded.trust.provider.clone())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&mine.key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A session that is resumed shows no certificate, and it may have been revoked meanwhile.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

async fn tell(refusals: Arc<Refusals>) {
    let mut told = 0;
    let mut pace = tokio::time::interval(TELL);
    loop {
        pace.tick().await;
        let all: Vec<_> = refusals.all().filter(|(_, count)| *count > 0).collect();
        let sum = all.iter().map(|(_, count)| count).sum();
        if sum > told {
            told = sum;
            let counts: Vec<_> = all.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
            tracing::info!(counts = counts.join(" "), "refused since the start");
        }
    }
}
