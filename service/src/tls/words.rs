//! What a certificate that keeps two from speaking is, in words, with the way out.

use std::io;

use edgeprof_common::Identity;
use edgeprof_identity::{Certificate, names};
use rustls::AlertDescription;

use super::{Demand, Own, Refusal, Untrusted, verify::Judged};

/// Whom it speaks to, and with what certificate, for the words of a refusal.
#[derive(Debug)]
pub(super) struct PeerWords {
    pub(super) demand: Demand,
    pub(super) own: Option<Certificate>,
    pub(super) kind: Own,
}

impl PeerWords {
    /// What the other side, or rustls, means. The only place where alerts become words.
    pub(super) fn explain(&self, error: &io::Error) -> Option<Untrusted> {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::AlertReceived(alert)) => self.alert(*alert),
            Some(rustls::Error::InvalidMessage(_)) => Some(Untrusted::new(
                "what answers there speaks no TLS",
                "if it serves its own host only, write http:// there; else give it certificates with --tls-dir",
            )),
            None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                Some(Untrusted::new(
                    "what answers there has closed the connection during the TLS handshake",
                    "it may have no certificates (then write http:// on its own host), or too many connections: its \
                     log says which",
                ))
            }
            _ => None,
        }
    }

    fn alert(&self, alert: AlertDescription) -> Option<Untrusted> {
        let peer = &self.demand;
        let Some(own) = &self.own else {
            let asks =
                matches!(alert, AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure);
            return asks.then(|| {
                let hint = "give one with --tls-dir, as `edgeprof pki issue` writes it";
                Untrusted::new(
                    format!("{peer} asks for a certificate, and this {} has none", self.kind.as_str()),
                    hint,
                )
            });
        };
        let name = own.identity.as_ref().map(names::path).unwrap_or_default();
        let issuing = own.identity.as_ref().map(names::issuing).unwrap_or_default();
        let (why, hint) = match alert {
            AlertDescription::CertificateRevoked => {
                ("it was revoked", format!("if it is to have access again: `{issuing}`"))
            }
            AlertDescription::CertificateExpired => (
                "it has expired, by the clock there",
                format!("`edgeprof pki renew {name}`, and copy its folder here; or set the clock there"),
            ),
            AlertDescription::UnknownCA => (
                "it was issued by another authority than the one that is trusted there",
                "check the address; if it is right, take both certificates from one lab's `edgeprof pki`"
                    .into(),
            ),
            AlertDescription::CertificateRequired => {
                ("no certificate was shown", "name one with --tls-dir".into())
            }
            AlertDescription::AccessDenied | AlertDescription::UnsupportedCertificate => {
                ("it is not one that is served there", "check the address".into())
            }
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError => (
                "it cannot be verified there",
                format!("`edgeprof pki renew {name}`, and copy its folder whole"),
            ),
            _ => return None,
        };
        Some(Untrusted::new(format!("{peer} refuses the {own}: {why}"), hint))
    }
}

/// What was dialled has shown a certificate that is not taken.
pub(super) fn not_taken(judged: &Judged) -> Untrusted {
    let Some(certificate) = &judged.certificate else {
        return Untrusted::new(
            "what answers there has shown no certificate that can be read",
            "check the address",
        );
    };
    let renewed =
        |name: &Identity| format!("`edgeprof pki renew {}`, and copy its folder there", names::path(name));
    let hint = match (judged.refusal, &certificate.identity) {
        (Refusal::Expired, Some(identity)) => renewed(identity),
        (Refusal::Revoked, Some(identity)) => {
            format!("if it is to serve again: `{}`", names::issuing(identity))
        }
        (Refusal::OtherAuthority, _) => {
            "check the address; if it is right, its certificates and yours are of two labs: take both from one".into()
        }
        _ => "check the address".into(),
    };
    Untrusted::new(format!("the {certificate} there is not taken: {}", judged.why), hint)
}
