//! The list of what is revoked, from the authority through the coordinator to every worker.

use edgeprof_tests::{Finished, Lab, Lan, Pki, eventually};

/// `edgeprof pki publish` from the folder of this authority, with the certificate in `tls`.
fn publish(lab: &Lab, authority: &Pki, whose: &str) -> Finished {
    let mut command = lab.client_command();
    command.args(["pki", "publish", "--dir"]).arg(authority.folder());
    Finished::of(command.env("EDGEPROF_TLS_DIR", lab.pki().of(whose)))
}

fn said(lab: &Lab, worker: usize, what: &str) {
    let log = || lab.workers[worker].log();
    eventually(&format!("{what:?} in the worker's log"), || log().contains(what).then_some(()));
}

#[test]
fn a_list_that_is_published_holds_on_every_host_and_none_that_is_older_or_forged() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    lab.pki().run(&["issue", "client", "ann", "--role", "operator"]);
    // The client's own certificate, and one for a worker that comes later.
    assert_eq!(lab.client(&["whoami"]).code, 0);
    lab.pki().of("worker host-2");
    let desk = lab.pki().apart(&lab.folder().join("desk"));
    let as_ann = |lab: &Lab| {
        Finished::of(lab.client_command().arg("boards").env("EDGEPROF_TLS_DIR", lab.pki().of("client ann")))
    };

    let denied = publish(&lab, &desk, "client ann");
    assert_eq!(denied.code, 2, "{denied:?}");
    assert!(denied.stderr.contains("PublishRevocations needs the role admin"), "{denied:?}");
    assert_eq!(as_ann(&lab).code, 0);

    let told = desk.run(&["revoke", "client/ann", "--reason", "privilege-withdrawn"]);
    assert!(told.stdout.contains("edgeprof pki publish"), "{told:?}");
    assert_eq!(as_ann(&lab).code, 0, "nobody was told yet");
    let done = publish(&lab, &desk, "client tester");
    assert!(done.code == 0 && done.stdout.contains("has list 2, with 1 certificate revoked"), "{done:?}");
    let refused = as_ann(&lab);
    assert!(refused.code == 3 && refused.stderr.contains("it was revoked"), "{refused:?}");
    said(&lab, 0, "a newer list of what is revoked");

    let again = publish(&lab, &desk, "client tester");
    assert!(again.code == 0 && again.stdout.contains("has had list 2"), "{again:?}");
    let older = publish(&lab, &lab.pki().clone(), "client tester");
    assert!(older.code == 2 && older.stderr.contains("older than the coordinator's"), "{older:?}");
    let other = Pki::new(&lab.folder().join("other"));
    let forged = publish(&lab, &other, "client tester");
    assert!(forged.code == 2 && forged.stderr.contains("not of this lab's authority"), "{forged:?}");
    let log = lab.json(&["audit"]);
    let outcomes: Vec<_> = log
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["rpc"] == "PublishRevocations")
        .map(|entry| {
            (entry["who"].as_str().unwrap_or_default(), entry["outcome"].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(outcomes, [("ann", "refused"), ("tester", "done"), ("tester", "unchanged")], "{log}");

    // Over restarts, and for who was away.
    lab.kill_coordinator();
    lab.attach("host-2", lan.host());
    let later = lab.worker("host-2", &["mps2-an386"]);
    lab.workers.push(later);
    lab.start_coordinator();
    lab.wait_for_boards(2);
    said(&lab, 1, "a newer list of what is revoked");
    assert_eq!(as_ann(&lab).code, 3);
}

/// Its certificate is good by the copies of the list that it and the hosts have, until another one is published.
#[test]
fn a_worker_that_was_handed_the_list_refuses_the_coordinators_stolen_certificate() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    let ours = lab.pki().clone();
    let stolen = ours.apart(&lab.folder().join("stolen"));
    ours.run(&["renew", "coordinator"]);
    let coordinator = lab.coordinator.as_ref().unwrap();
    eventually("the new certificate", || coordinator.log().contains("were read again").then_some(()));
    let desk = ours.apart(&lab.folder().join("desk"));
    let issued = desk.run(&["list", "-o", "json"]).json();
    let first = issued.as_array().unwrap().iter().find(|one| one["name"] == "coordinator").unwrap();
    desk.run(&["revoke", first["serial"].as_str().unwrap(), "--reason", "key-compromise"]);
    let done = publish(&lab, &desk, "client tester");
    assert_eq!(done.code, 0, "{done:?}");
    said(&lab, 0, "a newer list of what is revoked");

    lab.attach("thief", lan.host());
    lab.trust(&stolen);
    let thief = lab.another_coordinator("thief", "thief");
    lab.trust(&ours);
    let log = eventually("the thief is refused", || {
        let log = thief.log();
        log.contains("no session with the worker").then_some(log)
    });
    for word in ["worker host-1", "refuses the certificate", "it was revoked"] {
        assert!(log.contains(word), "{word:?} is not in {log}");
    }
    lab.wait_for_boards(1);
}
