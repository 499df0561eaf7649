//! A clean Debian that runs in namespaces of its own, with its own systemd.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::text;
use crate::{
    apt,
    build::{run, target},
    system::find,
};

const RELEASE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";

/// What the packages depend on and recommend, beside what every Debian has.
const PACKAGES: &str = "systemd,init-system-helpers,passwd,libgcc-s1,qemu-system-misc";

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long its processes may take to end.
const LAST: Duration = Duration::from_secs(10);

/// A running one; ended when dropped, with all that changed in it.
pub(crate) struct Machine {
    outside: Child,
    /// Its first process, as it is called out here.
    init: String,
    group: String,
    /// Gone with it.
    _changes: TempDir,
}

impl Machine {
    /// Starts one on the base system, which is made once.
    pub(crate) fn start() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a clean root takes namespaces and mounts: run this as root"
        );
        let base = base()?;
        let folder = target().join("clean-root");
        let changes = tempfile::tempdir_in(&folder)?;
        let script = folder.join("boot.sh");
        fs::write(&script, include_str!("boot.sh"))?;
        let group = format!("edgeprof-check-{}", std::process::id());
        let outside = Command::new("sh")
            .arg(&script)
            .args([&base, changes.path()])
            .arg(&group)
            .stdin(Stdio::null())
            .spawn()
            .context("starting sh")?;
        let mut machine = Self { outside, init: String::new(), group, _changes: changes };
        machine.wait()?;
        Ok(machine)
    }

    /// Puts a file there.
    pub(crate) fn put(&self, from: &Path, to: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.write(to, &content)
    }

    /// Writes a file there. Not below /run or /tmp, which are not on its disk.
    pub(crate) fn write(&self, to: &str, content: &[u8]) -> Result<()> {
        // Through its own root: an overlay does not see what is put under it.
        let path = PathBuf::from(format!("/proc/{}/root{to}", self.init));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("writing {to} there"))
    }

    /// Runs a command there as root, and gives what it prints.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        text(
            Command::new("nsenter")
                .args(["-t", &self.init, "-m", "-p", "-n", "-u", "-i", "-C", "--"])
                .args(words),
        )
    }

    /// Until its systemd has started what it starts.
    fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.outside.try_wait()? {
                bail!("the clean root does not start: {status}");
            }
            let id = self.outside.id();
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            children.trim().clone_into(&mut self.init);
            let name = fs::read_to_string(format!("/proc/{}/comm", self.init)).unwrap_or_default();
            if name.trim() == "systemd"
                && self.run(&["systemctl", "is-system-running"]).is_ok_and(|said| said.trim() == "running")
            {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "the clean root is not up after {} s", PATIENCE.as_secs());
            // The pace of asking.
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its first process every other of its namespace ends.
        let _ = self.outside.kill();
        let _ = self.outside.wait();
        let groups = ["", "unified", "systemd", "devices", "pids", "memory"];
        for folder in groups.map(|name| Path::new("/sys/fs/cgroup").join(name).join(&self.group)) {
            // A group goes once the last of its processes has.
            let start = Instant::now();
            while folder.exists() && start.elapsed() < LAST {
                let _ = Command::new("find").arg(&folder).args(["-depth", "-type", "d", "-delete"]).output();
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// The base system, fetched once.
fn base() -> Result<PathBuf> {
    let folder = target().join("clean-root");
    let base = folder.join(RELEASE);
    if base.join("usr/bin/qemu-system-riscv32").exists() {
        return Ok(base);
    }
    if find("debootstrap").is_none() {
        apt::install(&["debootstrap"], "")?;
    }
    fs::create_dir_all(&folder)?;
    let making = folder.join("making");
    if making.exists() {
        fs::remove_dir_all(&making)?;
    }
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &format!("--include={PACKAGES}"), RELEASE]).arg(&making).arg(MIRROR);
    run(&format!("fetching a clean Debian {RELEASE}"), command.stdout(Stdio::null()))?;
    fs::rename(&making, &base)?;
    Ok(base)
}
