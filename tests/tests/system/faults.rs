//! Processes killed midway: nothing is lost, nothing is recorded twice, nothing is left behind.

use std::collections::BTreeSet;

use edgeprof_tests::{Lab, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{job, model};

fn words<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap_or("")).collect()
}

fn has_running(job: &Value) -> bool {
    job["tasks"].as_array().is_some_and(|tasks| {
        tasks.iter().any(|t| t["progress"]["phase"] == "run" && t["progress"]["done"].as_u64() > Some(0))
    })
}

/// Repetitions make a job long enough to be struck in its middle.
fn long_job<'a>(model: &'a str, boards: &[&'a str], repetitions: &'a str) -> Vec<&'a str> {
    [job(model, boards, "200"), vec!["-r", repetitions]].concat()
}

#[test]
fn an_accepted_job_survives_sigkill_of_the_coordinator() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386", "riscv32"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386", "riscv32"], "6"));
    lab.wait_for_job(&id, "running", has_running);
    lab.kill_coordinator();
    lab.start_coordinator();
    let ended = lab.wait_for_job(&id, "ended", |job| job["state"] != "open");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    for task in ended["tasks"].as_array().unwrap() {
        assert_eq!(task["attempts"], 1, "a restart of the coordinator charges no attempt: {task}");
    }
    let runs = lab.json(&["results", &id]);
    let ids: BTreeSet<_> = words(&runs, "task_id").into_iter().collect();
    assert_eq!((runs.as_array().unwrap().len(), ids.len()), (2, 2), "each task is recorded once");
    // The same after one more life.
    lab.kill_coordinator();
    lab.start_coordinator();
    assert_eq!(lab.json(&["results", &id]), runs);
}

#[test]
fn a_killed_emulator_costs_an_attempt_and_not_the_task() {
    let lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "6"));
    lab.wait_for_job(&id, "running", has_running);
    let emulators = lab.workers[0].children("qemu-system");
    assert_eq!(emulators.len(), 1, "one board, one emulator");
    kill(Pid::from_raw(emulators[0]), Signal::SIGKILL).unwrap();
    let ended = lab.wait_for_job(&id, "ended", |job| job["state"] != "open");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["tasks"][0]["attempts"], 2, "{ended}");
    lab.wait_for_boards(1);
}

#[test]
fn a_killed_workers_task_goes_on_elsewhere_and_no_emulator_is_left() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"], &["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "6"));
    let running = lab.wait_for_job(&id, "running", has_running);
    let board = running["tasks"][0]["board"].as_str().unwrap().to_owned();
    let struck = usize::from(board.starts_with("host-2/"));
    let emulators = lab.workers[struck].children("qemu-system");
    lab.workers[struck].kill();
    let ended = lab.wait_for_job(&id, "ended", |job| job["state"] != "open");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_ne!(ended["tasks"][0]["board"], board.as_str(), "it ended on the other worker");
    assert_eq!(lab.json(&["results", &id]).as_array().unwrap().len(), 1);
    for emulator in emulators {
        eventually("the emulator is gone with its worker", || kill(Pid::from_raw(emulator), None).err());
    }
}

#[test]
fn cancel_reaches_the_board_and_frees_it() {
    let lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "500"));
    lab.wait_for_job(&id, "running", has_running);
    assert_eq!(lab.client(&["cancel", &id]).code, 0);
    lab.wait_for_job(&id, "cancelled", |job| job["state"] == "cancelled");
    let runs = lab.json(&[&["run"], job(&model, &["mps2-an386"], "4").as_slice()].concat());
    assert_eq!(runs[0]["state"], "ok", "the board takes the next job: {runs}");
}

#[test]
fn daemons_end_when_they_are_told_to() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    lab.json(&[&["run"], job(&model, &["mps2-an386"], "4").as_slice()].concat());
    let emulators = lab.workers[0].children("qemu-system");
    assert!(lab.coordinator.as_mut().unwrap().stop().success());
    assert!(lab.workers[0].stop().success());
    for emulator in emulators {
        assert!(kill(Pid::from_raw(emulator), None).is_err(), "an emulator outlived its worker");
    }
}

/// Strikes a worker ten times, each at another moment of its work, and puts it back.
#[test]
fn ten_sigkills_of_workers_under_load_leave_no_process_and_every_task_ends() {
    const BOARDS: &[&str] = &["riscv32", "mps2-an386"];
    let mut lab = Lab::with_discovery(&[BOARDS, BOARDS]);
    let model = model();
    let mut arguments =
        vec!["-m", &model, "--prompt", "In the beginning", "-n", "100,110,120,130", "-r", "3"];
    arguments.extend(["--quant", "q8_0,q4_0", "--kv", "i8", "-b", "riscv32", "-b", "mps2-an386"]);
    let id = lab.submit(&arguments);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut emulators = Vec::new();
    for strike in 0..10 {
        let victim = usize::try_from(next(2)).unwrap();
        let moment = next(250);
        // Some token of an attempt on the victim's boards, or the beginning of one; or all work is done.
        let host = format!("host-{}/", victim + 1);
        lab.wait_for_job(&id, &format!("struck {strike} times"), |job| {
            let on_victim = |task: &&Value| task["board"].as_str().is_some_and(|b| b.starts_with(&host));
            let tasks = job["tasks"].as_array().unwrap();
            let mut there = tasks.iter().filter(on_victim);
            job["state"] != "open" || there.any(|task| task["progress"]["done"].as_u64() > Some(moment))
        });
        let struck = lab.workers[victim].children("qemu-system");
        lab.workers[victim].kill();
        for emulator in &struck {
            eventually("the emulator is gone with its worker", || kill(Pid::from_raw(*emulator), None).err());
        }
        emulators.extend(struck);
        lab.workers[victim] = lab.worker(&format!("host-{}", victim + 1), BOARDS);
    }
    let ended = lab.wait_for_job(&id, "ended", |job| job["state"] != "open");
    for task in ended["tasks"].as_array().unwrap() {
        // A task under which two workers were killed is taken for their poison.
        let state = task["state"].as_str().unwrap();
        assert!(state == "succeeded" || state == "exhausted", "{task}");
    }
    // The exit code is 1 where a task was exhausted.
    let runs = lab.client(&["results", &id, "-o", "json"]).json();
    let ids: BTreeSet<_> = words(&runs, "task_id").into_iter().collect();
    assert_eq!((runs.as_array().unwrap().len(), ids.len()), (16, 16), "each task is recorded once");
    assert!(emulators.len() > 4, "the strikes hit boards that ran: {emulators:?}");
    lab.wait_for_boards(4);
}
