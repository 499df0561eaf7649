//! Handshakes over real sockets, with certificates of a real authority.

use std::{path::Path, sync::Arc, time::Duration as StdDuration};

use edgeprof_common::{Identity, Role};
use edgeprof_identity::{Authority, Order, Reason};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::Status;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::{
    channel::{Channel, ConnectError, Dialer, Transport},
    shutdown::Tasks,
};

const SOON: StdDuration = StdDuration::from_secs(30);

/// A lab's authority in a folder.
struct Pki(TempDir);

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Authority::init(&folder.path().join("pki"), "attic", OffsetDateTime::now_utc()).unwrap();
        Self(folder)
    }

    fn authority(&self) -> Authority {
        Authority::open(&self.0.path().join("pki")).unwrap()
    }

    /// Issues a certificate whose time ends in so long, and gives its folder.
    fn lasting(&self, identity: Identity, left: Duration) -> std::path::PathBuf {
        let lifetime = Duration::days(1);
        let order = Order { identity, lifetime: Some(lifetime), again: true, out: None };
        let mut authority = self.authority();
        authority.issue(&order, OffsetDateTime::now_utc() + left - lifetime).unwrap();
        authority.folder_of(&order.identity)
    }

    fn issue(&self, identity: Identity) -> std::path::PathBuf {
        self.lasting(identity, Duration::hours(12))
    }

    fn keeper(&self, identity: Identity) -> Arc<Keeper> {
        let own = match identity {
            Identity::Coordinator => Own::Coordinator,
            Identity::Worker(_) => Own::Worker,
            Identity::Client { .. } => Own::Client,
        };
        Arc::new(Keeper::open(&self.issue(identity), own).unwrap())
    }

    fn dialer(&self, identity: Identity, demand: Demand) -> Dialer {
        Dialer::secured(self.keeper(identity), demand)
    }
}

fn ann() -> Identity {
    Identity::Client { name: "ann".into(), role: Role::Operator }
}

fn worker(name: &str) -> Identity {
    Identity::Worker(name.into())
}

/// A daemon that answers how it is.
struct Served {
    address: String,
    refusals: Arc<Refusals>,
    gate: Gate,
    tasks: Tasks,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
    }
}

async fn serve(keeper: Option<Arc<Keeper>>, coordinator_only: bool, bounds: &Connections) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tasks, refusals) = (Tasks::new(), Arc::new(Refusals::new()));
    let door = Door::new(keeper, coordinator_only, bounds, refusals.clone());
    let gate = door.gate.clone();
    let (_, health) = tonic_health::server::health_reporter();
    let incoming = incoming(listener, door, &tasks);
    let server = tonic::transport::Server::builder().add_service(health);
    tasks.spawn_until_stop(async move { server.serve_with_incoming(incoming).await.unwrap() });
    Served { address, refusals, gate, tasks }
}

async fn coordinator(pki: &Pki) -> Served {
    serve(Some(pki.keeper(Identity::Coordinator)), false, &Connections::default()).await
}

async fn ask(channel: &Channel) -> Result<(), Status> {
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.map(drop)
}

/// Dials and asks, and gives what certificates had against it.
async fn refused(dialer: &Dialer, served: &Served) -> Untrusted {
    match dialer.connect(&served.address, SOON).await {
        Err(ConnectError::Untrusted { why, .. }) => why,
        Err(error) => panic!("{error}"),
        Ok(channel) => {
            let status = ask(&channel).await.unwrap_err();
            dialer.refusal().unwrap_or_else(|| panic!("{status:?}"))
        }
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(StdDuration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_and_its_coordinator_know_each_other() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tasks = Tasks::new();
    let bounds = Connections::default();
    let door = Door::new(Some(pki.keeper(Identity::Coordinator)), false, &bounds, Arc::default());
    let mut accepted = incoming(listener, door, &tasks);
    let with = pki.dialer(ann(), Demand::Coordinator);
    let (channel, first) =
        tokio::join!(with.connect(&address, SOON), tokio_stream::StreamExt::next(&mut accepted));
    channel.unwrap();
    let peer = tonic::transport::server::Connected::connect_info(&first.unwrap().unwrap());
    assert_eq!(peer.identity, Some(ann()));

    // With a token instead of a certificate: who that is, is for others to say.
    let bare = tempfile::tempdir().unwrap();
    std::fs::copy(pki.issue(ann()).join("ca.pem"), bare.path().join("ca.pem")).unwrap();
    let keeper = Keeper::open(bare.path(), Own::Client).unwrap();
    let without = Dialer::secured(keeper.into(), Demand::Coordinator);
    let (channel, second) =
        tokio::join!(without.connect(&address, SOON), tokio_stream::StreamExt::next(&mut accepted));
    channel.unwrap();
    assert_eq!(tonic::transport::server::Connected::connect_info(&second.unwrap().unwrap()).identity, None);
    tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_serves_the_coordinator_of_its_lab_and_nobody_else() {
    let pki = Pki::new();
    let served = serve(Some(pki.keeper(worker("host-1"))), true, &Connections::default()).await;
    let any = Demand::Worker(None);
    let good = pki.dialer(Identity::Coordinator, any.clone());
    ask(&good.connect(&served.address, SOON).await.unwrap()).await.unwrap();
    assert_eq!(good.demand(), Some(Demand::Worker(Some("host-1".into()))), "it knows whom it has reached");

    let why = refused(&pki.dialer(ann(), any.clone()), &served).await;
    assert!(why.what.contains("operator ann") && why.what.contains("not one that is served"), "{why}");
    let other = Pki::new();
    let foreign = Dialer::secured(mixed(&pki, &other, Identity::Coordinator), any.clone());
    let why = refused(&foreign, &served).await;
    assert!(why.what.contains("another authority"), "{why}");
    let bare = tempfile::tempdir().unwrap();
    std::fs::copy(pki.issue(ann()).join("ca.pem"), bare.path().join("ca.pem")).unwrap();
    let keeper = Keeper::open(bare.path(), Own::Client).unwrap();
    let why = refused(&Dialer::secured(keeper.into(), any), &served).await;
    assert!(why.what.contains("asks for a certificate"), "{why}");
    for refusal in [Refusal::WrongIdentity, Refusal::OtherAuthority, Refusal::NoCertificate] {
        until(refusal.as_str(), async || served.refusals.of(refusal) > 0).await;
    }
}

/// Who trusts the authority of `pki`, with a certificate of the authority of `other`.
fn mixed(pki: &Pki, other: &Pki, identity: Identity) -> Arc<Keeper> {
    let (mine, theirs) = (other.issue(identity.clone()), pki.issue(identity));
    let trusts = TlsConfig { ca: Some(theirs.join("ca.pem")), ..TlsConfig::folder(&mine) };
    Arc::new(Keeper::unjudged(TlsConfig { crl: Some(theirs.join("crl.pem")), ..trusts }, Own::Coordinator))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_is_for_whom_it_demands() {
    let pki = Pki::new();
    let served = serve(Some(pki.keeper(worker("host-1"))), true, &Connections::default()).await;
    let coordinator_of = |name: &str| pki.dialer(Identity::Coordinator, Demand::Worker(Some(name.into())));
    ask(&coordinator_of("host-1").connect(&served.address, SOON).await.unwrap()).await.unwrap();
    let why = refused(&coordinator_of("host-2"), &served).await;
    assert!(why.what.contains("worker host-1") && why.what.contains("worker host-2 was sought"), "{why}");
    let why = refused(&pki.dialer(ann(), Demand::Coordinator), &served).await;
    assert!(why.what.contains("the coordinator was sought"), "{why}");

    let other = Pki::new();
    let rogue = serve(Some(other.keeper(worker("host-1"))), true, &Connections::default()).await;
    let why = refused(&coordinator_of("host-1"), &rogue).await;
    assert!(why.what.contains("worker host-1") && why.what.contains("issued by another authority"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_named_before_it_is_shown_and_refused_when_it_is() {
    let pki = Pki::new();
    let served = coordinator(&pki).await;
    let folder = pki.lasting(ann(), Duration::seconds(-5));
    let why = Keeper::open(&folder, Own::Client).unwrap_err();
    assert!(why.what.contains("operator ann") && why.what.contains("has expired"), "{why}");
    assert!(why.hint.contains("edgeprof pki renew client/ann"), "{}", why.hint);

    // A client that does not look.
    let serial = edgeprof_identity::files::credentials(&folder.join("cert.pem"), &folder.join("key.pem"))
        .unwrap()
        .certificate
        .serial
        .to_string();
    let keeper = Arc::new(Keeper::unjudged(TlsConfig::folder(&folder), Own::Client));
    let why = refused(&Dialer::secured(keeper, Demand::Coordinator), &served).await;
    assert!(why.what.contains("has expired") && why.what.contains(&serial), "{why}");
    until("it is counted", async || served.refusals.of(Refusal::Expired) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_revoked_or_expires_ends_its_connection_and_gets_no_other() {
    let pki = Pki::new();
    let served = coordinator(&pki).await;
    let soon = pki.lasting(Identity::Client { name: "bob".into(), role: Role::Viewer }, Duration::seconds(4));
    let bob = Dialer::secured(Keeper::open(&soon, Own::Client).unwrap().into(), Demand::Coordinator);
    let dialer = pki.dialer(ann(), Demand::Coordinator);
    let (first, second) = (
        dialer.connect(&served.address, SOON).await.unwrap(),
        bob.connect(&served.address, SOON).await.unwrap(),
    );
    ask(&first).await.unwrap();
    ask(&second).await.unwrap();
    pki.authority().revoke("ann", Reason::KeyCompromise, OffsetDateTime::now_utc()).unwrap();
    // The list in the own folder has told her already; who does not look is told by the other side.
    until("both connections are gone", async || served.gate.open() == 0).await;
    // A channel dials again by itself.
    assert!(ask(&first).await.is_err());
    assert!(ask(&second).await.is_err());
    let why = refused(&dialer, &served).await;
    assert!(why.what.contains("operator ann") && why.what.contains("revoked"), "{why}");

    let folder = pki.authority().folder_of(&ann());
    let blind = Arc::new(Keeper::unjudged(TlsConfig::folder(&folder), Own::Client));
    let why = refused(&Dialer::secured(blind, Demand::Coordinator), &served).await;
    assert!(why.what.contains("the coordinator refuses") && why.what.contains("it was revoked"), "{why}");
    until("it is counted", async || served.refusals.of(Refusal::Revoked) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let pki = Pki::new();
    let served = coordinator(&pki).await;
    let keeper = pki.keeper(ann());
    let before = keeper.certificate().unwrap().serial;
    pki.authority().renew("ann", None, None, OffsetDateTime::now_utc()).unwrap();
    pki.authority().renew("coordinator", None, None, OffsetDateTime::now_utc()).unwrap();
    until("it is read again", async || keeper.certificate().unwrap().serial != before).await;
    let dialer = Dialer::secured(keeper, Demand::Coordinator);
    ask(&dialer.connect(&served.address, SOON).await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_something_else_is_told_so() {
    let pki = Pki::new();
    let secure = coordinator(&pki).await;
    let why = refused(&Dialer::default(), &secure).await;
    assert!(why.what.contains("speaks TLS only"), "{why}");
    let plain = serve(None, false, &Connections::default()).await;
    let why = refused(&pki.dialer(ann(), Demand::Coordinator), &plain).await;
    assert!(why.what.contains("TLS"), "{why}");
    let mut noise = TcpStream::connect(&plain.address).await.unwrap();
    noise.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = noise.read_to_end(&mut Vec::new()).await;
    until("both are counted", async || {
        plain.refusals.of(Refusal::Protocol) >= 2 && secure.refusals.of(Refusal::Protocol) >= 1
    })
    .await;
    ask(&Dialer::default().connect(&plain.address, SOON).await.unwrap()).await.unwrap();
}

/// A good beginning, and then frames that are none: in the clear, and within TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_http2_is_counted_once_and_one_that_ends_well_is_not() {
    let pki = Pki::new();
    let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0xff; 4096][..]].concat();
    for keeper in [None, Some(pki.keeper(Identity::Coordinator))] {
        let demand = Demand::Coordinator;
        let dialer = keeper.as_ref().map_or_else(Dialer::default, |_| pki.dialer(ann(), demand));
        let served = serve(keeper, false, &Connections::default()).await;
        let tcp = TcpStream::connect(&served.address).await.unwrap();
        if dialer.is_secured() {
            let roots =
                edgeprof_identity::files::certificates(&pki.authority().folder_of(&ann()).join("ca.pem"));
            let mut store = rustls::RootCertStore::empty();
            store.add_parsable_certificates(roots.unwrap());
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(loaded::VERSIONS)
                .unwrap()
                .with_root_certificates(store)
                .with_no_client_auth();
            let name = "coordinator.edgeprof.internal".try_into().unwrap();
            let mut tls =
                tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
            tls.write_all(&bytes).await.unwrap();
            let _ = tls.read_to_end(&mut Vec::new()).await;
        } else {
            let mut tcp = tcp;
            tcp.write_all(&bytes).await.unwrap();
            let _ = tcp.read_to_end(&mut Vec::new()).await;
        }
        until("it is counted", async || served.refusals.of(Refusal::Protocol) > 0).await;
        ask(&dialer.connect(&served.address, SOON).await.unwrap()).await.unwrap();
        until("both have gone", async || served.gate.open() == 0).await;
        let counted: Vec<_> = served.refusals.all().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("protocol", 1)]);
    }
}

/// Half a handshake, or nothing at all, from one address: others are served, and the places come back.
#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_shown_the_door_and_keeps_nobody_out() {
    let pki = Pki::new();
    let bounds =
        Connections { greeting: 32, greeting_time: StdDuration::from_secs(2), ..Connections::default() };
    let served = serve(Some(pki.keeper(Identity::Coordinator)), false, &bounds).await;
    let dialer = pki.dialer(ann(), Demand::Coordinator);
    let channel = dialer.connect(&served.address, SOON).await.unwrap();
    // Only whom the daemon has heard keeps its place.
    ask(&channel).await.unwrap();
    let mut mute = Vec::new();
    for number in 0..100 {
        let mut tcp = TcpStream::connect(&served.address).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a TLS record that never ends.
            let _ = tcp.write_all(&[0x16, 0x03, 0x01]).await;
        }
        mute.push(tcp);
    }
    ask(&channel).await.unwrap();
    let counts = || (served.refusals.of(Refusal::Slow), served.refusals.of(Refusal::Displaced));
    until("all have come and gone", async || {
        let (slow, displaced) = counts();
        slow + displaced >= 100 && served.gate.open() == 1
    })
    .await;
    let (slow, displaced) = counts();
    assert_eq!(slow + displaced, 100, "each counts once: {slow} slow, {displaced} displaced");
    assert!(slow >= 8, "the last eight are displaced by nobody: {slow} slow, {displaced} displaced");
    ask(&dialer.connect(&served.address, SOON).await.unwrap()).await.unwrap();
}

/// Whoever was refused may read why for a while, and gives way meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_refused_is_not_counted_again_once_displaced() {
    let pki = Pki::new();
    let bounds = Connections { greeting: 4, greeting_time: SOON, ..Connections::default() };
    let served = serve(Some(pki.keeper(Identity::Coordinator)), false, &bounds).await;
    let mut stranger = TcpStream::connect(&served.address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until("it is refused", async || served.refusals.of(Refusal::Protocol) == 1).await;
    // One of four is the share of one address.
    let _mute = TcpStream::connect(&served.address).await.unwrap();
    let _another = TcpStream::connect(&served.address).await.unwrap();
    until("two have given way", async || {
        served.refusals.of(Refusal::Displaced) > 0 && served.gate.open() == 1
    })
    .await;
    let counted: Vec<_> = served.refusals.all().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("displaced", 1), ("protocol", 1)]);
}

/// With a good certificate and no word until that is good no more.
#[tokio::test(flavor = "multi_thread")]
async fn whose_certificate_ends_before_they_have_spoken_is_counted_once() {
    let pki = Pki::new();
    let bounds = Connections { greeting_time: SOON, ..Connections::default() };
    let served = serve(Some(pki.keeper(Identity::Coordinator)), false, &bounds).await;
    let soon = pki.lasting(ann(), Duration::seconds(3));
    let bob = Keeper::unjudged(TlsConfig::folder(&soon), Own::Client);
    let to = format!("https://{}", served.address).parse().unwrap();
    // Where this takes 3 s, it ends in the handshake.
    let _mute = Secure::new(bob.into(), Demand::Coordinator).connect(&to).await;
    until("it is gone", async || served.refusals.of(Refusal::Expired) > 0 && served.gate.open() == 0).await;
    let counted: Vec<_> = served.refusals.all().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("expired", 1)]);
}

#[test]
fn a_folder_of_another_kind_or_of_two_labs_is_told_by_its_file() {
    let (pki, other) = (Pki::new(), Pki::new());
    let folder = pki.issue(worker("host-1"));
    let why = Keeper::open(&folder, Own::Coordinator).unwrap_err();
    assert!(why.what.contains("worker host-1") && why.what.contains("cert.pem"), "{why}");
    std::fs::copy(other.issue(worker("host-1")).join("ca.pem"), folder.join("ca.pem")).unwrap();
    let why = Keeper::open(&folder, Own::Worker).unwrap_err();
    assert!(why.what.contains("another authority"), "{why}");
    let why = Keeper::open(Path::new("/nowhere"), Own::Worker).unwrap_err();
    assert!(why.what.contains("/nowhere/"), "{why}");
}

/// A folder as it was copied to a host.
fn copied(issued: &Path, to: &Path) -> std::path::PathBuf {
    let host = to.join("tls");
    std::fs::create_dir(&host).unwrap();
    for name in ["cert.pem", "key.pem", "ca.pem", "crl.pem"] {
        std::fs::copy(issued.join(name), host.join(name)).unwrap();
    }
    host
}

/// What a daemon holds that keeps in `data` what was handed over.
fn daemon(folder: &Path, own: Own, data: &Path) -> Arc<Keeper> {
    secure(&TlsConfig::folder(folder), "127.0.0.1:0".parse().unwrap(), own, data).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_list_that_is_handed_over_holds_at_once_and_after_a_restart() {
    let (pki, other, data) = (Pki::new(), Pki::new(), tempfile::tempdir().unwrap());
    let folder = pki.issue(Identity::Coordinator);
    let list = |pki: &Pki| edgeprof_identity::files::revocations(&pki.authority().revocations()).unwrap();
    let first = list(&pki);
    let dialer = pki.dialer(ann(), Demand::Coordinator);
    let host = copied(&folder, data.path());
    let keeper = daemon(&host, Own::Coordinator, data.path());
    let served = serve(Some(keeper.clone()), false, &Connections::default()).await;
    let standing = dialer.connect(&served.address, SOON).await.unwrap();
    ask(&standing).await.unwrap();

    let stale = data.path().join("stale");
    let backup =
        std::process::Command::new("cp").arg("-r").arg(pki.0.path().join("pki")).arg(&stale).status();
    assert!(backup.unwrap().success());
    pki.authority().revoke("client/ann", Reason::KeyCompromise, OffsetDateTime::now_utc()).unwrap();
    let (mut told, second) = (keeper.revoked(), list(&pki));
    told.mark_unchanged();
    assert_eq!(keeper.hand_over(second.der()).unwrap(), Handed::Taken(second.clone().into()));
    assert!(told.has_changed().unwrap());
    until("what stands is ended", async || ask(&standing).await.is_err()).await;
    assert_eq!(keeper.hand_over(second.der()).unwrap(), Handed::Known(second.clone().into()));
    assert_eq!(keeper.hand_over(first.der()).unwrap(), Handed::Older(second.clone().into()), "never back");
    let why = keeper.hand_over(list(&other).der()).unwrap_err();
    assert!(why.what.contains("not of this lab's authority"), "{why}");
    assert!(keeper.hand_over(b"no list").is_err());
    // An authority that came back from a backup goes on with numbers that were used.
    let mut stale = Authority::open(&stale).unwrap();
    stale.revoke("coordinator", Reason::Superseded, OffsetDateTime::now_utc()).unwrap();
    let other = edgeprof_identity::files::revocations(&stale.revocations()).unwrap();
    assert_eq!(other.number(), second.number());
    let why = keeper.hand_over(other.der()).unwrap_err();
    assert!(why.what.contains("another list") && why.hint.contains("used last"), "{why}");

    let again = daemon(&host, Own::Coordinator, data.path());
    assert_eq!(again.revoked().borrow().as_deref(), Some(&second));
    // A list of its folder that is newer yet counts.
    pki.issue(worker("host-1"));
    pki.authority().revoke("host-1", Reason::Superseded, OffsetDateTime::now_utc()).unwrap();
    std::fs::copy(pki.authority().revocations(), host.join("crl.pem")).unwrap();
    let again = daemon(&host, Own::Coordinator, data.path());
    assert_eq!(again.revoked().borrow().as_deref(), Some(&list(&pki)));
}

#[test]
fn nobody_takes_over_a_list_that_revokes_themselves() {
    let (pki, data) = (Pki::new(), tempfile::tempdir().unwrap());
    let folder = pki.issue(worker("host-1"));
    let host = copied(&folder, data.path());
    let keeper = daemon(&host, Own::Worker, data.path());
    pki.authority().revoke("host-1", Reason::KeyCompromise, OffsetDateTime::now_utc()).unwrap();
    let list = edgeprof_identity::files::revocations(&pki.authority().revocations()).unwrap();
    let why = keeper.hand_over(list.der()).unwrap_err();
    assert!(why.what.contains("worker host-1") && why.what.contains("it was revoked"), "{why}");
    keeper.check_own().unwrap();
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1, "nothing is kept");
}
