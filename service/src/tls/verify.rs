//! Judges certificates: signed by the lab's authority, in time, not revoked, and of whom it should be.

use std::sync::{Arc, Mutex, PoisonError};

use edgeprof_common::Identity;
use edgeprof_identity::{Certificate, names};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{Demand, Refusal, Untrusted, loaded::Trust, words::not_taken};

/// Signatures of a handshake, verified in the same way on all sides, with the provider in this field.
macro_rules! verify_signatures {
    ($($provider:ident).+) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.$($provider).+.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.$($provider).+.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$($provider).+.signature_verification_algorithms.supported_schemes()
        }
    };
}

pub(super) use verify_signatures;

/// A certificate that is not taken.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) refusal: Refusal,
    pub(super) certificate: Option<Box<Certificate>>,
    pub(super) why: String,
    /// What the handshake ends with.
    pub(super) error: Error,
}

impl Judged {
    fn new(certificate: Option<Certificate>, error: Error) -> Self {
        let error = unforged(error);
        let refusal = Refusal::of(&error);
        let why = why(refusal, certificate.as_ref(), &error);
        Self { refusal, certificate: certificate.map(Box::new), why, error }
    }

    /// A good certificate of somebody who is not served, or not sought.
    fn other(certificate: Certificate, why: String) -> Self {
        let error = CertificateError::ApplicationVerificationFailure.into();
        Self { refusal: Refusal::WrongIdentity, certificate: Some(certificate.into()), why, error }
    }
}

/// Whoever takes our authority's name and signs with another key is of another authority.
fn unforged(error: Error) -> Error {
    #[allow(deprecated)]
    match error {
        Error::InvalidCertificate(
            CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => CertificateError::UnknownIssuer.into(),
        other => other,
    }
}

fn why(refusal: Refusal, certificate: Option<&Certificate>, error: &Error) -> String {
    let Some(certificate) = certificate else { return "it is no certificate".into() };
    match refusal {
        Refusal::Expired => {
            let (from, until) = (certificate.not_before, certificate.not_after);
            let now = time::OffsetDateTime::now_utc();
            if now > until {
                return format!("it has expired on {}", day(until));
            }
            format!("it is good from {} on only; here it is {}: set the clock", day(from), day(now))
        }
        Refusal::Revoked => "it was revoked".into(),
        Refusal::OtherAuthority => format!("it was issued by another authority, {:?}", certificate.issuer),
        _ => error.to_string(),
    }
}

fn day(at: time::OffsetDateTime) -> String {
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// Judges the certificate of who dialled.
pub(super) fn judge_client(
    trust: &Trust,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(Certificate, Identity), Judged> {
    let certificate = Certificate::read(end_entity).ok();
    if let Err(error) = trust.clients.verify_client_cert(end_entity, intermediates, now) {
        return Err(Judged::new(certificate, error));
    }
    named(certificate)
}

/// Judges the certificate of who was dialled.
pub(super) fn judge_server(
    trust: &Trust,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(Certificate, Identity), Judged> {
    let certificate = Certificate::read(end_entity).ok();
    // The DNS name only repeats the identity; one without an identity is refused below, if not before.
    let name = match certificate.as_ref().and_then(|certificate| certificate.identity.as_ref()) {
        Some(identity) => names::dns(identity),
        None => "unnamed.edgeprof.internal".into(),
    };
    let verified = ServerName::try_from(name)
        .map_err(|_| Error::from(CertificateError::BadEncoding))
        .and_then(|name| trust.servers.verify_server_cert(end_entity, intermediates, &name, &[], now));
    match verified {
        Err(error) => Err(Judged::new(certificate, error)),
        Ok(_) => named(certificate),
    }
}

fn named(certificate: Option<Certificate>) -> Result<(Certificate, Identity), Judged> {
    match certificate {
        Some(certificate) => match certificate.identity.clone() {
            Some(identity) => Ok((certificate, identity)),
            None => Err(Judged::other(certificate, "it names nobody of a lab".into())),
        },
        None => Err(Judged::new(None, CertificateError::BadEncoding.into())),
    }
}

/// At the door of a daemon.
#[derive(Debug)]
pub(super) struct AtTheDoor {
    pub(super) trust: Trust,
    /// A worker is commanded by its lab's coordinator, and by nobody else.
    pub(super) coordinator_only: bool,
    /// Whoever it is, or why not.
    pub(super) seen: Arc<Mutex<Option<Result<Certificate, Judged>>>>,
}

impl ClientCertVerifier for AtTheDoor {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.coordinator_only
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let served = |(certificate, identity): (Certificate, Identity)| {
            let wanted = match &identity {
                Identity::Coordinator => self.coordinator_only,
                Identity::Client { .. } => !self.coordinator_only,
                Identity::Worker(_) => false,
            };
            let served = if self.coordinator_only { "the lab's coordinator" } else { "clients" };
            if wanted {
                Ok(certificate)
            } else {
                Err(Judged::other(certificate, format!("only {served} may connect")))
            }
        };
        let judged = judge_client(&self.trust, end_entity, intermediates, now).and_then(served);
        let verified = match &judged {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(judged) => Err(judged.error.clone()),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
        verified
    }

    verify_signatures!(trust.provider);
}

/// Judges whom a dial has reached.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) trust: Trust,
    pub(super) demand: Demand,
    /// Whoever it is, or why not.
    pub(super) seen: Arc<Mutex<Option<Result<Certificate, Untrusted>>>>,
}

impl Reached {
    fn judge(&self, certificate: Certificate, identity: &Identity) -> Result<Certificate, Judged> {
        if self.demand.met_by(identity) {
            return Ok(certificate);
        }
        Err(Judged::other(certificate, format!("{} was sought there", self.demand)))
    }
}

impl ServerCertVerifier for Reached {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = judge_server(&self.trust, end_entity, intermediates, now)
            .and_then(|(certificate, identity)| self.judge(certificate, &identity));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match judged {
            Ok(certificate) => {
                *seen = Some(Ok(certificate));
                Ok(ServerCertVerified::assertion())
            }
            Err(judged) => {
                *seen = Some(Err(not_taken(&judged)));
                Err(judged.error)
            }
        }
    }

    verify_signatures!(trust.provider);
}
