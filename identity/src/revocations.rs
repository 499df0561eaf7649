//! Lists of what is revoked.

use std::fmt;

use rustls_pki_types::CertificateRevocationListDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::Serial;

/// Bytes that are no revocation list of an authority as ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no X.509 revocation list with a number")]
pub struct NoList;

/// A list of what an authority has revoked. That it was read says nothing of whether it is to be trusted:
/// [`Self::is_of`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct RevocationList {
    der: CertificateRevocationListDer<'static>,
    number: u64,
    revoked: Vec<Serial>,
}

impl RevocationList {
    /// Reads the DER encoding.
    ///
    /// # Errors
    /// When it is none, or has no number by which it is told from an older one.
    pub fn read(der: &[u8]) -> Result<Self, NoList> {
        let (rest, parsed) = CertificateRevocationList::from_der(der).map_err(|_| NoList)?;
        if !rest.is_empty() {
            return Err(NoList);
        }
        let number = parsed.crl_number().ok_or(NoList)?.to_bytes_be();
        let number = number.iter().try_fold(0_u64, |sum, byte| {
            sum.checked_mul(256).map(|shifted| shifted | u64::from(*byte)).ok_or(NoList)
        })?;
        let revoked = parsed.iter_revoked_certificates();
        Ok(Self {
            revoked: revoked.map(|one| Serial::from_bytes(one.raw_serial())).collect(),
            der: der.to_vec().into(),
            number,
        })
    }

    /// Whether the authority with this certificate, in its DER encoding, has signed it.
    pub fn is_of(&self, authority: &[u8]) -> bool {
        let Ok((_, list)) = CertificateRevocationList::from_der(&self.der) else { return false };
        let Ok((_, authority)) = X509Certificate::from_der(authority) else { return false };
        list.issuer().as_raw() == authority.subject().as_raw()
            && list.verify_signature(authority.public_key()).is_ok()
    }

    /// Rises with every list of an authority.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The certificates that are on it.
    pub fn revoked(&self) -> &[Serial] {
        &self.revoked
    }

    /// Its DER encoding.
    pub fn der(&self) -> &CertificateRevocationListDer<'static> {
        &self.der
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("number", &self.number)
            .field("revoked", &self.revoked)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use edgeprof_common::Identity;
    use time::OffsetDateTime;

    use super::*;
    use crate::{Authority, Order, Reason, files};

    fn authority(folder: &tempfile::TempDir) -> Authority {
        Authority::init(&folder.path().join("pki"), "attic", OffsetDateTime::now_utc()).unwrap()
    }

    #[test]
    fn each_list_of_an_authority_has_a_higher_number_and_its_signature() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut ours, theirs) = (authority(&folder), authority(&other));
        let now = OffsetDateTime::now_utc();
        let first = files::revocations(&ours.revocations()).unwrap();
        let identity = Identity::Worker("host-1".into());
        let issued = ours.issue(&Order { identity, lifetime: None, again: false, out: None }, now).unwrap();
        ours.revoke("host-1", Reason::KeyCompromise, now).unwrap();
        let second = files::revocations(&ours.revocations()).unwrap();
        assert!(second.number() > first.number() && first.revoked().is_empty());
        assert_eq!(second.revoked(), [issued.serial]);
        let ca = |authority: &Authority| files::certificates(&authority.certificate()).unwrap().remove(0);
        assert!(second.is_of(&ca(&ours)) && !second.is_of(&ca(&theirs)));

        // Another number under the old signature.
        let mut forged = second.der().to_vec();
        let last = forged.iter().rposition(|byte| *byte == second.number() as u8).unwrap();
        for at in 0..=last {
            if forged[at] == second.number() as u8 {
                forged[at] = 99;
                let list = RevocationList::read(&forged);
                assert!(!list.is_ok_and(|list| list.is_of(&ca(&ours))), "at {at}");
                forged[at] = second.number() as u8;
            }
        }
        assert_eq!(RevocationList::read(b"no list"), Err(NoList));
    }
}
