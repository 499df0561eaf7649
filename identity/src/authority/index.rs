//! What was issued and what became of it: `index.toml`, one table a certificate, never one less.

use std::{fmt, fs, path::Path, str::FromStr};

use edgeprof_common::Identity;
use rcgen::{RevocationReason, RevokedCertParams, SerialNumber};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{disk, error::PkiError};
use crate::{Serial, files::FileError, names};

/// Why a certificate was revoked, of those that RFC 5280 knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nobody said.
    #[default]
    Unspecified,
    /// Somebody else may have its key.
    KeyCompromise,
    /// Another one took its place.
    Superseded,
    /// What it was for is no more.
    CessationOfOperation,
    /// Its holder is not to have access any more.
    PrivilegeWithdrawn,
}

impl Reason {
    const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }

    const fn code(self) -> Option<RevocationReason> {
        match self {
            // RFC 5280: absent instead of unspecified.
            Self::Unspecified => None,
            Self::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Self::Superseded => Some(RevocationReason::Superseded),
            Self::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            Self::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| format!("not a reason; one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Whether a certificate is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Good,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Whose it is.
    pub identity: Identity,
    /// Its number.
    pub serial: Serial,
    /// Since when it is good.
    pub from: OffsetDateTime,
    /// Until when it is good.
    pub until: OffsetDateTime,
    /// When it was taken back, and why.
    pub revoked: Option<(OffsetDateTime, Reason)>,
}

impl Issued {
    /// Whether it is in force.
    pub fn standing(&self, now: OffsetDateTime) -> Standing {
        match self.revoked {
            Some(_) => Standing::Revoked,
            None if now > self.until => Standing::Expired,
            None => Standing::Good,
        }
    }

    /// As a revocation list has it.
    pub(super) fn revocation(&self) -> Option<RevokedCertParams> {
        let (at, reason) = self.revoked?;
        Some(RevokedCertParams {
            serial_number: SerialNumber::from_slice(self.serial.bytes()),
            revocation_time: at,
            reason_code: reason.code(),
            invalidity_date: None,
        })
    }
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    certificate: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    serial: String,
    identity: String,
    #[serde(with = "time::serde::rfc3339")]
    from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    until: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", default, skip_serializing_if = "Option::is_none")]
    revoked: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

pub(super) fn read(path: &Path) -> Result<Vec<Issued>, PkiError> {
    let hint = "restore it from a backup: without it nothing can be revoked";
    let damaged = |what: String| PkiError::from(FileError::new(path, what, hint));
    let text = fs::read_to_string(path).map_err(|error| damaged(error.to_string()))?;
    let document: Document = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    let issued = |row: Row| {
        Some(Issued {
            identity: names::identity(&row.identity)?,
            serial: Serial::parse(&row.serial)?,
            from: row.from,
            until: row.until,
            revoked: row.revoked.map(|at| (at, row.reason.unwrap_or_default())),
        })
    };
    let rows = document.certificate.into_iter().enumerate();
    rows.map(|(at, row)| issued(row).ok_or_else(|| damaged(format!("certificate {} is damaged", at + 1))))
        .collect()
}

pub(super) fn write(path: &Path, all: &[Issued]) -> Result<(), PkiError> {
    let row = |one: &Issued| Row {
        serial: one.serial.to_string(),
        identity: names::uri(&one.identity),
        from: one.from,
        until: one.until,
        revoked: one.revoked.map(|(at, _)| at),
        reason: one.revoked.map(|(_, reason)| reason),
    };
    let document = Document { certificate: all.iter().map(row).collect() };
    let text = toml::to_string(&document).map_err(|error| PkiError::Make(error.to_string()))?;
    disk::write(path, text.as_bytes(), 0o600).map_err(PkiError::io(path))
}
