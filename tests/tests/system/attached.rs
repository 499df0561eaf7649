//! Boards at a serial port: an emulator that somebody else has started, behind a line with faults.

use std::path::Path;

use edgeprof_tests::{Emulator, Faults, Lab, Proxy, firmware};
use serde_json::Value;

use crate::{job, model};

const BOARD: &str = "host-1/riscv32.0";

/// An emulator, its line, and a lab whose worker is given that line.
struct Bench {
    lab: Lab,
    line: Proxy,
    // Ends last: a line without a board is another test.
    _board: Emulator,
    _folder: tempfile::TempDir,
}

fn stanza(kind: &str, port: &Path) -> String {
    format!("[[board]]\nkind = \"{kind}\"\nport = {port:?}\nemulated = true\n")
}

fn bench(kind: &str, more: &str) -> Bench {
    bench_with(kind, more, &firmware().join(format!("{kind}.elf")))
}

fn bench_with(kind: &str, more: &str, firmware: &Path) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let board = Emulator::start(kind, firmware);
    let line = Proxy::new(board.terminal(), folder.path().join("ttyUSB0"));
    let lab = Lab::with_config(&format!("{}{more}", stanza(kind, line.path())));
    Bench { lab, line, _board: board, _folder: folder }
}

fn run(lab: &Lab, boards: &[&str], tokens: &str) -> Value {
    let model = model();
    let runs = lab.json(&[&["run"], job(&model, boards, tokens).as_slice()].concat());
    runs.as_array().unwrap()[0].clone()
}

fn check(lab: &Lab, board: &str) -> (i32, Value) {
    let finished = lab.client(&["board", "check", board, "-o", "json"]);
    (finished.code, finished.json())
}

fn logs(lab: &Lab, job: &str) -> Vec<String> {
    let logs = lab.json(&["logs", job]);
    logs.as_array().unwrap().iter().map(|log| log["text"].as_str().unwrap().to_owned()).collect()
}

fn assert_good(run: &Value) {
    assert_eq!(run["state"], "ok", "{run}");
    assert_eq!(run["workload"]["verification"], "hash", "{run}");
}

#[test]
fn a_board_that_runs_already_is_loaded_over_its_line_and_gives_the_figures_of_one_that_we_started() {
    let bench = bench("mps2-an386", "[[board]]\nkind = \"mps2-an386\"\nname = \"own\"\n");
    let lab = &bench.lab;
    lab.wait_for_boards(2);
    let attached = run(lab, &["host-1/mps2-an386.0"], "16");
    let own = run(lab, &["host-1/own"], "16");
    assert_good(&attached);
    assert_eq!(attached["counts"], own["counts"]);
    assert_eq!(attached["workload"]["logits_hash"], own["workload"]["logits_hash"]);
    assert_eq!(attached["firmware"], own["firmware"], "the board proves which code it runs");
    assert!(attached["environment"]["version"].is_null(), "nobody knows what somebody else has started");
    // The transcript tells of the load, and once it is there it is not sent again.
    let text = logs(lab, attached["job_id"].as_str().unwrap()).pop().unwrap();
    assert!(text.contains("0 there, ") && text.contains("→ Go") && text.contains("Done {"), "{text}");
    let again = run(lab, &["host-1/mps2-an386.0"], "4");
    let text = logs(lab, again["job_id"].as_str().unwrap()).pop().unwrap();
    assert!(text.contains(" there, 0 sent"), "{text}");
    let (code, checks) = check(lab, "host-1/mps2-an386.0");
    assert_eq!(code, 0, "{checks}");
    for name in ["line", "firmware", "image"] {
        assert!(
            checks.as_array().unwrap().iter().any(|c| c["name"] == name && c["state"] == "ok"),
            "{checks}"
        );
    }
}

/// 16 KiB of RAM, frames of 160 bytes, and a model region that is flash.
#[test]
fn the_smallest_board_is_loaded_over_its_line_too() {
    let bench = bench("microbit", "[[board]]\nkind = \"microbit\"\nname = \"own\"\n");
    let lab = &bench.lab;
    lab.wait_for_boards(2);
    let model = model();
    let run = |board: &str| {
        let runs = lab.json(&[
            "run",
            "-m",
            &model,
            "-b",
            board,
            "--prompt",
            "In the beginning",
            "-n",
            "8",
            "--ctx",
            "20",
            "--quant",
            "q4_0",
            "--kv",
            "i8",
        ]);
        runs[0].clone()
    };
    let (attached, own) = (run("host-1/microbit.0"), run("host-1/own"));
    assert_good(&attached);
    assert_eq!(attached["counts"], own["counts"]);
    assert_eq!(attached["workload"]["logits_hash"], own["workload"]["logits_hash"]);
    let text = logs(lab, attached["job_id"].as_str().unwrap()).pop().unwrap();
    assert!(text.contains("0 there, ") && text.contains("Done {"), "{text}");
}

#[test]
fn a_line_that_damages_loses_repeats_splits_and_stalls_costs_time_and_nothing_else() {
    let bench = bench("riscv32", "");
    bench.lab.wait_for_boards(1);
    let clean = run(&bench.lab, &[BOARD], "64");
    assert_good(&clean);
    bench.line.set(Faults { flip: 200, drop: 100, duplicate: 100, split: 300, stall: 10 });
    for quant in ["native", "q4_0"] {
        let model = model();
        let mut arguments = vec!["run", "-m", &model, "--prompt", "In the beginning", "-n", "64"];
        arguments.extend(["--quant", quant, "--kv", "i8", "-b", BOARD]);
        let runs = bench.lab.json(&arguments);
        assert_good(&runs[0]);
        assert_eq!(runs[0]["attempt"], 1, "no attempt is lost to a bad line: {runs}");
    }
    let same = run(&bench.lab, &[BOARD], "64");
    assert_eq!((&same["counts"], same["attempt"].as_u64()), (&clean["counts"], Some(1)));
    assert!(bench.line.damaged() > 20, "only {} frames were damaged", bench.line.damaged());
}

#[test]
fn a_board_goes_bad_and_good_with_its_plug_and_a_load_that_it_cut_off_is_done_again() {
    let bench = bench("riscv32", "");
    let lab = &bench.lab;
    lab.wait_for_boards(1);
    bench.line.pull();
    let reason = lab.wait_for_health(BOARD, "bad");
    assert!(reason.contains("ttyUSB0") && reason.contains("plug the board in"), "{reason}");
    let (code, checks) = check(lab, BOARD);
    assert!(code == 1 && checks.to_string().contains("ttyUSB0"), "{checks}");
    bench.line.put_back();
    lab.wait_for_boards(1);
    // Now in the middle of a load, slowed down so that it has one.
    bench.line.set(Faults { stall: 600, ..Faults::default() });
    let model = model();
    let id = lab.submit(&job(&model, &[BOARD], "8"));
    lab.wait_for_job(&id, "loading", |job| {
        let progress = &job["tasks"][0]["progress"];
        progress["phase"] == "load" && progress["done"].as_u64() > Some(40_000)
    });
    bench.line.pull();
    lab.wait_for_health(BOARD, "bad");
    bench.line.set(Faults::default());
    bench.line.put_back();
    let ended = lab.wait_for_job(&id, "ended", |job| job["state"] != "open");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    // The board has proved itself by a canary run in between, whose image has taken the place of the half one.
    let logs = logs(lab, &id);
    let loads = |text: &String| text.lines().any(|line| line.contains("· image of"));
    assert!(logs.len() == 2 && logs.iter().all(loads), "{logs:?}");
}

#[test]
fn a_task_goes_on_elsewhere_when_its_board_is_pulled_out() {
    let bench = bench("riscv32", "[[board]]\nkind = \"riscv32\"\nname = \"own\"\n");
    let lab = &bench.lab;
    lab.wait_for_boards(2);
    let model = model();
    // Two tasks for two boards: both are busy, and the attached one is pulled in the middle of its run.
    let job = job(&model, &["riscv32"], "200");
    let long = [&job[..], &["-n", "190", "-r", "3"]].concat();
    let id = lab.submit(&long);
    lab.wait_for_job(&id, "running on the attached board", |job| {
        job["tasks"].as_array().unwrap().iter().any(|task| {
            task["board"] == BOARD
                && task["progress"]["phase"] == "run"
                && task["progress"]["done"].as_u64() > Some(100)
        })
    });
    bench.line.pull();
    let ended = lab.wait_for_job(&id, "ended", |job| job["state"] != "open");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    for task in ended["tasks"].as_array().unwrap() {
        assert_eq!(task["board"], "host-1/own", "{ended}");
    }
    lab.wait_for_health(BOARD, "bad");
}

#[test]
fn a_board_that_is_not_what_the_configuration_says_is_bad_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::start("riscv32", &firmware().join("riscv32.elf"));
    let line = Proxy::new(emulator.terminal(), folder.path().join("ttyUSB0"));
    let nothing = folder.path().join("none");
    let config = format!("{}{}", stanza("riscv64", line.path()), stanza("riscv32-soft", &nothing));
    let lab = Lab::with_config(&config);
    let reason = lab.wait_for_health("host-1/riscv64.0", "bad");
    assert!(reason.contains("for board kind riscv32") && reason.contains("to be a riscv64"), "{reason}");
    let reason = lab.wait_for_health("host-1/riscv32-soft.0", "bad");
    assert!(reason.contains("none") && reason.contains("edgeprof-worker scan"), "{reason}");
}

#[test]
fn a_board_with_other_firmware_than_the_task_names_does_not_run_it() {
    // The same code but for one byte of a constant: another place for the word that the firmware is searched for.
    let folder = tempfile::tempdir().unwrap();
    let mut elf = std::fs::read(firmware().join("riscv32.elf")).unwrap();
    let at = elf.windows(12).position(|window| window == b"instructions").expect("the counter's unit");
    elf[at + 11] = b'S';
    let other = folder.path().join("other.elf");
    std::fs::write(&other, elf).unwrap();
    let bench = bench_with("riscv32", "", &other);
    bench.lab.wait_for_boards(1);
    let model = model();
    let finished =
        bench.lab.client(&[&["run"], job(&model, &[BOARD], "4").as_slice(), &["-o", "json"]].concat());
    assert_eq!(finished.code, 1);
    let error = &finished.json()[0]["error"];
    assert_eq!((&error["class"], &error["code"]), (&"infrastructure".into(), &"firmware_mismatch".into()));
    assert!(error["message"].as_str().unwrap().contains("another firmware"), "{error}");
}

#[test]
fn scan_prints_stanzas_that_make_a_lab() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::start("riscv32", &firmware().join("riscv32.elf"));
    let line = Proxy::new(emulator.terminal(), folder.path().join("ttyUSB0"));
    let mut command = std::process::Command::new(edgeprof_tests::program("edgeprof-worker"));
    let out = command.args(["scan", "--port"]).arg(line.path()).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && text.contains("Answers with firmware"), "{text}");
    let config = folder.path().join("worker.toml");
    std::fs::write(&config, &text).unwrap();
    let mut command = std::process::Command::new(edgeprof_tests::program("edgeprof-worker"));
    let out = command.arg("--config").arg(&config).arg("--check-config").output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && said.contains("the configuration is good"), "{said}\n{text}");
    assert!(text.contains(&format!("port = {:?}", line.path())), "{text}");
}
