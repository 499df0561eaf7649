//! Emulator processes: watched, heard, never left behind.

use std::{
    io,
    os::fd::OwnedFd,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use edgeprof_service::children;
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::Child,
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{emulator, error::BoardError};

/// Bytes kept of what an emulator says.
const TAIL: usize = 2_000;

/// Starts emulators that die with the worker.
#[derive(Clone, Debug)]
pub struct Spawner(children::Spawner);

impl Spawner {
    /// Starts the thread that starts them.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        children::Spawner::start("emulators").map(Self)
    }

    /// Starts `program`. `inherited` stays open in it under the same number.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn spawn(
        &self,
        program: &str,
        arguments: Vec<std::ffi::OsString>,
        inherited: Option<OwnedFd>,
    ) -> Result<Process, BoardError> {
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match self.0.spawn(command, inherited).await {
            Ok(child) => Ok(Process::watch(child)),
            Err(source) => Err(BoardError::Spawn { program: program.to_owned(), source }),
        }
    }
}

/// A running emulator. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
    pty: mpsc::Receiver<PathBuf>,
    readers: JoinSet<()>,
}

impl Process {
    fn watch(mut child: Child) -> Self {
        let said = Arc::new(Mutex::new(String::new()));
        let (found, pty) = mpsc::channel(1);
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(read(stdout, Arc::clone(&said), found.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(read(stderr, Arc::clone(&said), found));
        }
        Self { child, said, pty, readers }
    }

    /// Process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The pseudo terminal that it says it has made; `None` if it ends before.
    pub async fn pty(&mut self) -> Option<PathBuf> {
        self.pty.recv().await
    }

    /// Waits for its end. Cancel safe.
    pub async fn ended(&mut self) -> BoardError {
        let status = self.child.wait().await;
        // What it said last is still in the pipes.
        let drained = async { while self.readers.join_next().await.is_some() {} };
        let _ = timeout(Duration::from_secs(1), drained).await;
        let stderr = self.said.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned();
        BoardError::Died { status: status.map_or_else(|e| e.to_string(), words), stderr }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "an emulator could not be killed");
        }
        self.readers.shutdown().await;
    }
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal().and_then(|n| Signal::try_from(n).ok())) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => signal.to_string(),
        (None, None) => status.to_string(),
    }
}

async fn read(pipe: impl AsyncRead + Unpin, said: Arc<Mutex<String>>, pty: mpsc::Sender<PathBuf>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    // A line of more is taken for several: it may have no end.
    while let Ok(1..) = (&mut pipe).take(TAIL as u64).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
        let line = text.trim_end_matches('\n');
        if let Some(path) = emulator::pty_of(line) {
            let _ = pty.try_send(path);
            continue;
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(line);
        said.push('\n');
        let excess = said.len().saturating_sub(TAIL);
        let cut = (excess..=said.len()).find(|&at| said.is_char_boundary(at)).unwrap_or(0);
        said.drain(..cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spawner goes with the process: with its thread the process would die.
    async fn shell(script: &str) -> (Spawner, Process) {
        let arguments = ["-c", script].map(std::ffi::OsString::from).to_vec();
        let spawner = Spawner::start().unwrap();
        let process = spawner.spawn("/bin/sh", arguments, None).await.unwrap();
        (spawner, process)
    }

    #[tokio::test]
    async fn an_end_tells_status_and_last_words() {
        let (_spawner, mut process) = shell("echo to out; echo no such machine >&2; exit 3").await;
        let error = process.ended().await.to_string();
        assert!(error.contains("exit code 3") && error.contains("no such machine"), "{error}");
        let (_spawner, mut process) = shell("kill -9 $$").await;
        assert!(process.ended().await.to_string().contains("SIGKILL"));
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_waited_for() {
        let (mut far, near) = tokio::io::duplex(64);
        let said = Arc::new(Mutex::new(String::new()));
        let reading = tokio::spawn(read(near, Arc::clone(&said), mpsc::channel(1).0));
        tokio::io::AsyncWriteExt::write_all(&mut far, &[b'x'; 3 * TAIL]).await.unwrap();
        let kept = || said.lock().unwrap().len();
        timeout(Duration::from_secs(60), async {
            while kept() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("something is kept while the line goes on");
        drop(far);
        reading.await.unwrap();
        assert!(kept() <= TAIL);
    }

    #[tokio::test]
    async fn a_process_dies_with_the_thread_that_started_it() {
        let (spawner, mut process) = shell("exec sleep 60").await;
        drop(spawner);
        assert!(process.ended().await.to_string().contains("SIGKILL"));
    }

    #[tokio::test]
    async fn the_announced_terminal_is_found() {
        let script = "echo 'char device redirected to /dev/pts/5 (label u)'; exec sleep 60";
        let (_spawner, mut process) = shell(script).await;
        assert_eq!(process.pty().await, Some(PathBuf::from("/dev/pts/5")));
        process.kill().await;
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_an_error() {
        let spawner = Spawner::start().unwrap();
        let error = spawner.spawn("/nowhere/qemu", Vec::new(), None).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/qemu"), "{error}");
    }
}
