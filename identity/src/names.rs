//! How an identity is written in a certificate.
//!
//! As a URI, which says all: `edgeprof:coordinator`, `edgeprof:worker/host-1`, `edgeprof:client/ann?role=operator`.
//! Beside it stands a DNS name, for verifiers that can check nothing else; it says the same without the role.

use edgeprof_common::{Identity, Role};

/// What all URIs begin with.
pub const SCHEME: &str = "edgeprof:";

/// What all DNS names end with.
const DOMAIN: &str = "edgeprof.internal";

/// Longest name of a worker or a client: that of a DNS label.
const LONGEST: usize = 63;

/// A name that cannot stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a name in a certificate: letters, digits, '.', '_' and '-', at most {LONGEST}, with a letter \
     or a digit first, last, and beside each '.'"
)]
pub struct BadName(String);

/// Checks the name of a worker or a client.
///
/// # Errors
/// When it cannot be part of a URI, of a DNS name and of a path.
pub fn check(name: &str) -> Result<(), BadName> {
    let within = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let label = |label: &str| {
        edge(label.chars().next()) && edge(label.chars().next_back()) && label.chars().all(within)
    };
    if name.len() <= LONGEST && name.split('.').all(label) {
        return Ok(());
    }
    Err(BadName(name.chars().take(LONGEST + 1).collect()))
}

/// The URI of an identity.
pub fn uri(identity: &Identity) -> String {
    match identity {
        Identity::Coordinator => format!("{SCHEME}coordinator"),
        Identity::Worker(name) => format!("{SCHEME}worker/{name}"),
        Identity::Client { name, role } => format!("{SCHEME}client/{name}?role={role}"),
    }
}

/// The identity that a URI says; nothing where it is not exactly one that [`uri`] writes.
pub fn identity(uri: &str) -> Option<Identity> {
    let named = |name: &str| check(name).is_ok().then(|| name.to_owned());
    let said = uri.strip_prefix(SCHEME)?;
    if said == "coordinator" {
        return Some(Identity::Coordinator);
    }
    if let Some(name) = said.strip_prefix("worker/") {
        return Some(Identity::Worker(named(name)?));
    }
    let (name, role) = said.strip_prefix("client/")?.split_once("?role=")?;
    Some(Identity::Client { name: named(name)?, role: role.parse::<Role>().ok()? })
}

/// The DNS name of an identity.
pub fn dns(identity: &Identity) -> String {
    match identity {
        Identity::Coordinator => format!("coordinator.{DOMAIN}"),
        Identity::Worker(name) => format!("{name}.worker.{DOMAIN}"),
        Identity::Client { name, .. } => format!("{name}.client.{DOMAIN}"),
    }
}

/// The name that files, commands and people use: `coordinator`, `worker/host-1`, `client/ann`.
pub fn path(identity: &Identity) -> String {
    match identity {
        Identity::Coordinator => "coordinator".into(),
        Identity::Worker(name) => format!("worker/{name}"),
        Identity::Client { name, .. } => format!("client/{name}"),
    }
}

/// The command that issues a certificate to an identity.
pub fn issuing(identity: &Identity) -> String {
    match identity {
        Identity::Coordinator => "edgeprof pki issue coordinator".into(),
        Identity::Worker(name) => format!("edgeprof pki issue worker {name}"),
        Identity::Client { name, role } => format!("edgeprof pki issue client {name} --role {role}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_understood_is_written_the_same_way(text in "(edgeprof:)?(worker/|client/|coordinator)?.{0,80}") {
            if let Some(identity) = identity(&text) {
                prop_assert_eq!(uri(&identity), text);
            }
        }

        #[test]
        fn every_identity_round_trips(name in "[a-z0-9]{1,5}([._-][A-Z0-9]{1,5}){0,4}", role in 0..4usize) {
            let role = [Role::Viewer, Role::Submitter, Role::Operator, Role::Admin][role];
            for who in [Identity::Coordinator, Identity::Worker(name.clone()), Identity::Client { name: name.clone(), role }] {
                prop_assert_eq!(identity(&uri(&who)), Some(who));
            }
        }
    }

    #[test]
    fn what_would_break_a_path_a_uri_or_a_dns_name_is_no_name() {
        let long = "a".repeat(64);
        for bad in
            ["", ".", "..", "a..b", "-a", "a-", "a/b", "a?role=admin", "a b", "é", "a\0", "a.-b", &long]
        {
            assert!(check(bad).is_err(), "{bad:?}");
            assert_eq!(identity(&format!("edgeprof:worker/{bad}")), None, "{bad:?}");
        }
        check("rpi-4.lab_2").unwrap();
    }

    #[test]
    fn nothing_but_the_exact_words_is_an_identity() {
        for bad in [
            "edgeprof:coordinator/",
            "edgeprof:Coordinator",
            "coordinator",
            "edgeprof:worker",
            "edgeprof:client/a",
            "edgeprof:client/a?role=root",
            "edgeprof:client/a?role=admin&x",
            "https://x/worker/a",
        ] {
            assert_eq!(identity(bad), None, "{bad}");
        }
    }
}
