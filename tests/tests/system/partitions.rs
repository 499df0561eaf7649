//! Hosts on a network of their own, and that network failing.

use std::net::Ipv4Addr;

use edgeprof_tests::{COORDINATOR, Lab, Lan, Way, eventually};

use crate::{
    model,
    promises::{
        all_succeed_once, busy_job, has_running, stands_when_boards_have_worked_again, tasks, work_moves_off,
    },
};

const HOSTS: [&str; 2] = ["host-1", "host-2"];

/// No packet goes either way, and nothing tells the coordinator so.
#[test]
fn work_moves_off_a_host_whose_cable_is_pulled() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"], &["mps2-an386"]]);
    work_moves_off(
        &mut lab,
        |lab, worker| lab.host(HOSTS[worker]).pull(),
        |lab, worker| lab.host(HOSTS[worker]).put_back(),
    );
}

/// The worker goes on and hears everything, and nobody hears it.
#[test]
fn work_moves_off_a_host_that_is_not_heard() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"], &["mps2-an386"]]);
    work_moves_off(
        &mut lab,
        |lab, worker| lab.host(HOSTS[worker]).lose(Way::Out),
        |lab, worker| lab.host(HOSTS[worker]).lose_none(Way::Out),
    );
}

/// The worker is heard for as long as its system sends on without an answer, which may be until the end of its task.
#[test]
fn a_host_that_hears_nothing_keeps_no_task_from_its_end() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"], &["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&busy_job(&model, &["mps2-an386"]));
    lab.wait_for_job(&id, "running", has_running);
    lab.host(HOSTS[0]).lose(Way::In);
    all_succeed_once(&lab, &id);
    lab.host(HOSTS[0]).lose_none(Way::In);
    lab.wait_for_boards(2);
    stands_when_boards_have_worked_again(&lab, &id, &["host-1/mps2-an386.0", "host-2/mps2-an386.0"]);
}

/// All workers fall silent at once: that speaks against the coordinator's own cable. Nothing is started anew.
#[test]
fn a_coordinator_that_is_cut_off_takes_up_what_its_workers_did_meanwhile() {
    let Some(lan) = Lan::new() else { return };
    let boards: &[&str] = &["mps2-an386"];
    let mut lab = Lab::on_hosts(&lan, &[boards, boards, boards]);
    let model = model();
    let id = lab.submit(&busy_job(&model, &["mps2-an386"]));
    lab.wait_for_job(&id, "on all boards", |job| {
        tasks(job).iter().filter(|task| task["progress"]["phase"] == "run").count() == 3
    });
    lab.host(COORDINATOR).pull();
    eventually("no worker is heard", || {
        let workers = lab.client_at_the_coordinator(&["workers", "-o", "json"]).json();
        workers.as_array()?.iter().all(|worker| worker["health"] != "alive").then_some(())
    });
    lab.host(COORDINATOR).put_back();
    let ended = all_succeed_once(&lab, &id);
    for task in tasks(&ended) {
        assert_eq!(task["attempts"], 1, "{ended}");
    }
}

/// A host whose address lease ran out is found again by its announcement.
#[test]
fn a_host_with_a_new_address_is_found_again_with_what_it_did_meanwhile() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&busy_job(&model, &["mps2-an386"]));
    lab.wait_for_job(&id, "running", has_running);
    let address = Ipv4Addr::new(10, 77, 1, 1);
    lab.host(HOSTS[0]).readdress(address);
    all_succeed_once(&lab, &id);
    let workers = lab.json(&["workers"]);
    assert!(workers[0]["address"].as_str().unwrap().starts_with(&address.to_string()), "{workers}");
}
