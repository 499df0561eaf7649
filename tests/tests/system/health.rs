//! `edgeprof health`, as probes ask it.

use std::fs;

use edgeprof_tests::{Lab, eventually};
use nix::sys::signal::Signal;

#[test]
fn a_probe_is_told_whether_a_coordinator_serves_there() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let url = lab.coordinator.as_ref().unwrap().url().to_owned();
    let good = lab.client(&["health"]);
    assert_eq!((good.code, good.stdout), (0, format!("{url} serves\n")), "{}", good.stderr);

    let worker = lab.client(&["health", "--coordinator", lab.workers[0].url()]);
    assert_eq!(worker.code, 3, "{worker:?}");
    assert!(worker.stderr.contains("no coordinator, such as a worker"), "{worker:?}");

    // One that stands still listens, and serves nobody.
    lab.coordinator.as_ref().unwrap().signal(Signal::SIGSTOP);
    let still = lab.client(&["health"]);
    assert!(still.code == 3 && still.stdout.is_empty() && still.stderr.contains(&url), "{still:?}");
    lab.coordinator.as_ref().unwrap().signal(Signal::SIGCONT);
    eventually("it serves again", || (lab.client(&["health"]).code == 0).then_some(()));

    lab.kill_coordinator();
    let gone = lab.client(&["health", "--coordinator", &url]);
    assert!(gone.code == 3 && gone.stderr.contains("hint: "), "{gone:?}");
}

#[test]
fn a_probe_needs_no_certificate_of_its_own_and_tells_a_stranger_from_the_coordinator() {
    let mut lab = Lab::new();
    lab.secure();
    lab.start(&[]);
    let probe = |name: &str, ca: &std::path::Path| {
        let folder = lab.folder().join(name);
        fs::create_dir(&folder).unwrap();
        fs::copy(ca.join("ca.pem"), folder.join("ca.pem")).unwrap();
        lab.client(&["health", "--tls-dir", folder.to_str().unwrap()])
    };
    let good = probe("ours", &lab.pki().of("coordinator"));
    assert_eq!(good.code, 0, "{good:?}");
    let other = edgeprof_tests::Pki::new(&lab.folder().join("other"));
    let stranger = probe("theirs", &other.of("coordinator"));
    assert_eq!(stranger.code, 3, "{stranger:?}");
    assert!(stranger.stderr.contains("another authority"), "{stranger:?}");
}
