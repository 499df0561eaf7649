//! A private lab: a coordinator and workers as real processes on loopback, with temporary data.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::build::target;

/// How long a daemon may take to serve, or a worker with a known address to be dialled.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long mDNS may take: where multicast works, it takes one second.
const DISCOVERY: Duration = Duration::from_secs(15);

/// Where a built program lies.
pub(crate) fn program(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// The programs of a lab.
#[derive(Clone)]
pub(crate) struct Programs {
    /// Their folder.
    pub(crate) folder: PathBuf,
    /// What starts them, with its arguments; nothing for those of this machine.
    pub(crate) starter: Vec<OsString>,
    /// The folder of the firmware images.
    pub(crate) firmware: PathBuf,
}

impl Programs {
    /// Those that `cargo build` leaves.
    pub(crate) fn built() -> Self {
        Self { folder: target().join("debug"), starter: Vec::new(), firmware: target().join("firmware") }
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        let program = self.folder.join(name);
        let Some((starter, arguments)) = self.starter.split_first() else { return Command::new(program) };
        let mut command = Command::new(starter);
        command.args(arguments).arg(program);
        command
    }
}

/// A running lab, stopped when dropped.
pub(crate) struct Lab {
    programs: Programs,
    folder: Option<TempDir>,
    daemons: Vec<Daemon>,
    /// Of the coordinator.
    pub(crate) url: String,
}

struct Daemon {
    name: String,
    child: Child,
    url: String,
}

impl Lab {
    /// Starts a coordinator and one worker for each list of board kinds, and waits until every board is
    /// there. Says through `say` what goes on.
    pub(crate) fn start(programs: Programs, workers: &[&[&str]], say: impl Fn(&str)) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("edgeprof-lab-").tempdir()?;
        let site = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut lab = Self { programs, folder: Some(folder), daemons: Vec::new(), url: String::new() };
        for (index, boards) in workers.iter().enumerate() {
            let name = format!("host-{}", index + 1);
            let mut command = lab.programs.command("edgeprof-worker");
            command.args(["--name", &name]);
            for board in *boards {
                command.args(["--board", board]);
            }
            lab.daemon(&name, &site, command)?;
            say(&format!("worker {name} runs with boards {}", boards.join(", ")));
        }
        lab.coordinator(&site, &[])?;
        say(&format!("coordinator serves at {}, and looks for workers over mDNS", lab.url));
        if !lab.all("workers", workers.len(), "alive", DISCOVERY)? {
            // Workers that mDNS does not bring are named by hand; site, data and everything else stay.
            say(
                "mDNS did not bring the workers: multicast does not work here; falling back to static addresses",
            );
            let coordinator = lab.daemons.pop().context("the coordinator was started last")?;
            coordinator.stop();
            let addresses: Vec<String> = lab.daemons.iter().map(|d| d.url.clone()).collect();
            lab.coordinator(&site, &addresses)?;
            if !lab.all("workers", workers.len(), "alive", PATIENCE)? {
                return Err(lab.lost("the coordinator did not get its workers"));
            }
        }
        if !lab.all("boards", workers.iter().map(|boards| boards.len()).sum(), "good", PATIENCE)? {
            let _ = lab.client().arg("boards").status();
            return Err(lab.lost("not every board is good"));
        }
        Ok(lab)
    }

    /// The lab's files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new("."), TempDir::path)
    }

    /// Process ids with their names.
    pub(crate) fn processes(&self) -> Vec<(u32, &str)> {
        self.daemons.iter().map(|d| (d.child.id(), d.name.as_str())).collect()
    }

    /// The client, bound to this lab.
    pub(crate) fn client(&self) -> Command {
        let mut command = self.programs.command("edgeprof");
        command.env("EDGEPROF_COORDINATOR", &self.url);
        command
    }

    /// What the client prints as JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let out = self.client().args(arguments).args(["-o", "json"]).stderr(Stdio::inherit()).output()?;
        serde_json::from_slice(&out.stdout).with_context(|| {
            format!("edgeprof {}: {}", arguments.join(" "), String::from_utf8_lossy(&out.stdout))
        })
    }

    /// Leaves everything running and on disk.
    pub(crate) fn keep(mut self) {
        if let Some(folder) = self.folder.take() {
            let _ = folder.keep();
        }
        // A child that is not waited for lives on when this process ends.
        self.daemons.clear();
    }

    fn coordinator(&mut self, site: &str, workers: &[String]) -> Result<()> {
        let mut command = self.programs.command("edgeprof-coordinator");
        for worker in workers {
            command.args(["--worker", worker.trim_start_matches("http://")]);
        }
        self.daemon("coordinator", site, command)?;
        self.url = self.daemons.last().map(|d| d.url.clone()).unwrap_or_default();
        Ok(())
    }

    /// Starts a daemon with its output in a log, and waits until it serves.
    fn daemon(&mut self, name: &str, site: &str, mut command: Command) -> Result<()> {
        let (data, ready) = (self.path().join(name), self.path().join(format!("{name}.url")));
        let log = self.path().join(format!("{name}.log"));
        fs::create_dir_all(&data)?;
        // Of an earlier life of the same daemon.
        let _ = fs::remove_file(&ready);
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--site", site])
            .arg("--data")
            .arg(&data)
            .arg("--ready-file")
            .arg(&ready)
            .env("EDGEPROF_FIRMWARE", &self.programs.firmware)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        let url = wait_for(PATIENCE, || {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended ({status}):\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            Ok(fs::read_to_string(&ready).ok())
        });
        let url = match url {
            Ok(Some(url)) => url.trim().to_owned(),
            Ok(None) => {
                Daemon { name: name.into(), child, url: String::new() }.stop();
                bail!(
                    "{name} did not serve within {PATIENCE:?}:\n{}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            Err(error) => return Err(error),
        };
        self.daemons.push(Daemon { name: name.to_owned(), child, url });
        Ok(())
    }

    /// Waits until `count` of `what` are there, each of them in `health`.
    fn all(&self, what: &str, count: usize, health: &str, patience: Duration) -> Result<bool> {
        let there = wait_for(patience, || {
            let list = self.ask(&[what])?;
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            Ok((list.len() == count && list.iter().all(|item| item["health"] == health)).then_some(()))
        })?;
        Ok(there.is_some())
    }

    /// An error that leaves the logs behind, and names them.
    fn lost(&mut self, what: &str) -> anyhow::Error {
        let logs = self.folder.take().map(TempDir::keep).unwrap_or_default();
        anyhow::anyhow!("{what}; see the logs in {}", logs.display())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        while let Some(daemon) = self.daemons.pop() {
            daemon.stop();
        }
    }
}

impl Daemon {
    /// Asks it to end, and makes it end.
    fn stop(mut self) -> Option<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).ok()?);
        let _ = kill(pid, Signal::SIGTERM);
        let ended = wait_for(Duration::from_secs(15), || Ok(self.child.try_wait()?));
        if let Ok(Some(status)) = ended {
            return Some(status);
        }
        eprintln!("{} does not end, killing it", self.name);
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

/// Asks `poll` until it has an answer, or for `patience`.
fn wait_for<T>(patience: Duration, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(answer) = poll()? {
            return Ok(Some(answer));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}
