//! One daemon process.

use std::{
    fmt::Display,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{eventually, secret_in};

/// A running coordinator or worker; killed when dropped, and its log looked through for secrets.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    ready: PathBuf,
    url: String,
}

impl Daemon {
    /// Starts `command`, which is told to write its address to a file, and waits until it serves.
    ///
    /// # Panics
    /// When it ends instead; with its log.
    pub fn start(name: &str, folder: &Path, command: Command) -> Self {
        let mut daemon = Self::spawn(name, folder, command);
        eventually(&format!("{name} serves"), || {
            if let Some(status) = daemon.ended() {
                panic!("{name} ended ({status}):\n{}", daemon.log());
            }
            daemon.serves().then_some(())
        });
        daemon
    }

    /// Starts `command` likewise, and does not wait.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn spawn(name: &str, folder: &Path, mut command: Command) -> Self {
        let (log, ready) = (folder.join(format!("{name}.log")), folder.join(format!("{name}.url")));
        let _ = fs::remove_file(&ready);
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        Self { child, log, ready, url: String::new() }
    }

    /// Whether it has said where it listens.
    pub fn serves(&mut self) -> bool {
        let said = fs::read_to_string(&self.ready).unwrap_or_default();
        said.trim().clone_into(&mut self.url);
        !self.url.is_empty()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When the system does not know it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it ends by itself, and gives its exit code.
    ///
    /// # Panics
    /// When it does not end, or by a signal.
    pub fn wait(&mut self) -> i32 {
        let status = eventually("the daemon ends by itself", || self.ended());
        status.code().unwrap_or_else(|| panic!("{status}:\n{}", self.log()))
    }

    /// `http://ADDRESS:PORT`, or `https://` with certificates.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `ADDRESS:PORT`.
    pub fn address(&self) -> &str {
        self.url.split_once("://").map_or("", |(_, address)| address)
    }

    /// It listens on every address of its host; from now on this one is named.
    pub fn reach_at(&mut self, address: impl Display) {
        self.url = self.url.replace("0.0.0.0", &address.to_string());
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, and wait for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and wait for the end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        eventually("the daemon ends after SIGTERM", || self.ended())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        let _ = kill(Pid::from_raw(id), signal);
    }

    /// Ids of its child processes whose program name starts with `prefix`.
    pub fn children(&self, prefix: &str) -> Vec<i32> {
        let parent = format!("PPid:\t{}", self.id());
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        ids.filter(|id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let name = status.lines().next().and_then(|l| l.strip_prefix("Name:\t")).unwrap_or_default();
            name.starts_with(prefix) && status.lines().any(|line| line == parent)
        })
        .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
            return;
        }
        // Whatever a test is about, no daemon may have logged what opens anything.
        let folder = self.log.parent().unwrap_or(Path::new("."));
        if let Some(secret) = secret_in(&self.log(), folder) {
            panic!("{} has a secret in it: {secret}", self.log.display());
        }
    }
}
