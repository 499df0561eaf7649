//! The daemons' ports: free, or held by whom.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use edgeprof_common::Identity;
use edgeprof_service::{
    channel::{ConnectError, Dialer},
    tls::{self, Demand, Keeper, Seen, Untrusted},
};
use tokio::time::timeout;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    check::Check,
    holders::{self, Holder},
};

/// How long whoever listens may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// A daemon's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `coordinator` or `worker`.
    pub(crate) role: &'static str,
    /// What its health service calls it.
    pub(crate) service: &'static str,
    pub(crate) address: SocketAddr,
}

/// How an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Free,
    /// The daemon itself answers there.
    Serving,
    /// Whoever this is speaks TLS there.
    Secure {
        seen: Seen,
        /// Whether a coordinator of our lab takes our certificate; absent where that is not the question.
        lets_in: Option<Result<(), Untrusted>>,
    },
    /// Something else listens there.
    Held(Option<Holder>),
    /// The system does not give it.
    Refused(String),
}

/// Tries to listen, and asks whoever does already.
pub(crate) async fn probe(wanted: &Wanted, keeper: Option<&Arc<Keeper>>) -> Port {
    match std::net::TcpListener::bind(wanted.address) {
        Ok(_) => Port::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let mut address = wanted.address;
            if address.ip().is_unspecified() {
                address.set_ip([127, 0, 0, 1].into());
            }
            if serves(&Dialer::default(), address, wanted.service).await == Ok(true) {
                return Port::Serving;
            }
            match secure(address, wanted, keeper).await {
                Some(port) => port,
                None => Port::Held(holders::of_port(wanted.address.port())),
            }
        }
        Err(error) => Port::Refused(error.to_string()),
    }
}

/// Whether the service is served there; else why certificates keep us from asking.
async fn serves(dialer: &Dialer, address: SocketAddr, service: &str) -> Result<bool, Untrusted> {
    let ask = async {
        let channel = match dialer.connect(&address.to_string(), PATIENCE).await {
            Ok(channel) => channel,
            Err(ConnectError::Untrusted { why, .. }) => return Err(why),
            Err(_) => return Ok(false),
        };
        let request = HealthCheckRequest { service: service.to_owned() };
        match HealthClient::new(channel).check(request).await {
            Ok(answer) => Ok(answer.into_inner().status == ServingStatus::Serving as i32),
            Err(_) => dialer.refusal().map_or(Ok(false), Err),
        }
    };
    timeout(PATIENCE, ask).await.unwrap_or(Ok(false))
}

async fn secure(address: SocketAddr, wanted: &Wanted, keeper: Option<&Arc<Keeper>>) -> Option<Port> {
    let seen = timeout(PATIENCE, tls::look(address, keeper.map(AsRef::as_ref))).await.ok()?.ok()?;
    let lets_in = match (keeper, &seen.ours) {
        // Who has no certificate of their own is let in by a token, or not at all.
        (Some(keeper), Some(Ok(Identity::Coordinator))) if keeper.identity().is_some() => {
            let dialer = Dialer::secured(keeper.clone(), Demand::Coordinator);
            Some(serves(&dialer, address, wanted.service).await.map(drop))
        }
        _ => None,
    };
    Some(Port::Secure { seen, lets_in })
}

/// A daemon starts where its port is free, and is there where it answers.
pub(crate) fn judge(wanted: &Wanted, port: &Port) -> Check {
    let Wanted { role, address, .. } = wanted;
    let name = format!("port {} ({role})", address.port());
    let other = SocketAddr::new(address.ip(), address.port().checked_add(10).unwrap_or(7460));
    let elsewhere = format!("edgeprof-{role} --listen {other}");
    let holder = format!("sudo ss -ltnp 'sport = :{}', or {elsewhere}", address.port());
    match port {
        Port::Free => Check::ok(name, "free"),
        Port::Serving => Check::ok(name, format!("a {role} answers there")),
        Port::Secure { seen, lets_in } => {
            let who = match &seen.certificate.identity {
                Some(identity @ Identity::Coordinator) if *role == "coordinator" => identity,
                Some(identity @ Identity::Worker(_)) if *role == "worker" => identity,
                _ => {
                    let found = format!("held by who has the {}, which is no {role}", seen.certificate);
                    return Check::problem(name, found, holder);
                }
            };
            judge_secure(name, who, seen, lets_in.as_ref())
        }
        Port::Held(Some(holder)) => {
            let found = format!("held by {holder}, which is no {role} that answers");
            Check::problem(name, found, format!("kill {}, or {elsewhere}", holder.id))
        }
        Port::Held(None) => Check::problem(name, "held by a process of another user", holder),
        Port::Refused(why) => Check::problem(name, format!("cannot listen on {address}: {why}"), elsewhere),
    }
}

fn judge_secure(name: String, who: &Identity, seen: &Seen, lets_in: Option<&Result<(), Untrusted>>) -> Check {
    let there = format!("{who} of {:?} answers there over TLS", seen.certificate.issuer);
    match (&seen.ours, lets_in) {
        (Some(Err(why)), _) | (_, Some(Err(why))) => {
            Check::problem(name, format!("{there}; {}", why.what), &why.hint)
        }
        (Some(Ok(_)), Some(Ok(()))) => {
            Check::ok(name, format!("{there}, and takes the certificate of this client"))
        }
        (Some(Ok(_)), None) => Check::ok(name, format!("{there}, of the lab of this client")),
        (None, _) if *who == Identity::Coordinator => Check::warning(
            name,
            format!("{there}; this client has no certificates"),
            "edgeprof pki issue client NAME --role ROLE, where the lab's authority is, and copy its folder to \
             ~/.config/edgeprof/tls (docs/security.md)",
        ),
        (None, _) => Check::ok(name, there),
    }
}

#[cfg(test)]
mod tests {
    use edgeprof_identity::{Authority, Order};
    use edgeprof_service::tls::{Connections, Door, TlsConfig};
    use time::OffsetDateTime;

    use super::{super::check::Status, *};

    fn wanted(address: SocketAddr) -> Wanted {
        Wanted { role: "coordinator", service: "edgeprof.v1.Profiler", address }
    }

    #[test]
    fn whoever_holds_the_port_is_named() {
        let wanted = wanted("127.0.0.1:7450".parse().unwrap());
        assert_eq!(judge(&wanted, &Port::Free).status, Status::Ok);
        assert_eq!(judge(&wanted, &Port::Serving).status, Status::Ok);
        let held = judge(&wanted, &Port::Held(Some(Holder { id: 7, name: "python3".into() })));
        assert_eq!(held.check, "port 7450 (coordinator)");
        assert!(held.status == Status::Problem && held.found.contains("process 7 (python3)"), "{held:?}");
        assert_eq!(held.remedy.as_deref(), Some("kill 7, or edgeprof-coordinator --listen 127.0.0.1:7460"));
        let held = judge(&wanted, &Port::Held(None));
        assert!(held.status == Status::Problem && held.remedy.unwrap().starts_with("sudo ss -ltnp"));
    }

    #[tokio::test]
    async fn a_listener_that_is_no_daemon_holds_the_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = wanted(listener.local_addr().unwrap());
        // Whoever dials it is turned away at once: in plain, and then over TLS.
        let answering = std::thread::spawn(move || (0..2).try_for_each(|_| listener.accept().map(drop)));
        // This process is the holder, and never names itself.
        assert_eq!(probe(&wanted, None).await, Port::Held(None));
        answering.join().unwrap().unwrap();
        assert_eq!(probe(&wanted, None).await, Port::Free);
    }

    /// A coordinator with certificates, on some port.
    struct Secured {
        folder: tempfile::TempDir,
        wanted: Wanted,
        tasks: edgeprof_service::shutdown::Tasks,
    }

    impl Drop for Secured {
        fn drop(&mut self) {
            self.tasks.stop_token().cancel();
        }
    }

    impl Secured {
        async fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let pki = folder.path().join("pki");
            Authority::init(&pki, "attic", OffsetDateTime::now_utc()).unwrap();
            let tls = issue(&folder, Identity::Coordinator);
            let (tasks, data) = (edgeprof_service::shutdown::Tasks::new(), folder.path());
            let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let keeper = tls::secure(&TlsConfig::folder(&tls), listen, tls::Own::Coordinator, data).unwrap();
            let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
            let wanted = wanted(listener.local_addr().unwrap());
            let door = Door::new(keeper, false, &Connections::default(), Arc::default());
            let (health, service) = tonic_health::server::health_reporter();
            health.set_service_status(wanted.service, tonic_health::ServingStatus::Serving).await;
            let incoming = tls::incoming(listener, door, &tasks);
            let server = tonic::transport::Server::builder().add_service(service);
            tasks.spawn_until_stop(async move { server.serve_with_incoming(incoming).await.unwrap() });
            Self { folder, wanted, tasks }
        }

        async fn found(&self, keeper: Option<&Arc<Keeper>>) -> Check {
            judge(&self.wanted, &probe(&self.wanted, keeper).await)
        }
    }

    fn issue(folder: &tempfile::TempDir, identity: Identity) -> std::path::PathBuf {
        let mut authority = Authority::open(&folder.path().join("pki")).unwrap();
        let order = Order { identity, lifetime: None, again: false, out: None };
        authority.issue(&order, OffsetDateTime::now_utc()).unwrap();
        authority.folder_of(&order.identity)
    }

    fn ann() -> Identity {
        Identity::Client { name: "ann".into(), role: edgeprof_common::Role::Viewer }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_daemon_with_certificates_is_named_with_its_lab_and_whether_it_lets_us_in() {
        let (ours, other) = (Secured::start().await, Secured::start().await);
        let stranger = ours.found(None).await;
        assert_eq!(stranger.status, Status::Warning, "{stranger:?}");
        assert!(stranger.found.starts_with("coordinator of \"edgeprof lab attic "), "{stranger:?}");
        assert!(stranger.remedy.unwrap().contains("edgeprof pki issue client"));

        let keeper =
            |at: &Secured| Arc::new(Keeper::open(&issue(&at.folder, ann()), tls::Own::Client).unwrap());
        let good = ours.found(Some(&keeper(&ours))).await;
        assert!(good.status == Status::Ok && good.found.contains("takes the certificate"), "{good:?}");
        let wrong = ours.found(Some(&keeper(&other))).await;
        assert_eq!(wrong.status, Status::Problem, "{wrong:?}");
        assert!(wrong.found.contains("another authority") && wrong.remedy.is_some(), "{wrong:?}");

        let held = Wanted { role: "worker", service: "edgeprof.v1.Worker", ..ours.wanted };
        let held = judge(&held, &probe(&held, None).await);
        assert!(held.status == Status::Problem && held.found.contains("of coordinator"), "{held:?}");
    }
}
