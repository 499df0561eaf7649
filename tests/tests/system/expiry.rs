//! Certificates whose time ends: while a session stands on them, and before somebody dials.

use edgeprof_tests::{COORDINATOR, Daemon, Lab, Lan, eventually};
use time::Duration;

/// Long enough for a session to begin on it, on a machine that is busy.
const BRIEF: Duration = Duration::seconds(30);

const READ_AGAIN: &str = "certificates were read again";

fn said(daemon: &Daemon, what: &str) {
    eventually(&format!("{what:?} is in the log"), || daemon.log().contains(what).then_some(()));
}

/// What the coordinator says of its one worker: health, and the reason.
fn worker(lab: &Lab) -> Option<(String, String)> {
    let done = lab.client(&["workers", "-o", "json"]);
    let worker = (done.code == 0).then(|| done.json()[0].clone())?;
    let text = |key: &str| worker[key].as_str().unwrap_or_default().to_owned();
    Some((text("health"), text("reason")))
}

/// Restarts the coordinator, and waits until its session with the worker stands.
fn begin_anew(lab: &mut Lab) {
    lab.kill_coordinator();
    lab.start_coordinator();
    eventually("a session", || worker(lab).filter(|(health, _)| health == "alive"));
}

#[test]
fn a_session_ends_with_its_workers_certificate_and_goes_on_with_the_next_one() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    lab.pki().lasting("worker host-1", BRIEF);
    said(&lab.workers[0], READ_AGAIN);
    begin_anew(&mut lab);
    let (_, reason) = eventually("the worker is refused", || {
        worker(&lab).filter(|(_, reason)| reason.contains("certificate"))
    });
    for word in ["worker host-1", "it has expired", "edgeprof pki renew worker/host-1"] {
        assert!(reason.contains(word), "{word:?} is not in {reason}");
    }
    let log = lab.coordinator.as_ref().unwrap().log();
    assert!(log.contains("a connection is ended") && log.contains("of worker host-1"), "{log}");

    lab.pki().run(&["renew", "host-1"]);
    lab.wait_for_boards(1);
}

#[test]
fn a_session_ends_with_the_coordinators_certificate_and_clients_are_told() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    lab.pki().lasting(COORDINATOR, BRIEF);
    begin_anew(&mut lab);
    said(&lab.workers[0], "a connection is ended");
    let log = lab.workers[0].log();
    assert!(log.contains("of coordinator") && log.contains("it has expired"), "{log}");
    let refused = lab.client(&["boards"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    for word in ["coordinator", "it has expired", "edgeprof pki renew coordinator"] {
        assert!(refused.stderr.contains(word), "{word:?} is not in {refused:?}");
    }

    lab.pki().run(&["renew", COORDINATOR]);
    said(lab.coordinator.as_ref().unwrap(), READ_AGAIN);
    lab.wait_for_boards(1);
}

#[test]
fn who_has_an_expired_certificate_does_not_dial_with_it_and_is_told() {
    let Some(lan) = Lan::new() else { return };
    let lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    let folder = lab.pki().lasting("client late", Duration::seconds(-5));
    let late = lab.client(&["boards", "--tls-dir", folder.to_str().unwrap()]);
    assert_ne!(late.code, 0, "{late:?}");
    for word in ["late", "it has expired", "edgeprof pki renew client/late", "cert.pem"] {
        assert!(late.stderr.contains(word), "{word:?} is not in {late:?}");
    }
}
