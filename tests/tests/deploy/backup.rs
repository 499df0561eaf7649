//! A backup of a lab that works, and the lab that goes on from it.

use std::{fs, process::Command};

use edgeprof_tests::{COORDINATOR, Finished, Lab, program, shipped_model};
use serde_json::Value;

/// Twelve cells, a few of which end before the last has begun.
const MANY: &str = "4,5,6,7,8,9,10,11,12,13,14,15";

fn submit(lab: &Lab, tokens: &str) -> String {
    let model = shipped_model();
    let model = model.to_str().expect("the clone's path is UTF-8");
    let what = ["-m", model, "--prompt", "In the beginning", "-n", tokens, "-b", "riscv32"];
    lab.submit(&[&what[..], &["--quant", "q8_0", "--kv", "i8"]].concat())
}

fn ended(job: &Value) -> usize {
    job["tasks"].as_array().into_iter().flatten().filter(|task| task["state"] == "succeeded").count()
}

fn coordinator(words: &[&str]) -> Finished {
    Finished::of(Command::new(program("edgeprof-coordinator")).args(words))
}

#[test]
fn a_lab_goes_on_from_a_backup_that_was_taken_while_it_worked() {
    let mut lab = Lab::with_addresses(&[&["riscv32"]]);
    let path = |name: &str| lab.folder().join(name).into_os_string().into_string().unwrap();
    let (data, file, restored) = (path(COORDINATOR), path("backup.tar"), path("restored"));
    let done = submit(&lab, "4");
    lab.wait_for_job(&done, "done", |job| ended(job) == 1);
    let results = lab.json(&["results", &done]);
    let open = submit(&lab, MANY);
    lab.wait_for_job(&open, "under way", |job| ended(job) > 0);
    let taken = coordinator(&["backup", &file, "--data", &data]);
    assert_eq!(taken.code, 0, "{taken:?}");
    assert!(ended(&lab.json(&["show", &open])) < 12, "it was taken while the job ran");

    // The coordinator is lost with its disk.
    lab.kill_coordinator();
    let refused = coordinator(&["restore", &file, "--data", &data]);
    assert!(refused.code == 1 && refused.stderr.contains("not empty"), "{refused:?}");
    let back = coordinator(&["restore", &file, "--data", &restored]);
    assert!(back.code == 0 && back.stdout.contains("adopt"), "{back:?}");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&restored, &data).unwrap();
    lab.start_coordinator();
    lab.wait_for_boards(1);
    assert_eq!(lab.json(&["results", &done]), results, "what was acknowledged before is there");
    lab.wait_for_job(&open, "done", |job| ended(job) == 12);
}
