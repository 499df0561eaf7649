//! An emulated board that somebody else has started: all that a worker gets of it is its terminal.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use edgeprof_worker::board::emulator::{Chardev, arguments, pty_of};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

/// A running emulator; killed when dropped.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    terminal: PathBuf,
}

impl Emulator {
    /// Starts a board of `kind` with this firmware and no image.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(kind: &str, firmware: &Path) -> Self {
        Self::with(kind, firmware, &[])
    }

    /// The same with further arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub fn with(kind: &str, firmware: &Path, more: &[OsString]) -> Self {
        let kind = edgeprof_boards::catalogue().get(kind).expect("a kind of the catalogue");
        let recipe = kind.emulator.as_ref().expect("an emulated kind");
        // On one core: its two threads hand over every byte of the line, and to wake another core that idles takes
        // several times as long as the byte.
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("this process runs on some core");
        let cores: Vec<usize> =
            (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
        let core = cores[std::process::id() as usize % cores.len()];
        let mut child = Command::new("taskset")
            .args(["-c", &core.to_string(), &recipe.program])
            .args(arguments(recipe, Chardev::Pty, firmware, None))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", recipe.program));
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let terminal = stdout.lines().map_while(Result::ok).find_map(|line| pty_of(&line));
        Self { child, terminal: terminal.expect("the emulator names its terminal") }
    }

    /// Its serial line.
    pub fn terminal(&self) -> &Path {
        &self.terminal
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
