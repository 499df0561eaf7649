//! What is refused, in words and in numbers.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edgeprof_service::{
    status::{exhausted, with_hint},
    telemetry::metrics::{observe, table},
};
use tonic::{Code, Status};

/// Why something is refused, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller has shown nothing.
    NoCredentials,
    /// What was shown is no token of this coordinator.
    UnknownToken,
    /// The token has expired.
    ExpiredToken,
    /// The token was readable by everybody on the way.
    TokenInTheClear,
    /// The certificate is a daemon's.
    NotAClient,
    /// The role is too low.
    Role,
    /// The token is limited to other RPCs.
    Scope,
    /// It is somebody else's.
    Owner,
    /// A submitter has as much as it may have.
    Quota,
    /// There is no such RPC.
    NoSuchRpc,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::NoCredentials,
        Self::UnknownToken,
        Self::ExpiredToken,
        Self::TokenInTheClear,
        Self::NotAClient,
        Self::Role,
        Self::Scope,
        Self::Owner,
        Self::Quota,
        Self::NoSuchRpc,
    ];

    /// Its word, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken => "expired_token",
            Self::TokenInTheClear => "token_in_the_clear",
            Self::NotAClient => "not_a_client",
            Self::Role => "role",
            Self::Scope => "scope",
            Self::Owner => "owner",
            Self::Quota => "quota",
            Self::NoSuchRpc => "no_such_rpc",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A refusal with its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    code: Code,
    message: String,
    hint: String,
    /// When trying again makes sense, if it does.
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Whoever it is has to say so, or otherwise.
    pub fn unauthenticated(reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, reason, message, hint)
    }

    /// Whoever it is may not.
    pub fn denied(reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, reason, message, hint)
    }

    /// With a code of its own.
    pub fn new(code: Code, reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason, code, message: message.into(), hint: hint.into(), retry_after: None }
    }

    /// There is no room now, and may be later.
    pub fn later(reason: Reason, message: impl Into<String>, retry_after: Duration) -> Self {
        let refusal = Self::new(Code::ResourceExhausted, reason, message, "");
        Self { retry_after: Some(retry_after), ..refusal }
    }

    /// Why, as it is counted.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Why, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// As it is answered.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.retry_after {
            Some(after) => exhausted(&self.message, after),
            None => with_hint(
                self.code,
                &self.message,
                Some(&self.hint).filter(|hint| !hint.is_empty()).map(String::as_str),
            ),
        }
    }
}

/// How often what was refused since the start.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; Reason::ALL.len()],
}

impl Refusals {
    /// One more.
    pub(super) fn count(&self, reason: Reason) {
        if let Some(count) = self.counts.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has them counted as metrics.
    pub(super) fn watch(self: &Arc<Self>) {
        let refusals = self.clone();
        observe(&table::CALLS_REFUSED, move |seen| {
            for reason in Reason::ALL {
                seen.is(refusals.of(reason) as f64, &[("reason", reason.as_str())]);
            }
        });
    }

    /// How often this.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.counts.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let refusals = Refusals::default();
        for (times, reason) in (1..).zip(Reason::ALL) {
            (0..times).for_each(|_| refusals.count(reason));
        }
        for (times, reason) in (1..).zip(Reason::ALL) {
            assert_eq!(refusals.of(reason), times, "{reason}");
            let text = include_str!("../../../docs/security.md");
            assert!(text.contains(&format!("`{reason}`")), "{reason} is not documented");
        }
    }
}
