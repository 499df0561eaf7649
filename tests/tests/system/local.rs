//! `run --local`: a whole lab for one run, of which nothing is left.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
};

use edgeprof_tests::{Lab, eventually, firmware, program};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{job, model};

/// A machine without a lab: a folder for temporary files, and an environment that speaks of other labs.
struct Machine {
    temporary: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { temporary: tempfile::Builder::new().prefix("edgeprof-test-").tempdir().unwrap() }
    }

    fn run(&self, more: &[&str]) -> Command {
        let mut command = Command::new(program("edgeprof"));
        command.args(["run", "--local"]).args(more).stdin(Stdio::null());
        command
            .env("TMPDIR", self.temporary.path())
            .env("HOME", "/nowhere")
            .env("EDGEPROF_FIRMWARE", firmware());
        command.env("EDGEPROF_COORDINATOR", "http://127.0.0.1:1").env("EDGEPROF_WORKERS", "127.0.0.1:1");
        command.env("EDGEPROF_BOARDS", "riscv64").env("EDGEPROF_DATA", "/nowhere");
        command
    }

    /// Starts a job that takes long, and waits until a board runs it. What the client says after that is
    /// read by a thread, so that it never waits for a reader.
    fn running(&self) -> (Child, JoinHandle<String>) {
        let model = model();
        let long = [job(&model, &["riscv32"], "200"), vec!["-r", "500", "--progress", "plain"]].concat();
        let mut child =
            self.run(&long).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let runs = lines.by_ref().map_while(Result::ok).any(|line| line.contains(": run"));
        assert!(runs, "the job runs before the command ends");
        let rest = thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        (child, rest)
    }

    /// Daemons and emulators: all of them name a path of this machine.
    fn processes(&self) -> Vec<String> {
        let place = self.temporary.path().to_str().unwrap();
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let lines = processes.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(place)).collect()
    }

    fn files(&self) -> usize {
        fs::read_dir(self.temporary.path()).unwrap().count()
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_local_run_gives_the_figures_of_a_lab_and_leaves_nothing() {
    let machine = Machine::new();
    let model = model();
    let arguments = job(&model, &["mps2-an386", "riscv32"], "8");
    let out = machine.run(&arguments).args(["-o", "json"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!((machine.processes(), machine.files()), (vec![], 0));
    let local: Value = serde_json::from_slice(&out.stdout).unwrap();
    let lab = Lab::with_addresses(&[&["mps2-an386", "riscv32"]]);
    let standing = lab.json(&[vec!["run"], arguments].concat());
    assert_eq!(local.as_array().unwrap().len(), 2);
    for cell in 0..2 {
        assert_eq!(local[cell]["workload"]["verification"], "hash");
        for same in ["counts", "model", "firmware", "workload", "summary", "estimate"] {
            assert_eq!(local[cell][same], standing[cell][same], "{same} of cell {cell}");
        }
    }
}

#[test]
fn ctrl_c_cancels_a_local_run_and_leaves_nothing() {
    let machine = Machine::new();
    let (child, _) = machine.running();
    assert!(machine.processes().len() >= 3, "a coordinator, a worker and an emulator run");
    signal(&child, Signal::SIGINT);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("cancelled"));
    assert_eq!((machine.processes(), machine.files()), (vec![], 0));
}

#[test]
fn a_terminated_local_run_leaves_nothing() {
    let machine = Machine::new();
    let (mut child, _) = machine.running();
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!((machine.processes(), machine.files()), (vec![], 0));
}

#[test]
fn a_killed_client_takes_its_lab_with_it_and_the_next_run_removes_the_folder() {
    let machine = Machine::new();
    let (mut child, _) = machine.running();
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the private lab dies with its client", || machine.processes().is_empty().then_some(()));
    assert_eq!(machine.files(), 1, "a killed process removes nothing");
    let model = model();
    let out = machine.run(&job(&model, &["riscv32"], "2")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(machine.files(), 0, "the next one does");
}

#[test]
fn a_private_lab_that_breaks_says_which_part_and_leaves_nothing() {
    let machine = Machine::new();
    let (child, rest) = machine.running();
    let daemons = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let ours = status.lines().any(|line| line == format!("PPid:\t{}", child.id()));
        (ours && status.starts_with("Name:\tedgeprof-worker")).then_some(id)
    });
    let daemons: Vec<_> = daemons.collect();
    assert_eq!(daemons.len(), 1);
    kill(Pid::from_raw(daemons[0]), Signal::SIGKILL).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(3), "the cluster is out of reach");
    let said = rest.join().unwrap();
    assert!(said.contains("the private edgeprof-worker has ended (signal: 9 (SIGKILL))"), "{said}");
    assert_eq!(machine.files(), 0);
    eventually("the emulators die with their worker", || machine.processes().is_empty().then_some(()));
}
