//! Processes killed midway: nothing is lost, nothing is recorded twice, nothing is left behind.

use std::{process::Stdio, time::Instant};

use edgeprof_tests::{Finished, Lab, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    copies::holds_bytes,
    deaths::patched,
    job, model,
    promises::{
        DEAD, all_succeed_once, has_running, long_job, none_was_begun_twice, none_was_lost, recorded, tasks,
        work_moves_off,
    },
};

#[test]
fn an_accepted_job_survives_sigkill_of_the_coordinator() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386", "riscv32"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386", "riscv32"], "6"));
    lab.wait_for_job(&id, "running", has_running);
    lab.kill_coordinator();
    lab.start_coordinator();
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
    let runs = lab.json(&["results", &id]);
    // The same after one more life.
    lab.kill_coordinator();
    lab.start_coordinator();
    assert_eq!(lab.json(&["results", &id]), runs);
}

/// Its own clock tells a coordinator that it was frozen: it takes nobody for dead for that.
#[test]
fn a_frozen_coordinator_takes_up_what_its_workers_did_meanwhile() {
    let lab = Lab::with_addresses(&[&["mps2-an386"], &["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "8"));
    lab.wait_for_job(&id, "running", has_running);
    let coordinator = lab.coordinator.as_ref().unwrap();
    coordinator.signal(Signal::SIGSTOP);
    let since = Instant::now();
    eventually("a result waits in an outbox, and silence would have killed", || {
        let outboxes = ["host-1", "host-2"].map(|name| lab.folder().join(name).join("outbox"));
        (since.elapsed() > DEAD && outboxes.iter().any(|outbox| holds_bytes(outbox))).then_some(())
    });
    coordinator.signal(Signal::SIGCONT);
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
    none_was_lost(&lab, &id);
    assert!(coordinator.log().contains("the coordinator stood still"), "{}", coordinator.log());
}

/// Who follows a job follows it on when the coordinator comes back.
#[test]
fn watch_goes_on_over_a_restart_of_the_coordinator() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "3"));
    let mut watch = lab.client_command();
    watch.args(["watch", &id, "--progress", "plain"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let watch = watch.spawn().unwrap();
    lab.wait_for_job(&id, "running", has_running);
    lab.kill_coordinator();
    lab.start_coordinator();
    let told = Finished::from(watch.wait_with_output().unwrap());
    assert_eq!(told.code, 0, "{told:?}");
    all_succeed_once(&lab, &id);
    for word in ["lost the coordinator", "the coordinator is back"] {
        assert!(told.stderr.contains(word), "{word:?} is not in {told:?}");
    }
    assert!(told.stdout.contains("is succeeded"), "{told:?}");
}

#[test]
fn a_killed_emulator_costs_an_attempt_and_not_the_task_and_its_neighbour_goes_on() {
    let lab = Lab::with_addresses(&[&["mps2-an386", "riscv32"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "6"));
    let other = lab.submit(&long_job(&model, &["riscv32"], "6"));
    for job in [&id, &other] {
        lab.wait_for_job(job, "running", has_running);
    }
    let emulators = lab.workers[0].children("qemu-system-arm");
    assert_eq!(emulators.len(), 1, "one board, one emulator");
    kill(Pid::from_raw(emulators[0]), Signal::SIGKILL).unwrap();
    assert_eq!(all_succeed_once(&lab, &id)["tasks"][0]["attempts"], 2);
    all_succeed_once(&lab, &other);
    none_was_begun_twice(&lab, &other);
    lab.wait_for_boards(2);
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
    assert_eq!(emulators.len(), 1, "one board, one emulator");
    lab.workers[struck].kill();
    let ended = all_succeed_once(&lab, &id);
    assert_ne!(ended["tasks"][0]["board"], board.as_str(), "it ended on the other worker");
    for emulator in emulators {
        eventually("the emulator is gone with its worker", || kill(Pid::from_raw(emulator), None).err());
    }
}

/// A frozen worker is taken for dead. What it ends when it thaws is late, and changes nothing.
#[test]
fn a_frozen_workers_tasks_go_on_elsewhere_and_its_late_results_change_nothing() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"], &["mps2-an386"]]);
    work_moves_off(
        &mut lab,
        |lab, worker| lab.workers[worker].signal(Signal::SIGSTOP),
        |lab, worker| lab.workers[worker].signal(Signal::SIGCONT),
    );
}

/// A board that hangs is killed when its cancelled run does not end, and its neighbours do not notice.
#[test]
fn a_hung_board_is_killed_and_started_again_and_its_neighbour_goes_on() {
    let lab = Lab::with_addresses(&[&["mps2-an386", "riscv32"]]);
    let model = model();
    let hung = lab.submit(&long_job(&model, &["mps2-an386"], "500"));
    let id = lab.submit(&long_job(&model, &["riscv32"], "6"));
    for job in [&hung, &id] {
        lab.wait_for_job(job, "running", has_running);
    }
    let (arm, riscv) = ("qemu-system-arm", "qemu-system-ris");
    let emulators = lab.workers[0].children(arm);
    let neighbours = lab.workers[0].children(riscv);
    assert_eq!((emulators.len(), neighbours.len()), (1, 1), "one board, one emulator");
    kill(Pid::from_raw(emulators[0]), Signal::SIGSTOP).unwrap();
    assert_eq!(lab.client(&["cancel", &hung]).code, 0);
    lab.wait_for_job(&hung, "cancelled", |job| job["state"] == "cancelled");
    eventually("the hung emulator is gone", || kill(Pid::from_raw(emulators[0]), None).err());
    let runs = lab.json(&[&["run"], job(&model, &["mps2-an386"], "4").as_slice()].concat());
    assert_eq!(runs[0]["state"], "ok", "the board takes the next job: {runs}");
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
    assert_eq!(lab.workers[0].children(riscv), neighbours, "the neighbour's emulator is the same");
}

/// What crashes every board is the model's or the firmware's fault: its task fails, and no board is lost for it.
#[test]
fn a_task_that_crashes_every_board_fails_and_the_boards_go_on() {
    let lab = Lab::with_addresses(&[&["mps2-an386"], &["mps2-an386"], &["mps2-an386"]]);
    let model = model();
    // UDF #0.
    let elf = patched("mps2-an386", "7Session7forward", &[0x00, 0xde]);
    let elf = lab.file("patched.elf", &elf).display().to_string();
    let well = lab.submit(&job(&model, &["mps2-an386"], "100,110,120,130"));
    let crashes = [&["run"], &job(&model, &["mps2-an386"], "4")[..], &["--firmware", &elf, "-o", "json"]];
    let finished = lab.client(&crashes.concat());
    assert_eq!(finished.code, 1, "{finished:?}");
    let run = &finished.json()[0];
    assert_eq!(run["state"], "failed", "{run}");
    assert!(run["error"]["message"].as_str().unwrap().contains("undefined instruction"), "{run}");
    all_succeed_once(&lab, &well);
    lab.wait_for_boards(3);
}

#[test]
fn cancel_reaches_the_board_and_frees_it() {
    let lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    let id = lab.submit(&long_job(&model, &["mps2-an386"], "500"));
    lab.wait_for_job(&id, "running", has_running);
    let emulators = lab.workers[0].children("qemu-system-arm");
    assert_eq!(emulators.len(), 1, "one board, one emulator");
    assert_eq!(lab.client(&["cancel", &id]).code, 0);
    lab.wait_for_job(&id, "cancelled", |job| job["state"] == "cancelled");
    // A board that had not obeyed would have been started anew.
    assert_eq!(lab.workers[0].children("qemu-system-arm"), emulators);
    let runs = lab.json(&[&["run"], job(&model, &["mps2-an386"], "4").as_slice()].concat());
    assert_eq!(runs[0]["state"], "ok", "the board takes the next job: {runs}");
}

#[test]
fn daemons_end_when_they_are_told_to() {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let model = model();
    lab.json(&[&["run"], job(&model, &["mps2-an386"], "4").as_slice()].concat());
    let emulators = lab.workers[0].children("qemu-system");
    assert_eq!(emulators.len(), 1, "one board, one emulator");
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
            let mut there = tasks(job).iter().filter(on_victim);
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
    let story = lab.json(&["show", &id, "--events"]);
    let lost = |task: &Value| {
        let of_task = story.as_array().unwrap().iter().filter(|event| event["task_id"] == task["task_id"]);
        of_task.filter(|event| event["what"] == "lost").count()
    };
    let (exhausted, others): (Vec<_>, Vec<_>) =
        tasks(&ended).iter().partition(|task| task["state"] == "exhausted");
    for task in exhausted {
        // A task under which two workers were killed is taken for their poison.
        assert_eq!(task["error"]["code"], "workers_died", "{task}");
        assert!(lost(task) >= 2, "{task}: {story}");
    }
    assert!(!others.is_empty() && others.iter().all(|task| task["state"] == "succeeded"), "{ended}");
    // The exit code is 1 where a task was exhausted.
    let runs = lab.client(&["results", &id, "-o", "json"]).json();
    assert_eq!(recorded(&runs), 16);
    assert!(emulators.len() > 4, "the strikes hit boards that ran: {emulators:?}");
    lab.wait_for_boards(4);
}
