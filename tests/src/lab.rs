//! A coordinator, its workers, and the client that talks to them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, eventually, firmware, program};

/// A lab of one site, on loopback. What is running ends with it.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
    site: String,
    /// Workers in the order of their start.
    pub workers: Vec<Daemon>,
    /// The coordinator, unless it is down.
    pub coordinator: Option<Daemon>,
    /// Whether workers are named to the coordinator instead of being found over mDNS.
    fixed: bool,
}

/// A client command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl Lab {
    /// A lab whose coordinator is told its workers' addresses.
    pub fn with_addresses(workers: &[&[&str]]) -> Self {
        Self::start(workers, true)
    }

    /// A lab whose coordinator finds its workers over mDNS.
    pub fn with_discovery(workers: &[&[&str]]) -> Self {
        Self::start(workers, false)
    }

    fn start(workers: &[&[&str]], fixed: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("edgeprof-test-").tempdir().expect("a temporary folder");
        let site = folder.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        let mut lab = Self { folder, site, workers: Vec::new(), coordinator: None, fixed };
        for (index, boards) in workers.iter().enumerate() {
            let worker = lab.worker(&format!("host-{}", index + 1), boards);
            lab.workers.push(worker);
        }
        lab.start_coordinator();
        lab.wait_for_boards(workers.iter().map(|boards| boards.len()).sum());
        lab
    }

    /// A lab of one worker with this configuration file, whose boards need not be good yet.
    pub fn with_config(config: &str) -> Self {
        let mut lab = Self::start(&[], true);
        let file = lab.file("worker.toml", config.as_bytes());
        let mut command = lab.daemon_command("edgeprof-worker", "host-1");
        command.args(["--name", "host-1", "--config"]).arg(file);
        let worker = Daemon::start("host-1", lab.folder.path(), command);
        lab.workers.push(worker);
        // A coordinator is told its workers when it starts.
        lab.kill_coordinator();
        lab.start_coordinator();
        lab
    }

    /// Waits until a board has this health, and gives the reason.
    pub fn wait_for_health(&self, board: &str, health: &str) -> String {
        eventually(&format!("{board} is {health}"), || {
            let boards = self.json(&["boards"]);
            let board = boards.as_array()?.iter().find(|found| found["id"] == board)?.clone();
            (board["health"] == health).then(|| board["reason"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// A further worker process, which the lab does not know of.
    pub fn worker(&self, name: &str, boards: &[&str]) -> Daemon {
        let mut command = self.daemon_command("edgeprof-worker", name);
        command.args(["--name", name]);
        for board in boards {
            command.args(["--board", board]);
        }
        Daemon::start(name, self.folder.path(), command)
    }

    /// Starts the coordinator on its old data.
    pub fn start_coordinator(&mut self) {
        let mut command = self.daemon_command("edgeprof-coordinator", "coordinator");
        if self.fixed {
            for worker in &self.workers {
                command.args(["--worker", worker.url().trim_start_matches("http://")]);
            }
        }
        self.coordinator = Some(Daemon::start("coordinator", self.folder.path(), command));
    }

    /// SIGKILL to the coordinator.
    pub fn kill_coordinator(&mut self) {
        if let Some(mut daemon) = self.coordinator.take() {
            daemon.kill();
        }
    }

    fn daemon_command(&self, name: &str, data: &str) -> Command {
        let mut command = Command::new(program(name));
        command
            .args(["--listen", "127.0.0.1:0", "--site", &self.site])
            .arg("--data")
            .arg(self.folder.path().join(data))
            .env("EDGEPROF_FIRMWARE", firmware());
        command
    }

    /// Waits until `count` boards are there and good.
    pub fn wait_for_boards(&self, count: usize) {
        eventually(&format!("{count} good boards"), || {
            let boards = self.client(&["boards", "-o", "json"]);
            let list = boards.json();
            let good = list.as_array()?.iter().filter(|board| board["health"] == "good").count();
            (good == count).then_some(())
        });
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the test.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("a test's file");
        path
    }

    /// The client command, bound to this lab, to be started by the caller.
    pub fn client_command(&self) -> Command {
        let mut command = Command::new(program("edgeprof"));
        let url = self.coordinator.as_ref().map_or("http://127.0.0.1:1", |c| c.url());
        command.env("EDGEPROF_COORDINATOR", url).env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs the client to its end.
    ///
    /// # Panics
    /// When it cannot be started or ends by a signal.
    pub fn client(&self, arguments: &[&str]) -> Finished {
        let out = self.client_command().args(arguments).output().expect("the client starts");
        Finished {
            code: out.status.code().expect("the client ends by itself"),
            stdout: String::from_utf8(out.stdout).expect("output is UTF-8"),
            stderr: String::from_utf8(out.stderr).expect("messages are UTF-8"),
        }
    }

    /// Runs the client with `-o json`, and expects success.
    ///
    /// # Panics
    /// When the exit code is not 0.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.client(&[arguments, &["-o", "json"]].concat());
        assert_eq!(finished.code, 0, "{arguments:?}: {finished:?}");
        finished.json()
    }

    /// Submits, and gives the job's id.
    ///
    /// # Panics
    /// When the job is refused.
    pub fn submit(&self, arguments: &[&str]) -> String {
        let finished = self.client(&[&["submit"], arguments].concat());
        assert_eq!(finished.code, 0, "{finished:?}");
        finished.stdout.split_whitespace().last().expect("the job id is the last word").to_owned()
    }

    /// Waits until `job` is as `wanted` says, and gives it.
    pub fn wait_for_job(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("job {job} is {what}"), || {
            Some(self.json(&["show", job])).filter(|job| wanted(job))
        })
    }
}
