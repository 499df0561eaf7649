//! A coordinator, its workers, and the client that talks to them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, Host, Lan, Pki, eventually, firmware, program};

/// A lab of one site, on loopback or on hosts of its own. What is running ends with it.
#[derive(Debug)]
pub struct Lab {
    // Fields are dropped in this order: processes before what they stand on.
    /// Workers in the order of their start.
    pub workers: Vec<Daemon>,
    /// The coordinator, unless it is down.
    pub coordinator: Option<Daemon>,
    /// By the name of their daemon, and the client's as [`CLIENT`]. On loopback there are none.
    hosts: BTreeMap<String, Host>,
    site: String,
    /// Whether workers are named to the coordinator instead of being found over mDNS.
    pub fixed: bool,
    /// The coordinator's configuration file.
    config: Option<PathBuf>,
    /// Certificates, where daemons are to listen for other hosts.
    pki: Option<Pki>,
    /// Where the coordinator listened, so that who talks to it finds it again.
    listen: Option<String>,
    folder: TempDir,
}

/// The name of the coordinator, its data and its host.
pub const COORDINATOR: &str = "coordinator";

/// Some free port of this host.
const ANYWHERE: &str = "127.0.0.1:0";

/// The name of the host that client commands run on.
pub const CLIENT: &str = "desk";

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

impl From<Output> for Finished {
    /// # Panics
    /// When it ended by a signal, or said what is not UTF-8.
    fn from(out: Output) -> Self {
        Self {
            code: out.status.code().expect("the command ends by itself"),
            stdout: String::from_utf8(out.stdout).expect("output is UTF-8"),
            stderr: String::from_utf8(out.stderr).expect("messages are UTF-8"),
        }
    }
}

impl Finished {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started, ends by a signal, or says what is not UTF-8.
    pub fn of(command: &mut Command) -> Self {
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")).into()
    }

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
        let mut lab = Self::new();
        lab.fixed = true;
        lab.start(workers);
        lab
    }

    /// A lab whose coordinator finds its workers over mDNS.
    pub fn with_discovery(workers: &[&[&str]]) -> Self {
        let mut lab = Self::new();
        lab.start(workers);
        lab
    }

    /// A lab whose coordinator, workers and client each have a host on `lan`. They find each other over mDNS.
    pub fn on_hosts(lan: &Lan, workers: &[&[&str]]) -> Self {
        let mut lab = Self::new();
        for index in 0..workers.len() {
            lab.attach(&worker_name(index), lan.host());
        }
        lab.attach(COORDINATOR, lan.host());
        lab.attach(CLIENT, lan.host());
        lab.start(workers);
        lab
    }

    /// A lab with nothing in it, on loopback and with discovery until told otherwise.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("edgeprof-test-").tempdir().expect("a temporary folder");
        let site = folder.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        Self {
            workers: Vec::new(),
            coordinator: None,
            hosts: BTreeMap::new(),
            site,
            fixed: false,
            config: None,
            pki: None,
            listen: None,
            folder,
        }
    }

    /// The daemon of this name will run on `host`.
    pub fn attach(&mut self, daemon: &str, host: Host) {
        self.secure();
        self.hosts.insert(daemon.to_owned(), host);
    }

    /// From now on daemons and clients have certificates.
    pub fn secure(&mut self) {
        self.pki.get_or_insert_with(|| Pki::new(&self.folder.path().join("pki")));
    }

    /// The lab's authority.
    ///
    /// # Panics
    /// When it has none.
    pub fn pki(&self) -> &Pki {
        self.pki.as_ref().expect("the lab has certificates")
    }

    /// From now on its certificates are of this authority.
    pub fn trust(&mut self, pki: &Pki) {
        self.pki = Some(pki.clone());
    }

    /// Moves the lab to another site; its daemons are told when they start.
    pub fn set_site(&mut self, site: &str) {
        site.clone_into(&mut self.site);
    }

    /// Its site.
    pub fn site(&self) -> &str {
        &self.site
    }

    /// Gives the daemon of this name, which has a host, a disk of its own of so many MiB for its data.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn small_disk(&mut self, daemon: &str, mebibytes: u32) -> PathBuf {
        let data = self.folder.path().join(daemon);
        std::fs::create_dir_all(&data).expect("the test's folder");
        let space = self.host(daemon).space();
        space.mount_small_disk(&data, mebibytes);
        space.outside(&data)
    }

    /// The coordinator is told this at every start.
    pub fn configure_coordinator(&mut self, config: &str) {
        self.config = Some(self.file("coordinator.toml", config.as_bytes()));
    }

    /// Starts workers with these boards and then the coordinator, and waits until all boards are good.
    pub fn start(&mut self, workers: &[&[&str]]) {
        for (index, boards) in workers.iter().enumerate() {
            let worker = self.worker(&worker_name(index), boards);
            self.workers.push(worker);
        }
        self.start_coordinator();
        self.wait_for_boards(workers.iter().map(|boards| boards.len()).sum());
    }

    /// The host of a daemon.
    ///
    /// # Panics
    /// When it has none.
    pub fn host(&mut self, daemon: &str) -> &mut Host {
        self.hosts.get_mut(daemon).unwrap_or_else(|| panic!("{daemon} has a host of its own"))
    }

    /// A lab of one worker with this configuration file, whose boards need not be good yet.
    pub fn with_config(config: &str) -> Self {
        let mut lab = Self::with_addresses(&[]);
        let file = lab.file("worker.toml", config.as_bytes());
        let mut command = lab.worker_command("host-1");
        command.arg("--config").arg(file);
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
        let mut command = self.worker_command(name);
        for board in boards {
            command.args(["--board", board]);
        }
        let mut daemon = Daemon::start(name, self.folder.path(), command);
        if let Some(host) = self.hosts.get(name) {
            daemon.reach_at(host.address());
        }
        daemon
    }

    /// Starts the coordinator on its old data, at its old address.
    pub fn start_coordinator(&mut self) {
        self.start_coordinator_with(|_| ());
    }

    /// The same, with more said to it.
    pub fn start_coordinator_with(&mut self, more: impl FnOnce(&mut Command)) {
        let host = self.hosts.get(COORDINATOR).map(|host| format!("{}:0", host.address()));
        let listen = self.listen.clone().or(host).unwrap_or_else(|| ANYWHERE.to_owned());
        let mut command = self.coordinator_command(COORDINATOR, &listen);
        more(&mut command);
        let daemon = Daemon::start(COORDINATOR, self.folder.path(), command);
        self.listen = Some(daemon.address().to_owned());
        self.coordinator = Some(daemon);
    }

    /// A further coordinator process on the data called `data`, which the lab does not know of and whose log is
    /// called `name`.
    pub fn another_coordinator(&self, name: &str, data: &str) -> Daemon {
        Daemon::spawn(name, self.folder.path(), self.coordinator_command(data, ANYWHERE))
    }

    fn coordinator_command(&self, data: &str, listen: &str) -> Command {
        let mut command = self.daemon_command("edgeprof-coordinator", data, listen);
        self.certify(&mut command, COORDINATOR);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        if self.fixed {
            command.arg("--no-discovery");
            for worker in &self.workers {
                command.args(["--worker", worker.address()]);
            }
        }
        command
    }

    /// SIGKILL to the coordinator.
    pub fn kill_coordinator(&mut self) {
        if let Some(mut daemon) = self.coordinator.take() {
            daemon.kill();
        }
    }

    fn worker_command(&self, name: &str) -> Command {
        // On whatever address its host will have.
        let listen = if self.hosts.contains_key(name) { "0.0.0.0:0" } else { ANYWHERE };
        let mut command = self.daemon_command("edgeprof-worker", name, listen);
        command.args(["--name", name]);
        self.certify(&mut command, &format!("worker {name}"));
        command
    }

    fn daemon_command(&self, program: &str, data: &str, listen: &str) -> Command {
        let mut command = self.command(program, data);
        command
            .args(["--listen", listen, "--site", &self.site])
            .arg("--data")
            .arg(self.folder.path().join(data))
            .env("EDGEPROF_FIRMWARE", firmware());
        command
    }

    fn certify(&self, command: &mut Command, whose: &str) {
        if let Some(pki) = &self.pki {
            command.env("EDGEPROF_TLS_DIR", pki.of(whose));
        }
    }

    /// A program on its host, which does not outlive the test.
    fn command(&self, name: &str, host: &str) -> Command {
        let program = program(name);
        self.hosts.get(host).map_or_else(
            || {
                let mut command = Command::new(setpriv());
                command.args(["--pdeathsig", "KILL"]).arg(&program);
                command
            },
            |host| host.space().command(&program),
        )
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
        self.client_command_on(CLIENT)
    }

    fn client_command_on(&self, host: &str) -> Command {
        let mut command = self.command("edgeprof", host);
        let url = self.coordinator.as_ref().map_or("http://127.0.0.1:1", |c| c.url());
        command.env("EDGEPROF_COORDINATOR", url).env("HOME", self.folder.path()).stdin(Stdio::null());
        self.certify(&mut command, "client tester");
        command
    }

    /// Runs the client to its end.
    ///
    /// # Panics
    /// When it cannot be started or ends by a signal.
    pub fn client(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.client_command().args(arguments))
    }

    /// The same on the coordinator's host, where it needs no network.
    ///
    /// # Panics
    /// When it cannot be started or ends by a signal.
    pub fn client_at_the_coordinator(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.client_command_on(COORDINATOR).args(arguments))
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

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of the worker at this place, of its data and of its host.
fn worker_name(index: usize) -> String {
    format!("host-{}", index + 1)
}

/// Where `setpriv` of util-linux is: some tests take the path away from what they start.
fn setpriv() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("setpriv")).find(|file| file.exists());
    found.expect("setpriv is on the path")
}
