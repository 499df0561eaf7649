//! Dials, and demands to know whom it has reached.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
};

use edgeprof_common::Identity;
use edgeprof_identity::names;
use rustls::{
    ClientConfig,
    client::Resumption,
    pki_types::ServerName,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Uri;

use super::{
    Keeper, Untrusted,
    keeper::Side,
    loaded::{ALPN, Loaded, VERSIONS},
    stream::End,
    verify::Reached,
    words::PeerWords,
};
use crate::{
    channel::{Connecting, Io, Transport},
    watched::{Watch, Watched},
};

/// What a TLS peer answers plain HTTP/2 with: an alert record.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// Who has to be at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The lab's coordinator.
    Coordinator,
    /// A worker: the one of this name, or whichever is there.
    Worker(Option<String>),
}

impl Demand {
    pub(super) fn met_by(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Self::Coordinator, Identity::Coordinator) | (Self::Worker(None), Identity::Worker(_)) => true,
            (Self::Worker(Some(sought)), Identity::Worker(name)) => sought == name,
            _ => false,
        }
    }

    fn dns(&self) -> String {
        match self {
            Self::Coordinator => names::dns(&Identity::Coordinator),
            Self::Worker(Some(name)) => names::dns(&Identity::Worker(name.clone())),
            Self::Worker(None) => "worker.edgeprof.internal".into(),
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("the coordinator"),
            Self::Worker(Some(name)) => write!(f, "worker {name}"),
            Self::Worker(None) => f.write_str("a worker"),
        }
    }
}

/// What became of the last connection: tonic keeps of an error only its text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome(Arc<Mutex<Option<Untrusted>>>);

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, Option<Untrusted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn refusal(&self) -> Option<Untrusted> {
        self.lock().clone()
    }

    fn begin(&self) {
        *self.lock() = None;
    }

    fn refused(&self, why: Untrusted) -> io::Error {
        *self.lock() = Some(why.clone());
        io::Error::new(io::ErrorKind::PermissionDenied, why)
    }
}

/// Plain TCP.
#[derive(Clone, Debug, Default)]
pub struct Plain {
    pub(crate) outcome: Outcome,
}

impl Transport for Plain {
    fn connect(&self, to: &Uri) -> Connecting {
        let (outcome, to) = (self.outcome.clone(), to.clone());
        Box::pin(async move {
            outcome.begin();
            let io = tcp(&to).await?;
            Ok(Box::new(Watched::new(io, Sniffing { outcome, fresh: true })) as Box<dyn Io>)
        })
    }
}

/// TLS to whoever is demanded. The first worker that answers where any may is the only one from then on.
#[derive(Clone, Debug)]
pub struct Secure {
    keeper: Arc<Keeper>,
    demand: Arc<Mutex<Demand>>,
    pub(crate) outcome: Outcome,
}

impl Secure {
    /// With the certificates of this process.
    pub fn new(keeper: Arc<Keeper>, demand: Demand) -> Self {
        Self { keeper, demand: Arc::new(demand.into()), outcome: Outcome::default() }
    }

    /// The same for somebody else.
    #[must_use]
    pub fn demanding(&self, demand: Demand) -> Self {
        Self::new(self.keeper.clone(), demand)
    }

    /// Who this process shows that it is.
    pub fn identity(&self) -> Option<Identity> {
        self.keeper.identity()
    }

    /// The certificates of this process.
    pub(crate) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// Who is at the other end, once that is known or where it was demanded.
    pub fn demand(&self) -> Demand {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn pin(&self, identity: Option<&Identity>) {
        let mut demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Demand::Worker(None), Some(Identity::Worker(name))) = (&*demand, identity) {
            *demand = Demand::Worker(Some(name.clone()));
        }
    }

    async fn open(&self, to: &Uri) -> io::Result<Watched<TlsStream<TcpStream>, Judging>> {
        self.outcome.begin();
        self.keeper.check_own().map_err(|why| self.outcome.refused(why))?;
        let loaded = self.keeper.loaded();
        let own = loaded.mine.as_ref().map(|mine| mine.certificate.clone());
        let demand = self.demand();
        let peer = PeerWords { demand: demand.clone(), own, kind: self.keeper.own() };
        let seen = Arc::new(Mutex::new(None));
        let verifier = Reached { trust: loaded.trust.clone(), demand: demand.clone(), seen: seen.clone() };
        let config = config(&loaded, verifier).map_err(io::Error::other)?;
        let name = ServerName::try_from(demand.dns()).map_err(io::Error::other)?;
        let tcp = tcp(to).await?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tls = connected.map_err(|error| match seen {
            Some(Err(ref why)) => self.outcome.refused(why.clone()),
            _ => match peer.explain(&error) {
                Some(why) => self.outcome.refused(why),
                None => error,
            },
        })?;
        let end = seen.and_then(Result::ok).map(|certificate| {
            self.pin(certificate.identity.as_ref());
            let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
            let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
            End::of(self.keeper.register(Side::Server, chain, certificate.not_after, &loaded))
        });
        Ok(Watched::new(tls, Judging { end, outcome: self.outcome.clone(), peer }))
    }
}

impl Transport for Secure {
    fn connect(&self, to: &Uri) -> Connecting {
        let (this, to) = (self.clone(), to.clone());
        Box::pin(async move { Ok(Box::new(this.open(&to).await?) as Box<dyn Io>) })
    }
}

fn config(loaded: &Loaded, verifier: Reached) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(loaded.trust.provider.clone())
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &loaded.mine {
        Some(mine) => {
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&mine.key))))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A session that is resumed shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(super) async fn tcp(to: &Uri) -> io::Result<TcpStream> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "the address names no host");
    let host = to.host().ok_or_else(missing)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let default = if to.scheme_str() == Some("https") { 443 } else { 80 };
    let tcp = TcpStream::connect((host, to.port_u16().unwrap_or(default))).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Sees whether the certificate of a connection, or ours, is good no more.
#[derive(Debug)]
struct Judging {
    end: Option<End>,
    outcome: Outcome,
    peer: PeerWords,
}

impl Watch for Judging {
    fn before(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.end.as_mut().map_or(Ok(()), |end| end.check(cx))
    }

    /// With TLS 1.3 a refusal of our certificate comes here, after our side of the handshake.
    fn after(&mut self, read: io::Result<&[u8]>) -> io::Result<()> {
        let Err(error) = read else { return Ok(()) };
        let alert = error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>());
        Err(match self.peer.explain(&error).filter(|_| alert) {
            Some(why) => self.outcome.refused(why),
            None => error,
        })
    }
}

/// Sees by the first bytes on a plain connection whether TLS is spoken there.
#[derive(Debug)]
struct Sniffing {
    outcome: Outcome,
    fresh: bool,
}

impl Watch for Sniffing {
    fn after(&mut self, read: io::Result<&[u8]>) -> io::Result<()> {
        let read = read?;
        if std::mem::take(&mut self.fresh) && read.starts_with(&TLS_ALERT) {
            return Err(self.outcome.refused(Untrusted::new(
                "what answers there speaks TLS only",
                "write https:// there, and give certificates with --tls-dir (docs/security.md)",
            )));
        }
        Ok(())
    }
}
