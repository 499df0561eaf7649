//! Data that is used twice, copied, or put back from a backup.

use std::{fs, path::Path, process::Command};

use edgeprof_tests::{COORDINATOR, Finished, Lab, eventually, program};

use crate::{
    job, model,
    promises::{
        all_succeed_once, busy_job, has_running, none_was_begun_twice, stands_when_boards_have_worked_again,
    },
};

/// Exit code of a coordinator that must not be started again before somebody looked.
const DO_NOT_RESTART: i32 = 78;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            // Not the socket for backups.
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_second_coordinator_on_the_same_data_ends_and_the_first_goes_on() {
    let lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&job(&model, &["mps2-an386"], "100,110"));
    let mut second = lab.another_coordinator("second", COORDINATOR);
    assert_eq!(second.wait(), DO_NOT_RESTART);
    for word in ["in use by another coordinator", COORDINATOR, "hint: stop the other coordinator", "--data"] {
        assert!(second.log().contains(word), "{word:?} is not in {}", second.log());
    }
    all_succeed_once(&lab, &id);
}

/// Both begin the same epoch; the worker takes the one that came first.
#[test]
fn of_two_coordinators_on_copies_of_one_store_one_ends_and_nothing_doubles() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&busy_job(&model, &["mps2-an386"]));
    lab.wait_for_job(&id, "running", has_running);
    lab.kill_coordinator();
    copy(&lab.folder().join(COORDINATOR), &lab.folder().join("copy"));
    let mut both =
        [lab.another_coordinator("original", COORDINATOR), lab.another_coordinator("copied", "copy")];
    let ended = eventually("one of them ends", || (0..2).find(|side| both[*side].ended().is_some()));
    assert_eq!(both[ended].wait(), DO_NOT_RESTART);
    let said = both[ended].log();
    for word in ["epoch 2", "with a copy of the data in", "keep one of the two"] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    let [original, copied] = both;
    let mut survivor = if ended == 0 { copied } else { original };
    eventually("the other one serves", || survivor.serves().then_some(()));
    lab.coordinator = Some(survivor);
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
    assert_eq!(lab.coordinator.as_mut().unwrap().ended(), None);
}

/// It would hand out again what a later life has handed out, until an operator says that there is no later life.
#[test]
fn a_coordinator_on_an_older_store_is_turned_away_and_names_the_command_that_helps() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    lab.kill_coordinator();
    copy(&lab.folder().join(COORDINATOR), &lab.folder().join("backup"));
    // Two lives more, and jobs that the backup does not know.
    for _ in 0..2 {
        lab.start_coordinator();
        lab.wait_for_boards(1);
        lab.json(&[&["run"], job(&model, &["mps2-an386"], "4").as_slice()].concat());
        lab.kill_coordinator();
    }
    let mut restored = lab.another_coordinator("restored", "backup");
    assert_eq!(restored.wait(), DO_NOT_RESTART);
    for word in ["epoch 2", "epoch 3", "restored from a backup"] {
        assert!(restored.log().contains(word), "{word:?} is not in {}", restored.log());
    }
    obey(&restored.log());
    takes_over(&mut lab, "backup");
}

/// The store is lost, and an empty one is to take over its workers.
#[test]
fn a_coordinator_on_an_empty_store_is_turned_away_and_names_the_command_that_helps() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    lab.kill_coordinator();
    let mut empty = lab.another_coordinator("empty", "empty");
    eventually("the worker's refusal is told", || {
        empty.log().contains("edgeprof-coordinator adopt").then_some(())
    });
    assert_eq!(empty.ended(), None, "a foreign worker ends nobody");
    assert!(empty.stop().success());
    obey(&empty.log());
    takes_over(&mut lab, "empty");
}

/// Runs the command that was named.
fn obey(said: &str) {
    let (_, rest) =
        said.split_once("`edgeprof-coordinator ").unwrap_or_else(|| panic!("no command in {said}"));
    let arguments = rest.split_once('`').unwrap().0.split(' ');
    let done = Finished::of(Command::new(program("edgeprof-coordinator")).args(arguments));
    assert_eq!(done.code, 0, "{done:?}");
}

/// A coordinator on the data called `data` has the lab's worker and runs a job on it.
fn takes_over(lab: &mut Lab, data: &str) {
    let mut coordinator = lab.another_coordinator("adopted", data);
    eventually("it serves", || coordinator.serves().then_some(()));
    lab.coordinator = Some(coordinator);
    lab.wait_for_boards(1);
    let model = model();
    let runs = lab.json(&[&["run"], job(&model, &["mps2-an386"], "4").as_slice()].concat());
    assert_eq!(runs[0]["state"], "ok", "{runs}");
}

/// A worker's state from earlier holds a result that was delivered long since, and an older epoch.
#[test]
fn a_worker_on_older_state_obeys_nothing_old_and_doubles_nothing() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&job(&model, &["mps2-an386"], "200"));
    lab.wait_for_job(&id, "running", has_running);
    lab.kill_coordinator();
    let (state, backup) = (lab.folder().join("host-1"), lab.folder().join("backup"));
    eventually("the result waits in the outbox", || holds_bytes(&state.join("outbox")).then_some(()));
    lab.workers[0].kill();
    copy(&state, &backup);
    lab.workers[0] = lab.worker("host-1", &["mps2-an386"]);
    lab.start_coordinator();
    all_succeed_once(&lab, &id);
    let later = lab.json(&[&["run"], job(&model, &["mps2-an386"], "4").as_slice()].concat());
    let told = lab.json(&["show", &id]);

    lab.workers[0].kill();
    fs::remove_dir_all(&state).unwrap();
    copy(&backup, &state);
    lab.workers[0] = lab.worker("host-1", &["mps2-an386"]);
    // It listens elsewhere now, and the coordinator is told so at its start.
    lab.kill_coordinator();
    lab.start_coordinator();
    lab.wait_for_boards(1);
    stands_when_boards_have_worked_again(&lab, &id, &["host-1/mps2-an386.0"]);
    assert_eq!(lab.json(&["show", &id]), told, "the job stands as it was told before");
    assert_eq!(lab.json(&["results", later[0]["job_id"].as_str().unwrap()]), later);
}

/// Whether there is something in the files of `folder`.
pub(crate) fn holds_bytes(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|entry| entry.metadata().ok()).any(|file| file.is_file() && file.len() > 0)
}
