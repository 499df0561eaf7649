//! Why the authority does not do what it was asked, and the way out.

use std::path::{Path, PathBuf};

use edgeprof_common::Identity;
use time::OffsetDateTime;

use crate::{
    files::FileError,
    names::{self, BadName},
};

/// Why the authority does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// There is one already.
    #[error("there is an authority in {} already", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no authority in {}", .0.display())]
    Absent(PathBuf),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The name has a certificate that is good.
    #[error("{name} has certificate {serial}, which is good until {}", day(*until))]
    Alive {
        /// As in `worker/host-1`.
        name: String,
        /// Of the certificate.
        serial: String,
        /// When it expires.
        until: OffsetDateTime,
    },
    /// No certificate has this name or serial.
    #[error("no certificate of this lab has the name or serial {0:?}")]
    Unknown(String),
    /// Certificates of several kinds have this name.
    #[error("{name:?} may be {}", of.join(" or "))]
    Ambiguous {
        /// As given.
        name: String,
        /// As in `worker/host-1`.
        of: Vec<String>,
    },
    /// Nothing is left to be revoked.
    #[error("no certificate of {0} is in force: all are revoked or have expired")]
    Over(String),
    /// Its last certificate is revoked.
    #[error("the last certificate of {} was revoked: it is not renewed", names::path(.0))]
    Revoked(Box<Identity>),
    /// The authority itself is over.
    #[error("the authority in {} has expired on {}", path.display(), day(*at))]
    Expired {
        /// Its folder.
        path: PathBuf,
        /// When.
        at: OffsetDateTime,
    },
    /// A lifetime of nothing.
    #[error("a certificate has to be good for a while")]
    NoTime,
    /// A folder that holds something else.
    #[error("{} holds {other:?}, which is none of what is written here", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What else is in it.
        other: String,
    },
    /// Making keys or signing failed.
    #[error("cannot make the certificate: {0}")]
    Make(String),
}

impl PkiError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::Exists(path) => format!(
                "use it as it is; for another lab give another folder with --dir; to begin anew, which refuses every \
                 certificate of this one, remove {}",
                path.display()
            ),
            Self::Absent(_) => {
                "make one with `edgeprof pki init`, or name its folder with --dir or EDGEPROF_PKI".into()
            }
            Self::File(error) => error.hint.clone(),
            Self::Name(_) => "choose another name".into(),
            Self::Alive { name, .. } => {
                format!(
                    "renew it with `edgeprof pki renew {name}`, or give --again for a second one beside it"
                )
            }
            Self::Unknown(_) => "`edgeprof pki list` has them all".into(),
            Self::Ambiguous { of, .. } => format!("write {}", of.join(" or ")),
            Self::Over(_) => "`edgeprof pki list` says when".into(),
            Self::Revoked(identity) => {
                format!("if it is to have one again: `{}`", names::issuing(identity))
            }
            Self::Expired { path, .. } => format!(
                "begin anew: move {} away, then `edgeprof pki init`, and issue every certificate again",
                path.display()
            ),
            Self::NoTime => "give --days 1 or more".into(),
            Self::Foreign { .. } => {
                "give an empty folder, or one that an earlier certificate was written to".into()
            }
            Self::Make(_) => "try again".into(),
        }
    }

    /// What the system says of a file of the authority.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| {
            FileError::new(path, error, "make it writable for this user, and room on its disk").into()
        }
    }
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}

impl From<getrandom::Error> for PkiError {
    fn from(error: getrandom::Error) -> Self {
        Self::Make(error.to_string())
    }
}

pub(super) fn day(at: OffsetDateTime) -> String {
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}
