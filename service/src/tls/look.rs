//! Looks at whoever serves TLS at an address, without speaking to them.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use edgeprof_common::Identity;
use edgeprof_identity::Certificate;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    Keeper, Untrusted,
    loaded::{ALPN, Trust, VERSIONS},
    verify::{judge_server, verify_signatures},
    words::not_taken,
};

/// Who serves TLS somewhere, as far as their certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Their certificate. Without certificates of one's own nothing says that it is true.
    pub certificate: Certificate,
    /// Whether they are of the lab whose certificates are given; absent where none are.
    pub ours: Option<Result<Identity, Untrusted>>,
}

/// Greets whoever listens at `address`, and leaves once they have shown a certificate. Nothing is sent to them.
///
/// # Errors
/// When nobody is there, or no TLS is spoken.
pub async fn look(address: std::net::SocketAddr, keeper: Option<&Keeper>) -> io::Result<Seen> {
    let provider = Arc::new(ring::default_provider());
    let (seen, trust) = (Arc::new(Mutex::new(None)), keeper.map(|keeper| keeper.loaded().trust.clone()));
    let verifier = Onlooker { provider: provider.clone(), trust, seen: seen.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let name = ServerName::from(address.ip());
    let tcp = TcpStream::connect(address).await?;
    let met = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map(drop);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    seen.ok_or_else(|| met.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into()))
}

/// Lets everybody pass, which is safe as nothing is said to them.
#[derive(Debug)]
struct Onlooker {
    provider: Arc<CryptoProvider>,
    trust: Option<Trust>,
    seen: Arc<Mutex<Option<Seen>>>,
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = |trust| judge_server(trust, end_entity, intermediates, now);
        let ours = self.trust.as_ref().map(judged).map(|judged| match judged {
            Ok((_, identity)) => Ok(identity),
            Err(judged) => Err(not_taken(&judged)),
        });
        if let Ok(certificate) = Certificate::read(end_entity) {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { certificate, ours });
        }
        Ok(ServerCertVerified::assertion())
    }

    verify_signatures!(provider);
}
