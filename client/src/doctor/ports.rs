//! The daemons' ports: free, or held by whom.

use std::{io, net::SocketAddr, time::Duration};

use edgeprof_service::channel;
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
    /// Something else listens there.
    Held(Option<Holder>),
    /// The system does not give it.
    Refused(String),
}

/// Tries to listen, and asks whoever does already.
pub(crate) async fn probe(wanted: &Wanted) -> Port {
    match std::net::TcpListener::bind(wanted.address) {
        Ok(_) => Port::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if serves(wanted).await {
                Port::Serving
            } else {
                Port::Held(holders::of_port(wanted.address.port()))
            }
        }
        Err(error) => Port::Refused(error.to_string()),
    }
}

async fn serves(wanted: &Wanted) -> bool {
    let mut address = wanted.address;
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    let ask = async {
        let channel = channel::connect(&address.to_string(), PATIENCE).await.ok()?;
        let request = HealthCheckRequest { service: wanted.service.to_owned() };
        let answer = HealthClient::new(channel).check(request).await.ok()?;
        Some(answer.into_inner().status == ServingStatus::Serving as i32)
    };
    timeout(PATIENCE, ask).await.ok().flatten().unwrap_or(false)
}

/// A daemon starts where its port is free, and is there where it answers.
pub(crate) fn judge(wanted: &Wanted, port: &Port) -> Check {
    let Wanted { role, address, .. } = wanted;
    let name = format!("port {} ({role})", address.port());
    let other = SocketAddr::new(address.ip(), address.port().checked_add(10).unwrap_or(7460));
    let elsewhere = format!("edgeprof-{role} --listen {other}");
    match port {
        Port::Free => Check::ok(name, "free"),
        Port::Serving => Check::ok(name, format!("a {role} answers there")),
        Port::Held(Some(holder)) => {
            let found = format!("held by {holder}, which is no {role} that answers");
            Check::problem(name, found, format!("kill {}, or {elsewhere}", holder.id))
        }
        Port::Held(None) => {
            let found = "held by a process of another user";
            Check::problem(
                name,
                found,
                format!("sudo ss -ltnp 'sport = :{}', or {elsewhere}", address.port()),
            )
        }
        Port::Refused(why) => Check::problem(name, format!("cannot listen on {address}: {why}"), elsewhere),
    }
}

#[cfg(test)]
mod tests {
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
        // Whoever dials it is turned away at once.
        let answering = std::thread::spawn(move || listener.accept().map(drop));
        // This process is the holder, and never names itself.
        assert_eq!(probe(&wanted).await, Port::Held(None));
        answering.join().unwrap().unwrap();
        assert_eq!(probe(&wanted).await, Port::Free);
    }
}
