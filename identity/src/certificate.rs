//! What a certificate says.

use std::fmt;

use edgeprof_common::Identity;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::names;

/// Bytes that are no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no X.509 certificate")]
pub struct Unreadable;

/// A certificate's number, unique within its authority.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// A fresh one of 126 random bits: always sixteen bytes, and positive.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        if let Some(first) = bytes.first_mut() {
            *first = (*first & 0x3f) | 0x40;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// From its bytes, the highest first.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes.iter().skip(zeros).copied().collect())
    }

    /// Its bytes, the highest first, without leading zeros.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// From what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let pairs = text.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| {
                u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().filter(|_| pair.len() == 2)
            })
            .collect();
        bytes.filter(|bytes| !bytes.is_empty() && !text.contains('+')).map(|bytes| Self::from_bytes(&bytes))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is to be known of a certificate. That it was read says nothing of whether it is to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is; absent where it says that not at all, more than once, or not as [`names`] does.
    pub identity: Option<Identity>,
    /// Its number.
    pub serial: Serial,
    /// Its subject's common name, which nothing is decided by.
    pub subject: String,
    /// The common name of whoever issued it, which nothing is decided by.
    pub issuer: String,
    /// Since when it is good.
    pub not_before: OffsetDateTime,
    /// Until when it is good.
    pub not_after: OffsetDateTime,
}

impl Certificate {
    /// Reads the DER encoding.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| Unreadable)?;
        if !rest.is_empty() {
            return Err(Unreadable);
        }
        let moment = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Unreadable);
        let validity = parsed.validity();
        let common = |name: &x509_parser::prelude::X509Name<'_>| {
            let text = name.iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
            text.chars().filter(|c| !c.is_control()).take(80).collect()
        };
        Ok(Self {
            identity: identity(&parsed),
            serial: Serial::from_bytes(parsed.raw_serial()),
            subject: common(parsed.subject()),
            issuer: common(parsed.issuer()),
            not_before: moment(validity.not_before.timestamp())?,
            not_after: moment(validity.not_after.timestamp())?,
        })
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: OffsetDateTime) -> bool {
        now > self.not_after
    }

    /// Whom it names, for messages.
    pub fn holder(&self) -> String {
        match &self.identity {
            Some(identity) => identity.to_string(),
            None => format!("{:?}", self.subject),
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} of {}", self.serial, self.holder())
    }
}

/// One URI of ours: two would leave open which of them counts.
fn identity(parsed: &X509Certificate<'_>) -> Option<Identity> {
    let names = parsed.subject_alternative_name().ok()??;
    let mut ours = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with(names::SCHEME) => Some(*uri),
        _ => None,
    });
    match (ours.next(), ours.next()) {
        (Some(uri), None) => names::identity(uri),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn with(names: &[&str]) -> Certificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.iter().map(|n| SanType::URI((*n).try_into().unwrap())).collect();
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::read(made.der()).unwrap()
    }

    #[test]
    fn a_certificate_that_says_two_names_says_none() {
        assert_eq!(with(&["edgeprof:worker/a"]).identity, Some(Identity::Worker("a".into())));
        assert_eq!(with(&["https://x", "edgeprof:worker/a"]).identity, Some(Identity::Worker("a".into())));
        assert_eq!(with(&["edgeprof:worker/a", "edgeprof:coordinator"]).identity, None);
        assert_eq!(with(&["edgeprof:worker/a", "edgeprof:nonsense"]).identity, None);
        assert_eq!(with(&["https://x"]).identity, None);
        assert_eq!(with(&[]).identity, None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, at in 0..400usize, with in any::<u8>()) {
            let _ = Certificate::read(&bytes);
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.subject_alt_names.push(SanType::URI("edgeprof:worker/a".try_into().unwrap()));
            let mut der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
            let at = at % der.len();
            der[at] ^= with;
            let _ = Certificate::read(&der);
            let _ = Certificate::read(&der[..at]);
        }

        #[test]
        fn serials_round_trip_and_no_text_panics(bytes: Vec<u8>, text: String) {
            let serial = Serial::from_bytes(&bytes);
            if !serial.bytes().is_empty() {
                prop_assert_eq!(Serial::parse(&serial.to_string()), Some(serial));
            }
            let _ = Serial::parse(&text);
        }
    }
}
