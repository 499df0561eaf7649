//! Two clusters on one network: each keeps to its own workers, and nobody exits.

use edgeprof_tests::{CLIENT, COORDINATOR, Lab, Lan, Pki, eventually};

use crate::{job, model, promises::all_succeed_once};

const NAMES: [&str; 2] = ["left-1", "right-1"];

/// Two clusters whose coordinators have claimed a worker each before either saw the other's, and then look around.
fn neighbours(lan: &Lan, sites: [&str; 2], pki: &Pki) -> [Lab; 2] {
    let mut labs = [0, 1].map(|side| {
        let mut lab = Lab::new();
        lab.set_site(sites[side]);
        for daemon in [NAMES[side], COORDINATOR, CLIENT] {
            lab.attach(daemon, lan.host());
        }
        // By certificate both coordinators may command both workers.
        lab.trust(pki);
        let worker = lab.worker(NAMES[side], &["mps2-an386"]);
        lab.workers.push(worker);
        lab.fixed = true;
        lab.start_coordinator();
        lab.wait_for_boards(1);
        assert!(lab.coordinator.as_mut().unwrap().stop().success());
        lab.fixed = false;
        lab
    });
    for lab in &mut labs {
        lab.start_coordinator_with(|command| {
            command.env("EDGEPROF_LOG", "warn,edgeprof_coordinator=debug");
        });
    }
    labs
}

/// Both work, each on its own board; all daemons are those that were started.
fn both_work(labs: &mut [Lab; 2]) {
    for lab in &*labs {
        lab.wait_for_boards(1);
    }
    let model = model();
    let jobs: Vec<_> = labs.iter().map(|lab| lab.submit(&job(&model, &["mps2-an386"], "60,70"))).collect();
    for ((lab, id), name) in labs.iter_mut().zip(jobs).zip(NAMES) {
        let ended = all_succeed_once(lab, &id);
        for task in ended["tasks"].as_array().unwrap() {
            assert_eq!(task["board"], format!("{name}/mps2-an386.0"), "{ended}");
        }
        let boards = lab.json(&["boards"]);
        assert_eq!(boards.as_array().unwrap().len(), 1, "{boards}");
        assert_eq!(lab.coordinator.as_mut().unwrap().ended(), None);
        assert_eq!(lab.workers[0].ended(), None);
    }
}

#[test]
fn of_different_sites_they_do_not_even_dial_the_others_workers() {
    let Some(lan) = Lan::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut labs = neighbours(&lan, ["left", "right"], &Pki::new(&folder.path().join("pki")));
    for (lab, foreign) in labs.iter().zip(["right-1", "left-1"]) {
        let said = format!("a worker of another site is left alone worker={foreign}");
        eventually(&said, || lab.coordinator.as_ref()?.log().contains(&said).then_some(()));
    }
    both_work(&mut labs);
    for (lab, foreign) in labs.iter().zip(["right-1", "left-1"]) {
        let workers = lab.json(&["workers"]);
        assert!(workers.as_array().unwrap().iter().all(|worker| worker["id"] != foreign), "{workers}");
    }
}

#[test]
fn of_one_site_they_are_turned_away_by_the_others_workers_and_say_whose_they_are() {
    let Some(lan) = Lan::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut labs = neighbours(&lan, ["attic", "attic"], &Pki::new(&folder.path().join("pki")));
    for (lab, foreign) in labs.iter().zip(["right-1", "left-1"]) {
        eventually(&format!("{foreign} has turned the other cluster away"), || {
            let workers = lab.json(&["workers"]);
            let worker = workers.as_array()?.iter().find(|worker| worker["id"] == foreign)?.clone();
            worker["reason"].as_str()?.contains("claimed by cluster").then_some(())
        });
    }
    both_work(&mut labs);
}
