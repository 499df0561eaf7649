//! A network and a view of the file system of one's own, without privileges.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Namespaces that nothing names but a process: the kernel takes them back, with the links and mounts in them, when
/// the last process in them has ended. The process here ends when this value goes, and when the test does, even by
/// SIGKILL: it reads from a pipe that the test holds.
#[derive(Debug)]
pub struct Namespace {
    guard: Child,
}

impl Namespace {
    /// A user namespace in which this user is root, with an empty network and a copy of the mounts.
    ///
    /// # Errors
    /// Why this machine gives none.
    pub fn new() -> Result<Self, String> {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount", "cat"]);
        Self::guarded(command)
    }

    /// A further network and view of the mounts under the same root.
    ///
    /// # Panics
    /// When the machine gives none, although it gave one before.
    pub fn sibling(&self) -> Self {
        let mut command = self.command("unshare");
        command.args(["--net", "--mount", "cat"]);
        Self::guarded(command).unwrap_or_else(|error| panic!("a second namespace: {error}"))
    }

    fn guarded(mut command: Command) -> Result<Self, String> {
        let guard = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut guard = guard.map_err(|error| format!("starting {command:?}: {error}"))?;
        // What comes back has passed through a process that is inside.
        let mut stdin = guard.stdin.as_ref().expect("it is piped");
        let _ = stdin.write_all(b"there?\n");
        let mut answer = String::new();
        let mut stdout = BufReader::new(guard.stdout.as_mut().expect("it is piped"));
        let _ = stdout.read_line(&mut answer);
        if answer.is_empty() {
            let mut said = String::new();
            let _ = guard.stderr.take().expect("it is piped").read_to_string(&mut said);
            let _ = guard.wait();
            return Err(said.trim().to_owned());
        }
        Ok(Self { guard })
    }

    /// The id of the process that holds it, by which commands name it.
    pub fn id(&self) -> u32 {
        self.guard.id()
    }

    /// A program that runs inside and does not outlive the test.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.id().to_string(),
                "--user",
                "--net",
                "--mount",
                "--preserve-credentials",
            ])
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg(program);
        command
    }

    /// Runs a program inside to its end.
    ///
    /// # Panics
    /// When it fails; with what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = self.command(program);
        let out = command.args(arguments).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{program} {arguments:?}: {said}");
    }

    /// Mounts a file system of so many MiB at `folder`, which only processes inside see.
    pub fn mount_small_disk(&self, folder: &Path, mebibytes: u32) {
        let size = format!("size={mebibytes}m");
        let folder = folder.to_str().expect("the test's folder is UTF-8");
        self.run("mount", &["-t", "tmpfs", "-o", &size, "edgeprof-test", folder]);
    }

    /// Where this process finds a file that processes inside find at `path`.
    pub fn outside(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.id().to_string()).join("root").join(relative)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}
