//! Hosts on a network of their own, and that network failing.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use edgeprof_tests::{COORDINATOR, Lab, Lan, Way, eventually};

use crate::{
    model,
    promises::{
        DEAD, all_succeed_once, busy_job, has_running, long_job, none_was_begun_twice,
        stands_when_boards_have_worked_again, tasks, work_moves_off,
    },
};

/// What the test below kills: it says that its lab stands, and waits for its end.
#[test]
#[ignore = "waits until it is killed"]
fn a_lab_that_waits() {
    let Some(lan) = Lan::new() else { return };
    let lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "500"));
    lab.wait_for_job(&id, "running", has_running);
    println!("folder {}", lab.folder().display());
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// However a test ends, neither processes nor interfaces of it are left.
#[test]
fn a_killed_test_leaves_no_process_and_no_namespace() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "partitions::a_lab_that_waits", "--nocapture"]);
    let mut test = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines().map_while(Result::ok);
    let folder = lines.filter_map(|line| line.strip_prefix("folder ").map(PathBuf::from)).next();
    // As a mark of what is its own: the kernel's name of each network that its processes are in.
    let children = descendants(test.id());
    let networks: BTreeSet<_> = children.iter().filter_map(|id| network(*id)).collect();
    test.kill().unwrap();
    test.wait().unwrap();
    let Some(folder) = folder else {
        assert!(Lan::new().is_none(), "there are namespaces, and the lab that waits has none");
        eprintln!("SKIPPED: there is no network to be left behind");
        return;
    };
    assert_eq!(networks.len(), 4, "a switch and three hosts");
    assert!(children.len() > 6, "guards, daemons, an emulator: {children:?}");
    eventually("its processes are gone", || {
        let left = processes().into_iter().filter_map(network).any(|there| networks.contains(&there));
        (!left).then_some(())
    });
    std::fs::remove_dir_all(folder).unwrap();
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn descendants(of: u32) -> Vec<u32> {
    let parent = |id: u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:\t")?.parse().ok())
    };
    let above = |id: u32| std::iter::successors(Some(id), |id| parent(*id)).skip(1).any(|id| id == of);
    processes().into_iter().filter(|id| above(*id)).collect()
}

/// The network that a process is in, other than this test's.
fn network(id: u32) -> Option<PathBuf> {
    let of = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
    of(&id.to_string()).filter(|network| Some(network) != of("self").as_ref())
}

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
    let since = Instant::now();
    eventually("no worker is heard, for longer than one alone may be silent", || {
        let workers = lab.client_at_the_coordinator(&["workers", "-o", "json"]).json();
        let health: Vec<_> = workers.as_array()?.iter().map(|worker| worker["health"].as_str()).collect();
        assert!(!health.contains(&Some("dead")), "all together are not: {workers}");
        (since.elapsed() > DEAD && health == [Some("suspect"); 3]).then_some(())
    });
    lab.host(COORDINATOR).put_back();
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
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
    none_was_begun_twice(&lab, &id);
    let workers = lab.json(&["workers"]);
    assert!(workers[0]["address"].as_str().unwrap().starts_with(&address.to_string()), "{workers}");
}
