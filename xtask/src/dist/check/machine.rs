//! A clean Debian that runs in namespaces of its own, with its own systemd and, until it gets a cable, no network.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    apt,
    build::{run, target},
    dist::text,
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
    pub(crate) fn start(name: &str) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a clean root takes namespaces and mounts: run this as root"
        );
        let base = base()?;
        let folder = target().join("clean-root");
        let changes = tempfile::tempdir_in(&folder)?;
        let etc = changes.path().join("upper/etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("hostname"), format!("{name}\n"))?;
        let script = folder.join("boot.sh");
        fs::write(&script, include_str!("boot.sh"))?;
        let group = format!("edgeprof-check-{}-{name}", std::process::id());
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
        let path = self.path(to);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("writing {to} there"))
    }

    /// Where a file there is for this machine. Through its own root: an overlay does not see what is put under it.
    pub(crate) fn path(&self, there: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{there}", self.init))
    }

    /// Lays a cable to another: a network of the two, the `number`th of both, with an address each.
    pub(crate) fn cable(&self, other: &Self, number: u8) -> Result<()> {
        let name = format!("cable{number}");
        let ends = ["link", "add", &name, "netns", &self.init, "type", "veth"];
        let ip = |words: &[&str]| text(Command::new("ip").args(words));
        ip(&[&ends[..], &["peer", "name", &name, "netns", &other.init]].concat())?;
        for (end, host) in [(self, 1), (other, 2)] {
            // Of the network that is for documentation.
            let address = format!("192.0.2.{}/28", 16 * number + host);
            let there = |words: &[&str]| {
                text(Command::new("nsenter").args(["-t", &end.init, "-n", "ip"]).args(words))
            };
            there(&["address", "add", &address, "dev", &name])?;
            there(&["link", "set", &name, "up"])?;
        }
        Ok(())
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
