//! The files of `[tls]`, read and found good.

use std::{fmt, sync::Arc};

use edgeprof_common::Identity;
use edgeprof_identity::{
    Certificate, RevocationList,
    files::{self, FileError},
    names,
};
use rustls::{
    RootCertStore, SupportedProtocolVersion,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};

use super::{
    Untrusted,
    config::Paths,
    verify::{Judged, judge_client, judge_server},
};

/// TLS 1.3 alone: both ends are ours.
pub(super) const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// HTTP/2, which gRPC is spoken over.
pub(super) const ALPN: &[u8] = b"h2";

/// What this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The coordinator.
    Coordinator,
    /// A worker.
    Worker,
    /// A client.
    Client,
}

impl Own {
    /// The word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Client => "client",
        }
    }

    const fn is(self, identity: &Identity) -> bool {
        matches!(
            (self, identity),
            (Self::Coordinator, Identity::Coordinator)
                | (Self::Worker, Identity::Worker(_))
                | (Self::Client, Identity::Client { .. })
        )
    }
}

/// Whom to trust: the lab's authority, and what it has revoked.
#[derive(Clone)]
pub(super) struct Trust {
    pub(super) servers: Arc<WebPkiServerVerifier>,
    /// With a certificate, or without one where that is for others to judge.
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// This process's own certificate.
#[derive(Clone)]
pub(super) struct Mine {
    pub(super) certificate: Certificate,
    pub(super) identity: Identity,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) path: std::path::PathBuf,
}

impl fmt::Debug for Mine {
    /// Without its key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.certificate, self.path.display())
    }
}

/// The files as they were read.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) trust: Trust,
    /// What is revoked, if that is known.
    pub(super) revoked: Option<Arc<RevocationList>>,
    /// The certificates of the authority.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// Absent for a client that has only the authority's certificate, and shows a token instead.
    pub(super) mine: Option<Mine>,
}

impl Loaded {
    /// Reads them.
    pub(super) fn read(paths: &Paths, own: Own) -> Result<Self, Untrusted> {
        let loaded = Self::unjudged(paths, own)?;
        loaded.check_own(own)?;
        Ok(loaded)
    }

    /// The same, whatever the others will say to it.
    pub(super) fn unjudged(paths: &Paths, own: Own) -> Result<Self, Untrusted> {
        let authorities = files::certificates(&paths.ca)?;
        let revoked = revoked(paths, &authorities)?.map(Arc::new);
        Self::revoking(paths, own, authorities, revoked)
    }

    /// The files with this list of what is revoked.
    pub(super) fn revoking(
        paths: &Paths,
        own: Own,
        authorities: Vec<CertificateDer<'static>>,
        revoked: Option<Arc<RevocationList>>,
    ) -> Result<Self, Untrusted> {
        let provider = Arc::new(ring::default_provider());
        let trust = trust(paths, &authorities, revoked.as_deref(), &provider)?;
        let token_instead = own == Own::Client && !paths.cert.exists() && !paths.key.exists();
        let mine = if token_instead { None } else { Some(mine(paths, own, &provider)?) };
        Ok(Self { trust, revoked, authorities, mine })
    }

    /// Whether the lab's authority has signed a list.
    pub(super) fn vouches(&self, list: &RevocationList) -> bool {
        self.authorities.iter().any(|authority| list.is_of(authority))
    }

    /// Whether the own certificate is one that the others will take.
    pub(super) fn check_own(&self, own: Own) -> Result<(), Untrusted> {
        let Some(mine) = &self.mine else { return Ok(()) };
        let Some((first, rest)) = mine.key.cert.split_first() else { return Ok(()) };
        let now = UnixTime::now();
        let judged = match own {
            Own::Client => judge_client(&self.trust, first, rest, now),
            Own::Coordinator | Own::Worker => judge_server(&self.trust, first, rest, now),
        };
        let Err(Judged { refusal, why, .. }) = judged else { return Ok(()) };
        let (what, path) = (&mine.certificate, mine.path.display());
        let name = names::path(&mine.identity);
        let hint = match refusal {
            super::Refusal::Revoked => format!(
                "if {} is to have one again: `{}`, and copy its folder here",
                mine.identity,
                names::issuing(&mine.identity)
            ),
            super::Refusal::OtherAuthority => {
                "take cert.pem, key.pem and ca.pem from one folder of `edgeprof pki`".to_owned()
            }
            _ => format!("`edgeprof pki renew {name}`, and copy its folder here"),
        };
        Err(Untrusted::new(format!("the own {what}, in {path}, cannot be used: {why}"), hint))
    }
}

/// The newer one of the list that was copied here and the one that was handed over. The latter is of no use where
/// the files are of another authority by now.
fn revoked(
    paths: &Paths,
    authorities: &[CertificateDer<'static>],
) -> Result<Option<RevocationList>, Untrusted> {
    let copied = match &paths.crl {
        Some(path) if path.exists() || !paths.crl_is_optional => Some(files::revocations(path)?),
        _ => None,
    };
    let handed = paths.handed.as_ref().filter(|path| path.exists());
    let handed = handed.map(|path| files::revocations(path)).transpose()?;
    let handed = handed.filter(|list| authorities.iter().any(|authority| list.is_of(authority)));
    Ok(copied.into_iter().chain(handed).max_by_key(RevocationList::number))
}

fn trust(
    paths: &Paths,
    authorities: &[CertificateDer<'static>],
    revoked: Option<&RevocationList>,
    provider: &Arc<CryptoProvider>,
) -> Result<Trust, Untrusted> {
    let mut roots = RootCertStore::empty();
    for der in authorities {
        roots.add(der.clone()).map_err(|_| {
            FileError::new(&paths.ca, "it is no certificate of an authority", "copy ca.pem anew")
        })?;
    }
    let crl = revoked.map(|list| list.der().clone());
    let roots = Arc::new(roots);
    let unusable = |error: &dyn fmt::Display| {
        let path = paths.crl.as_ref().unwrap_or(&paths.ca);
        Untrusted::from(FileError::new(
            path,
            error,
            "copy ca.pem and crl.pem anew from one folder of `edgeprof pki`",
        ))
    };
    let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .with_crls(crl.clone())
        .build()
        .map_err(|error| unusable(&error))?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .with_crls(crl)
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(&error))?;
    Ok(Trust { servers, clients, provider: provider.clone() })
}

fn mine(paths: &Paths, own: Own, provider: &CryptoProvider) -> Result<Mine, Untrusted> {
    let files::Credentials { certificate, chain, key } = files::credentials(&paths.cert, &paths.key)?;
    let Some(identity) = certificate.identity.clone().filter(|identity| own.is(identity)) else {
        let what =
            format!("it is the certificate of {}, and this is a {}", certificate.holder(), own.as_str());
        let hint = format!("name the folder that `edgeprof pki issue {} …` has written", own.as_str());
        return Err(FileError::new(&paths.cert, what, hint).into());
    };
    let unusable = |what: &str| {
        let hint = format!("`edgeprof pki renew {}`, and copy its folder whole", names::path(&identity));
        Untrusted::from(FileError::new(&paths.key, what, hint))
    };
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| unusable("it is no private key that can be used"))?;
    let chain: Vec<CertificateDer<'static>> = chain;
    let key = CertifiedKey::new(chain, key);
    key.keys_match().map_err(|_| unusable("it is not the key of the certificate"))?;
    Ok(Mine { certificate, identity, key: Arc::new(key), path: paths.cert.clone() })
}
