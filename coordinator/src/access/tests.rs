//! The guard's decisions, by what is at the other end of the connection.

use edgeprof_common::{Identity, Role};
use edgeprof_service::{peer::Peer, status::hint};
use tokio::sync::mpsc;
use tonic::Code;

use super::{Access, Caller, Quotas, Reason, Refusal, Secret, Via, policy, state::Admitted};
use crate::{
    clock,
    core::{Change, Command},
    store::{
        Memory,
        rows::{Outcome, TokenRow},
    },
};

const JOBS: &str = "/edgeprof.v1.Profiler/ListJobs";
const CANCEL: &str = "/edgeprof.v1.Profiler/CancelJob";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

fn access(encrypted: bool) -> (Access, mpsc::Receiver<Command>) {
    let (commands, waiting) = mpsc::channel(1000);
    (Access::recover(&Memory::default(), Quotas::default(), encrypted, commands).unwrap(), waiting)
}

fn peer(host: [u8; 4], identity: Option<Identity>) -> Peer {
    Peer { address: (host, 40_000).into(), identity }
}

fn client(role: Role) -> Option<Identity> {
    Some(Identity::Client { name: "ann".into(), role })
}

/// A token of the role, as a header carries it.
fn token(access: &Access, role: Role, only: &[&str], lifetime: u64) -> Vec<u8> {
    let secret = Secret::random();
    access.tokens().put(TokenRow {
        name: format!("{role} bot"),
        hash: secret.hash(),
        role,
        only: only.iter().map(ToString::to_string).collect(),
        issued_at: clock::now_ms(),
        issued_by: "ann".into(),
        expires_at: clock::now_ms() + lifetime,
        used_at: None,
    });
    format!("Bearer {}", secret.reveal()).into_bytes()
}

fn refused(outcome: Result<Admitted, Refusal>) -> Refusal {
    outcome.expect_err("it is refused")
}

const FAR: [u8; 4] = [192, 0, 2, 7];
const HERE: [u8; 4] = [127, 0, 0, 1];

#[test]
fn a_certificate_has_name_and_role_and_a_daemons_is_no_clients() {
    let (access, _commands) = access(true);
    for role in Role::ALL {
        let caller = access.admit(JOBS, Some(&peer(FAR, client(*role))), None).unwrap().caller.unwrap();
        assert_eq!((caller.name.as_str(), caller.role, caller.via), ("ann", *role, Via::Certificate));
    }
    for daemon in [Identity::Coordinator, Identity::Worker("host-1".into())] {
        let refusal = refused(access.admit(JOBS, Some(&peer(FAR, Some(daemon.clone()))), None));
        assert_eq!(refusal.reason(), Reason::NotAClient);
        assert!(refusal.message().contains(&daemon.to_string()), "{refusal:?}");
    }
    assert_eq!(access.refusals().of(Reason::NotAClient), 2);
}

#[test]
fn whoever_shows_nothing_is_local_without_tls_and_nobody_with_it() {
    let (plain, _commands) = access(false);
    let caller = plain.admit(CANCEL, Some(&peer(HERE, None)), None).unwrap().caller.unwrap();
    assert_eq!((caller.name.as_str(), caller.role, caller.via), (Caller::LOCAL, Role::Admin, Via::Loopback));
    let (encrypted, _commands) = access(true);
    for host in [HERE, FAR] {
        let refusal = refused(encrypted.admit(JOBS, Some(&peer(host, None)), None));
        assert_eq!(refusal.status().code(), Code::Unauthenticated);
        assert!(hint(&refusal.status()).unwrap().contains("EDGEPROF_TOKEN"), "{refusal:?}");
        // Probes have nothing to show.
        assert!(encrypted.admit(HEALTH, Some(&peer(host, None)), None).unwrap().caller.is_none());
    }
    // What listens without TLS is bound to loopback; were it not, nobody else would be local.
    assert_eq!(refused(plain.admit(JOBS, Some(&peer(FAR, None)), None)).reason(), Reason::NoCredentials);
    let refusal = refused(plain.admit(JOBS, None, None));
    assert_eq!(refusal.reason(), Reason::NoCredentials, "nobody knows where it comes from");
}

#[test]
fn what_is_shown_counts_and_is_not_made_up_for() {
    let (access, _commands) = access(true);
    let viewer = token(&access, Role::Viewer, &[], 60_000);
    let admin = peer(FAR, client(Role::Admin));
    let caller = access.admit(JOBS, Some(&admin), Some(&viewer)).unwrap().caller.unwrap();
    assert_eq!((caller.name.as_str(), caller.role, caller.via), ("viewer bot", Role::Viewer, Via::Token));
    assert_eq!(refused(access.admit(CANCEL, Some(&admin), Some(&viewer))).reason(), Reason::Role);
    let secret = String::from_utf8(viewer.clone()).unwrap();
    for bad in
        ["", "Bearer", "Bearer ", "Bearer x", &secret.replace("Bearer", "Basic"), &secret[..secret.len() - 1]]
    {
        let refusal = refused(access.admit(JOBS, Some(&admin), Some(bad.as_bytes())));
        assert_eq!(refusal.reason(), Reason::UnknownToken, "{bad:?}");
    }
    assert_eq!(
        refused(access.admit(JOBS, Some(&admin), Some(b"Bearer \xff"))).reason(),
        Reason::UnknownToken
    );
    let lower = secret.replace("Bearer", "bearer");
    assert!(access.admit(JOBS, Some(&admin), Some(lower.as_bytes())).is_ok(), "schemes have no case");
    let over = token(&access, Role::Submitter, &[], 0);
    let refusal = refused(access.admit(JOBS, Some(&admin), Some(&over)));
    assert_eq!(refusal.reason(), Reason::ExpiredToken);
    assert!(refusal.message().contains("submitter bot expired 20"), "{refusal:?}");
}

#[test]
fn a_token_over_the_network_without_tls_is_refused_even_if_it_is_good() {
    let (access, _commands) = access(false);
    let good = token(&access, Role::Admin, &[], 60_000);
    let refusal = refused(access.admit(JOBS, Some(&peer(FAR, None)), Some(&good)));
    assert_eq!(refusal.reason(), Reason::TokenInTheClear);
    assert!(access.admit(JOBS, Some(&peer(HERE, None)), Some(&good)).is_ok());
    let mapped = Peer { address: "[::ffff:127.0.0.1]:1".parse().unwrap(), identity: None };
    assert!(access.admit(JOBS, Some(&mapped), Some(&good)).is_ok());
}

#[test]
fn a_limited_token_is_for_what_it_names_and_its_role() {
    let (access, _commands) = access(true);
    let limited = token(&access, Role::Submitter, &["ListJobs", "DrainWorker"], 60_000);
    let admit = |path| access.admit(path, Some(&peer(FAR, None)), Some(&limited));
    assert!(admit(JOBS).is_ok());
    let refusal = refused(admit(CANCEL));
    assert_eq!(refusal.reason(), Reason::Scope);
    assert!(hint(&refusal.status()).unwrap().contains("ListJobs, DrainWorker"), "{refusal:?}");
    assert_eq!(refused(admit("/edgeprof.v1.Profiler/DrainWorker")).reason(), Reason::Role);
}

#[test]
fn each_refusal_says_whom_what_and_how_and_is_written_down() {
    let (access, mut commands) = access(true);
    let refusal = refused(access.admit(CANCEL, Some(&peer(FAR, client(Role::Viewer))), None));
    assert_eq!(
        refusal.message(),
        "CancelJob needs the role submitter, and ann (viewer, by certificate) has not"
    );
    let Ok(Command::Access(Change::Audit { row, .. })) = commands.try_recv() else { panic!("no entry") };
    assert_eq!(
        (row.who.as_str(), row.from.as_str(), row.rpc.as_str()),
        ("ann", "192.0.2.7:40000", "CancelJob")
    );
    assert_eq!((row.outcome, row.detail.as_str()), (Outcome::Refused, refusal.message()));
    let refusal =
        refused(access.admit("/edgeprof.v1.Profiler/Sing", Some(&peer(FAR, client(Role::Admin))), None));
    assert_eq!((refusal.reason(), refusal.status().code()), (Reason::NoSuchRpc, Code::Unimplemented));
    assert!(commands.try_recv().is_ok());
    assert!(access.admit(CANCEL, Some(&peer(FAR, client(Role::Submitter))), None).is_ok());
    assert!(commands.try_recv().is_err(), "what is let in is written down with what it changes");
}

#[test]
fn every_row_lets_in_its_role_and_those_above() {
    let (access, _commands) = access(true);
    for rpc in policy::RPCS {
        for role in Role::ALL {
            let admitted = access.admit(rpc.path, Some(&peer(FAR, client(*role))), None);
            assert_eq!(admitted.is_ok(), rpc.least.is_none_or(|least| *role >= least), "{} {role}", rpc.path);
        }
    }
}
