//! Disks that fill up: nothing that was acknowledged is lost, and who cannot go on says what to do.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use edgeprof_tests::{CLIENT, COORDINATOR, Lab, Lan, eventually};
use serde_json::Value;

use crate::{
    job, model,
    promises::{all_succeed_once, has_running, none_was_begun_twice, tasks},
};

/// A file that takes the room of a disk until it is removed.
struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    fn new(disk: &Path) -> Self {
        let path = disk.join("filler");
        Self { file: File::create(&path).unwrap(), path }
    }

    /// Writes until `left` bytes are free.
    fn fill(&mut self, left: u64) {
        let block = [0x5a; 4096];
        loop {
            let stat = nix::sys::statvfs::statvfs(&self.path).unwrap();
            if stat.blocks_available() * stat.fragment_size() <= left {
                return;
            }
            if self.file.write_all(&block).is_err() {
                return;
            }
        }
    }

    fn remove(self) {
        fs::remove_file(&self.path).unwrap();
    }
}

/// A lab of a worker, on hosts; the daemon of this name has so small a disk, which is given.
fn lab_with_small_disk(lan: &Lan, daemon: &str, mebibytes: u32) -> (Lab, PathBuf) {
    let mut lab = Lab::new();
    for name in ["host-1", COORDINATOR, CLIENT] {
        lab.attach(name, lan.host());
    }
    lab.configure_coordinator("reserve_bytes = 8_388_608\n");
    let disk = lab.small_disk(daemon, mebibytes);
    lab.start(&[&["mps2-an386"]]);
    (lab, disk)
}

fn has_result(job: &Value) -> bool {
    tasks(job).iter().any(|task| task["state"] == "succeeded")
}

#[test]
fn a_coordinator_without_room_refuses_then_stops_and_goes_on_when_there_is_room() {
    let Some(lan) = Lan::new() else { return };
    let (mut lab, disk) = lab_with_small_disk(&lan, COORDINATOR, 48);
    let model = model();
    let lengths: Vec<_> = (1..=40).map(|n: u32| n.to_string()).collect();
    let id = lab.submit(&job(&model, &["mps2-an386"], &lengths.join(",")));
    lab.wait_for_job(&id, "recorded in part", has_result);

    let mut filler = Filler::new(&disk);
    filler.fill(4 << 20);
    let refused = lab.client(&[&["submit"], &job(&model, &["mps2-an386"], "4")[..]].concat());
    assert_ne!(refused.code, 0, "{refused:?}");
    for word in ["disk", "MiB free", "make room there", "reserve_bytes"] {
        assert!(refused.stderr.contains(word), "{word:?} is not in {refused:?}");
    }
    let before = lab.json(&["results", &id]);
    let told = || before.as_array().unwrap().iter().filter(|run| run["state"] == "ok");
    assert!(told().count() > 0, "nothing was told before the disk was full: {before}");

    filler.fill(0);
    let coordinator = lab.coordinator.as_mut().unwrap();
    assert_eq!(coordinator.wait(), 78, "do not restart: {}", coordinator.log());
    let said = coordinator.log();
    for word in ["storage failed", "No space left", "hint: check the disk's free space"] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }

    filler.remove();
    lab.start_coordinator();
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
    let after = lab.json(&["results", &id]);
    for run in told() {
        assert!(after.as_array().unwrap().contains(run), "a result that was told is there as it was: {run}");
    }
    lab.submit(&job(&model, &["mps2-an386"], "4"));
}

#[test]
fn a_worker_without_room_keeps_its_results_and_delivers_them() {
    let Some(lan) = Lan::new() else { return };
    let (mut lab, disk) = lab_with_small_disk(&lan, "host-1", 8);
    let model = model();
    let id = lab.submit(&job(&model, &["mps2-an386"], "200,210"));
    lab.wait_for_job(&id, "running", has_running);
    lab.host(COORDINATOR).pull();
    let mut filler = Filler::new(&disk);
    filler.fill(0);
    eventually("the worker says that a result cannot be kept", || {
        lab.workers[0].log().contains("No space left").then_some(())
    });
    lab.host(COORDINATOR).put_back();
    lab.wait_for_job(&id, "delivered in part", has_result);
    filler.remove();
    all_succeed_once(&lab, &id);
    none_was_begun_twice(&lab, &id);
}
