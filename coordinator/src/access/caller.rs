//! Who calls.

use std::{fmt, net::SocketAddr};

use edgeprof_common::Role;
use tonic::{Request, Status};

use super::{Reason, Refusal};

/// How a caller has shown who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a certificate of the lab.
    Certificate,
    /// By a bearer token.
    Token,
    /// Not at all: on a connection without TLS everybody is this machine's.
    Loopback,
}

impl Via {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Loopback => "loopback",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who calls, as a request's extensions carry it behind the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Their name: that of the certificate or of the token.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// How that was shown.
    pub via: Via,
    /// Where the call comes from.
    pub address: SocketAddr,
}

impl Caller {
    /// Name of whoever has shown nothing and has said nothing.
    pub const LOCAL: &'static str = "local";

    /// Who sent a request.
    ///
    /// # Errors
    /// When it did not pass the guard.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let unguarded = || Status::internal("the request came past the guard");
        request.extensions().get::<Self>().cloned().ok_or_else(unguarded)
    }

    /// Whether the name is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.via != Via::Loopback
    }

    /// The same, with the name that they say: where nothing is proven it is the only one there is.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        if self.is_proven() || name.is_empty() { self } else { Self { name: name.to_owned(), ..self } }
    }

    /// The name in which somebody acts who says that they are `claimed`. Where nothing is proven that is believed;
    /// else it may be left out, and to be another takes the role that `others` names, if any does.
    ///
    /// # Errors
    /// When that is somebody else's name.
    pub fn acting_as(&self, claimed: &str, others: Option<Role>) -> Result<String, Refusal> {
        if !self.is_proven() {
            return Ok(claimed.to_owned());
        }
        if claimed.is_empty() || claimed == self.name || others.is_some_and(|least| self.role >= least) {
            return Ok(if claimed.is_empty() { self.name.clone() } else { claimed.to_owned() });
        }
        let what = format!("{self} cannot act as {claimed}");
        let hint = match others {
            Some(least) => format!("leave out --as, or ask somebody with the role {least}"),
            None => "leave out --as: this is done in one's own name".into(),
        };
        Err(Refusal::denied(Reason::Owner, what, hint))
    }

    /// Refuses what somebody else owns, unless the role is at least `others`.
    ///
    /// # Errors
    /// When it is another's.
    pub fn owns(&self, what: &str, owner: &str, others: Role) -> Result<(), Refusal> {
        if !self.is_proven() || owner == self.name || self.role >= others {
            return Ok(());
        }
        let said = format!("{what} is {owner}'s, and {self} may end only their own");
        Err(Refusal::denied(Reason::Owner, said, format!("ask {owner}, or somebody with the role {others}")))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, by {})", self.name, self.role, self.via)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, via: Via) -> Caller {
        Caller { name: "ann".into(), role, via, address: ([127, 0, 0, 1], 1).into() }
    }

    #[test]
    fn who_is_proven_acts_in_their_own_name_and_an_operator_in_anothers() {
        let submitter = caller(Role::Submitter, Via::Token);
        let operators = Some(Role::Operator);
        assert_eq!(submitter.acting_as("", operators).unwrap(), "ann");
        assert_eq!(submitter.acting_as("ann", operators).unwrap(), "ann");
        let refusal = submitter.acting_as("bob", operators).unwrap_err();
        assert_eq!(refusal.message(), "ann (submitter, by token) cannot act as bob");
        let operator = caller(Role::Operator, Via::Certificate);
        assert_eq!(operator.acting_as("bob", operators).unwrap(), "bob");
        assert!(operator.acting_as("bob", None).is_err(), "marks are in one's own name");
        let local = caller(Role::Admin, Via::Loopback);
        assert_eq!(local.acting_as("bob", None).unwrap(), "bob");
        assert_eq!(local.acting_as("", operators).unwrap(), "", "who says nothing is nobody, as ever");
    }

    #[test]
    fn a_submitter_owns_what_is_theirs() {
        let of = |role, via| caller(role, via).owns("job j1", "bob", Role::Operator);
        assert!(of(Role::Submitter, Via::Token).is_err());
        assert!(of(Role::Operator, Via::Token).is_ok());
        assert!(of(Role::Submitter, Via::Loopback).is_ok(), "there nothing is anybody's");
        assert!(caller(Role::Submitter, Via::Token).owns("job j1", "ann", Role::Operator).is_ok());
    }
}
