//! What the lab's certificates look like: ECDSA P-256, one name, one purpose a kind.

use edgeprof_common::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error,
    ExtendedKeyUsagePurpose as Purpose, IsCa, KeyUsagePurpose as Usage, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::{Serial, names};

/// How long an authority is good.
pub(crate) const AUTHORITY: Duration = Duration::days(3652);

/// A certificate is good from so long before it was issued: clocks of small boards' hosts are off.
pub(crate) const SKEW: Duration = Duration::hours(1);

/// How long a certificate is good where nobody says otherwise.
pub(crate) const fn lifetime(identity: &Identity) -> Duration {
    match identity {
        Identity::Coordinator | Identity::Worker(_) => Duration::days(90),
        Identity::Client { .. } => Duration::days(30),
    }
}

/// The authority of a lab. Its name carries its serial: two labs of one name are told apart by whoever reads it,
/// and a certificate of the other one is of an unknown issuer, instead of one with a broken signature.
pub(crate) fn authority(lab: &str, serial: &Serial, now: OffsetDateTime) -> CertificateParams {
    let short: String = serial.to_string().chars().take(8).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("edgeprof lab {lab} {short}"));
    params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
    params.not_before = now - SKEW;
    params.not_after = now + AUTHORITY;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![Usage::KeyCertSign, Usage::CrlSign];
    params
}

/// A certificate of `identity`.
pub(crate) fn leaf(
    identity: &Identity,
    serial: &Serial,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&names::path(identity));
    params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
    params.not_before = from;
    params.not_after = until;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![Usage::DigitalSignature];
    params.subject_alt_names = vec![
        SanType::URI(names::uri(identity).try_into()?),
        SanType::DnsName(names::dns(identity).try_into()?),
    ];
    params.extended_key_usages = match identity {
        // It serves clients and dials workers.
        Identity::Coordinator => vec![Purpose::ServerAuth, Purpose::ClientAuth],
        Identity::Worker(_) => vec![Purpose::ServerAuth],
        Identity::Client { .. } => vec![Purpose::ClientAuth],
    };
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
