//! What can go wrong between a client and its cluster.

use std::{path::PathBuf, time::Duration};

use edgeprof_proto::BridgeError;
use edgeprof_service::{status, tls::Untrusted};
use tonic::{Code, Status};

/// Why a request did not get its answer. [`ClientError::hint`] has the way out, where one is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answered where a coordinator should be.
    #[error("no coordinator reachable\n  tried {}", tried.join("\n  tried "))]
    Unreachable {
        /// Who was tried, where that address came from, and what happened.
        tried: Vec<String>,
    },
    /// Somebody answers, and certificates keep us from speaking.
    #[error("no trust between this client and {address}: {why}")]
    Untrusted {
        /// Who was dialled.
        address: String,
        /// Why.
        why: Untrusted,
    },
    /// More than one coordinator announced itself.
    #[error("more than one coordinator answers on this network:\n  {}", found.join("\n  "))]
    Ambiguous {
        /// Address, name and site of each.
        found: Vec<String>,
    },
    /// The text is no address.
    #[error("not an address: {address:?}")]
    Address {
        /// The text.
        address: String,
    },
    /// The connection broke and did not come back in time.
    #[error("lost the coordinator at {address}: {reason}")]
    Lost {
        /// Who was spoken to.
        address: String,
        /// What the connection said last.
        reason: String,
    },
    /// The coordinator understood the request and does not do it.
    #[error("{message}")]
    Refused {
        /// Its code.
        code: Code,
        /// Its words.
        message: String,
        /// Its advice.
        hint: Option<String>,
    },
    /// There is no room for it now.
    #[error("{message}")]
    Full {
        /// The coordinator's words.
        message: String,
        /// After how long trying again makes sense.
        retry_after: Duration,
        /// Its advice.
        hint: Option<String>,
    },
    /// The coordinator could not do what it should have.
    #[error("the coordinator failed: {message}")]
    Failed {
        /// Its words.
        message: String,
        /// Its advice.
        hint: Option<String>,
    },
    /// The coordinator answers, but what it needs for this is out of its reach, such as a board's worker.
    #[error("{message}")]
    Away {
        /// Its words.
        message: String,
        /// Its advice.
        hint: Option<String>,
    },
    /// An answer that this client does not understand.
    #[error("the coordinator sent a {0}")]
    Malformed(#[from] BridgeError),
    /// A local file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A local model or tokenizer file cannot be used.
    #[error("{}: {message}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A token that cannot be used, or not here.
    #[error("{message}")]
    Token {
        /// Why.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// The client's own configuration file is wrong.
    #[error(transparent)]
    Config(#[from] edgeprof_service::config::ConfigError),
}

impl ClientError {
    /// Whether the cluster is out of reach, in contrast to a request that is wrong.
    pub const fn unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Untrusted { .. }
                | Self::Lost { .. }
                | Self::Failed { .. }
                | Self::Away { .. }
                | Self::Malformed(_)
        )
    }

    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "start one with `edgeprof-coordinator`, or name one with --coordinator URL or EDGEPROF_COORDINATOR"
                    .into(),
            ),
            Self::Untrusted { why, .. } => Some(why.hint.clone()),
            Self::Ambiguous { .. } => Some("choose one with --coordinator URL or EDGEPROF_COORDINATOR".into()),
            Self::Address { .. } => Some("write it as HOST:PORT, https://HOST:PORT or http://HOST:PORT".into()),
            Self::Lost { .. } => Some("what was submitted is kept; ask again when it is back".into()),
            Self::Refused { hint, .. }
            | Self::Failed { hint, .. }
            | Self::Away { hint, .. }
            | Self::Model { hint, .. } => hint.clone(),
            Self::Token { hint, .. } => Some(hint.clone()),
            Self::Full { retry_after, hint, .. } => Some(
                hint.clone()
                    .unwrap_or_else(|| format!("try again after {} s", retry_after.as_secs_f64().ceil())),
            ),
            Self::Malformed(_) => Some("use the edgeprof client of the coordinator's version".into()),
            Self::File { .. } => Some("check the path and its permissions".into()),
            Self::Config(_) => None,
        }
    }

    /// What a status that is no broken connection means.
    pub(crate) fn from_status(status: &Status) -> Self {
        let (message, hint) = (status.message().to_owned(), status::hint(status));
        if let Some(retry_after) = status::retry_after(status) {
            return Self::Full { message, retry_after, hint };
        }
        match status.code() {
            Code::Unavailable if hint.is_some() => Self::Away { message, hint },
            Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable => {
                Self::Failed { message, hint }
            }
            Code::Unimplemented => Self::Failed {
                message: if message.is_empty() { "it does not know this request".into() } else { message },
                hint: hint.or_else(|| Some("use the edgeprof client of the coordinator's version".into())),
            },
            code => Self::Refused {
                code,
                message: if message.is_empty() { format!("refused: {code:?}") } else { message },
                hint,
            },
        }
    }
}

/// What broke the connection, where that is what the status says: it then has a local cause, or the
/// server is going away.
pub(crate) fn transport(status: &Status) -> Option<String> {
    use std::error::Error;
    let mut cause = status.source();
    // Whoever knows a way out of it speaks of something else than itself.
    let leaving = status.code() == Code::Unavailable && status::hint(status).is_none();
    if cause.is_none() && !leaving {
        return None;
    }
    let mut reason = status.message().to_owned();
    while let Some(error) = cause {
        reason = error.to_string();
        cause = error.source();
    }
    Some(reason)
}
