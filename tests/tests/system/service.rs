//! Workers and boards that people take out of service, and what that does to the work on them.

use std::process::Stdio;

use edgeprof_tests::{Finished, Lab, eventually};
use serde_json::Value;

use crate::{
    job, model,
    promises::{
        all_succeed_once, busy_job, has_running, long_job, none_was_begun_twice, runs, tasks, worker_of,
    },
};

const BOARDS: [&str; 2] = ["host-1/mps2-an386.0", "host-2/mps2-an386.0"];

fn two_workers() -> Lab {
    Lab::with_addresses(&[&["mps2-an386"], &["mps2-an386"]])
}

/// Runs a short job on any board, and gives the board.
fn where_work_goes(lab: &Lab) -> String {
    let model = model();
    let id = lab.submit(&job(&model, &["mps2-an386"], "4"));
    let ended = all_succeed_once(lab, &id);
    ended["tasks"][0]["board"].as_str().unwrap().to_owned()
}

fn told(lab: &Lab, what: &str, id: &str) -> Value {
    let items = lab.json(&[what]);
    items.as_array().unwrap().iter().find(|item| item["id"] == id).unwrap().clone()
}

fn done(lab: &Lab, arguments: &[&str]) -> Finished {
    let finished = lab.client(arguments);
    assert_eq!(finished.code, 0, "{arguments:?}: {finished:?}");
    finished
}

fn works_on_both(job: &Value) -> bool {
    let busy: Vec<_> = tasks(job).iter().filter(|task| runs(task)).filter_map(worker_of).collect();
    busy.contains(&"host-1") && busy.contains(&"host-2")
}

#[test]
fn a_worker_that_is_told_to_end_ends_its_task_and_gives_back_the_rest() {
    let mut lab = two_workers();
    let model = model();
    let id = lab.submit(&busy_job(&model, &["mps2-an386"]));
    lab.wait_for_job(&id, "on both workers", works_on_both);
    assert!(lab.workers[0].stop().success(), "{}", lab.workers[0].log());
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
}

#[test]
fn a_drained_worker_gets_no_work_over_a_restart_until_that_is_undone() {
    let mut lab = two_workers();
    let model = model();
    let id = lab.submit(&busy_job(&model, &["mps2-an386"]));
    lab.wait_for_job(&id, "on both workers", works_on_both);
    done(&lab, &["drain", "host-1"]);
    let worker = told(&lab, "workers", "host-1");
    assert_eq!(
        (&worker["draining"], &worker["attempts"]),
        (&true.into(), &0.into()),
        "it is empty: {worker}"
    );
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
    lab.kill_coordinator();
    lab.start_coordinator();
    lab.wait_for_boards(2);
    assert_eq!(told(&lab, "workers", "host-1")["draining"], true);
    for _ in 0..2 {
        assert_eq!(where_work_goes(&lab), BOARDS[1]);
    }
    done(&lab, &["drain", "host-1", "--undo"]);
    done(&lab, &[&["run"], &job(&model, &BOARDS[..1], "4")[..]].concat());
}

#[test]
fn a_quarantined_board_gets_no_work_over_a_restart_until_it_is_let_go() {
    let mut lab = two_workers();
    let model = model();
    done(&lab, &["quarantine", BOARDS[0], "--reason", "smells of smoke"]);
    lab.kill_coordinator();
    lab.start_coordinator();
    lab.wait_for_boards(1);
    let board = told(&lab, "boards", BOARDS[0]);
    assert!(board.to_string().contains("smells of smoke"), "{board}");
    for _ in 0..2 {
        assert_eq!(where_work_goes(&lab), BOARDS[1]);
    }
    done(&lab, &["unquarantine", BOARDS[0]]);
    done(&lab, &[&["run"], &job(&model, &BOARDS[..1], "4")[..]].concat());
}

/// Who has nothing to say to the board leaves when it says nothing either.
#[test]
fn a_reserved_board_is_its_holders_and_nobody_elses() {
    let lab = two_workers();
    let model = model();
    let console = |input: Stdio| {
        let mut command = lab.client_command();
        command.args(["board", "console", BOARDS[0]]).stdin(input);
        Finished::of(&mut command)
    };
    // An emulator starts with its board's first task.
    done(&lab, &[&["run"], &job(&model, &BOARDS[..1], "4")[..]].concat());
    let refused = console(Stdio::null());
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("edgeprof board reserve"), "{refused:?}");
    done(&lab, &["board", "reserve", BOARDS[0], "--for", "2h"]);
    for _ in 0..2 {
        assert_eq!(where_work_goes(&lab), BOARDS[1]);
    }
    let talked = console(Stdio::null());
    assert_eq!(talked.code, 0, "{talked:?}");
    done(&lab, &["board", "reserve", BOARDS[0], "--release"]);
    done(&lab, &[&["run"], &job(&model, &BOARDS[..1], "4")[..]].concat());
}

#[test]
fn a_reset_restarts_an_idle_board_and_waits_for_a_busy_one() {
    let lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "500"));
    let running = lab.wait_for_job(&id, "running", has_running);
    let refused = lab.client(&["board", "reset", BOARDS[0]]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let task = tasks(&running)[0]["task_id"].as_str().unwrap();
    for word in ["busy", task] {
        assert!(refused.stderr.contains(word), "{word:?} is not in {refused:?}");
    }
    done(&lab, &["cancel", &id]);
    let reset = eventually("the board is idle, and reset", || {
        Some(lab.client(&["board", "reset", BOARDS[0]])).filter(|reset| reset.code == 0)
    });
    assert!(reset.stdout.contains("good"), "{reset:?}");
    done(&lab, &[&["run"], &job(&model, &BOARDS[..1], "4")[..]].concat());
}
