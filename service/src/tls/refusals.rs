//! What was refused, counted by reason, and told once.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use edgeprof_identity::Certificate;
use rustls::{CertificateError, Error};
use tonic::{Code, Status, codegen::http::Response};

/// Certificates whose refusal was told; beyond that all are told anew.
const REMEMBERED: usize = 1024;

/// Why a connection or a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There are as many connections as may be.
    Full,
    /// There are as many from this address as may be.
    AddressFull,
    /// It had said nothing yet, and its place was wanted by who came after it.
    Displaced,
    /// It took too long to say what it wants.
    Slow,
    /// It does not speak what is spoken here.
    Protocol,
    /// The handshake failed for a reason that is no certificate's.
    Handshake,
    /// It showed no certificate.
    NoCertificate,
    /// Its certificate is of another authority.
    OtherAuthority,
    /// Its certificate has expired, or is not good yet.
    Expired,
    /// Its certificate was revoked.
    Revoked,
    /// Its certificate is good, but not one that is served here, or it has not its key.
    WrongIdentity,
    /// This process or system has no more descriptors.
    Descriptors,
    /// A message that is larger than any that is taken.
    Oversized,
    /// A message or a request that cannot be understood.
    Malformed,
    /// There are as many requests on its connection as may be.
    Requests,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Full,
        Self::AddressFull,
        Self::Displaced,
        Self::Slow,
        Self::Protocol,
        Self::Handshake,
        Self::NoCertificate,
        Self::OtherAuthority,
        Self::Expired,
        Self::Revoked,
        Self::WrongIdentity,
        Self::Descriptors,
        Self::Oversized,
        Self::Malformed,
        Self::Requests,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::Displaced => "displaced",
            Self::Slow => "slow",
            Self::Protocol => "protocol",
            Self::Handshake => "handshake",
            Self::NoCertificate => "no_certificate",
            Self::OtherAuthority => "other_authority",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::WrongIdentity => "wrong_identity",
            Self::Descriptors => "descriptors",
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Requests => "requests",
        }
    }

    /// What a failed handshake was refused for.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidMessage(_) => Self::Protocol,
            Error::InvalidCertificate(error) => match error {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::Revoked => Self::Revoked,
                CertificateError::UnknownIssuer => Self::OtherAuthority,
                _ => Self::WrongIdentity,
            },
            _ => Self::Handshake,
        }
    }
}

/// Counters of one process.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; Refusal::ALL.len()],
    told: Mutex<HashSet<(Refusal, String)>>,
}

impl Refusals {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn count(&self, refusal: Refusal) {
        if let Some(count) = self.counts.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many so far.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.counts.get(refusal as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Reason and number, zero as well.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL.into_iter().map(|refusal| (refusal.as_str(), self.of(refusal)))
    }

    /// One more if this is what a message, read from a stream, was refused for: too large, or none that can be
    /// understood. tonic looks at the length before it takes a message in.
    pub fn count_message(&self, status: &Status) {
        self.count_answer(status.code(), status.message());
    }

    fn count_answer(&self, code: Code, said: &str) {
        match code {
            Code::OutOfRange => self.count(Refusal::Oversized),
            Code::Internal if said.contains("decode") || said.starts_with("protocol") => {
                self.count(Refusal::Malformed);
            }
            _ => {}
        }
    }

    /// One more, told if it is the first of this certificate, or of this address where there is none.
    pub(super) fn tell(&self, refusal: Refusal, from: IpAddr, certificate: Option<&Certificate>, why: &str) {
        self.count(refusal);
        let key = certificate.map_or_else(|| from.to_string(), |certificate| certificate.serial.to_string());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        if !told.insert((refusal, key)) {
            return;
        }
        drop(told);
        let reason = refusal.as_str();
        match certificate {
            Some(certificate) => {
                let (holder, serial) = (certificate.holder(), &certificate.serial);
                tracing::warn!(%from, certificate = holder, %serial, reason, why, "a connection was refused");
            }
            None => tracing::warn!(%from, reason, why, "a connection was refused"),
        }
    }
}

/// Counts an answer that says that the message that was asked with was too large, or none that can be understood.
pub fn count_messages<B>(refusals: &Refusals, response: Response<B>) -> Response<B> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(code) = header("grpc-status").and_then(|code| code.parse().ok()) {
        refusals.count_answer(Code::from_i32(code), header("grpc-message").unwrap_or_default());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_word_of_its_own() {
        let refusals = Refusals::new();
        for (times, refusal) in Refusal::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| refusals.count(refusal));
        }
        let all: Vec<_> = refusals.all().collect();
        assert_eq!(all.iter().map(|(_, count)| *count).collect::<Vec<_>>(), (1..=15).collect::<Vec<u64>>());
        let words: HashSet<_> = all.iter().map(|(word, _)| word).collect();
        assert_eq!(words.len(), Refusal::ALL.len());
        let text = include_str!("../../../docs/security.md");
        assert!(words.iter().all(|word| text.contains(&format!("`{word}`"))), "{words:?}");
    }
}
