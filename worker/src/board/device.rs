//! An emulated board: started with a firmware and an image, stopped, and told apart when it dies.

use std::{os::fd::OwnedFd, time::Duration};

use edgeprof_boards::Kind;
use edgeprof_common::Digest;
use edgeprof_link::BoardHello;
use tokio::{net::UnixStream, time::timeout};

use super::{
    conversation::Conversation,
    emulator::{self, Chardev},
    error::BoardError,
    process::{Process, Spawner},
};
use crate::{
    blobs::Pin,
    config::Transport,
    line::{self, Line},
};

/// How long the end of a process may lag behind the end of its line.
const DEATH_LAG: Duration = Duration::from_secs(2);

/// Baud rate for a pseudo terminal, which has none.
const PTY_BAUD: u32 = 115_200;

/// A board that can be started.
#[derive(Debug)]
pub struct Device {
    kind: &'static Kind,
    transport: Transport,
    spawner: Spawner,
    boot: Duration,
    running: Option<Running>,
}

/// A board that runs and has said who it is.
#[derive(Debug)]
pub struct Running {
    process: Process,
    /// The conversation with it.
    pub board: Conversation,
    /// What it said of itself.
    pub hello: BoardHello,
    firmware: Digest,
    image: Option<Digest>,
}

impl Running {
    /// A line ends when its process does: says which of the two it was.
    pub async fn explain(&mut self, error: BoardError) -> BoardError {
        match error {
            BoardError::Line(_) => match timeout(DEATH_LAG, self.process.ended()).await {
                Ok(death) => death,
                Err(_) => error,
            },
            other => other,
        }
    }
}

impl Device {
    /// A board that does not run yet.
    pub fn new(kind: &'static Kind, transport: Transport, spawner: Spawner, boot: Duration) -> Self {
        Self { kind, transport, spawner, boot, running: None }
    }

    /// Its kind.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The running board with this firmware and image, started anew where it runs another or has died.
    /// Dropped before its end, it leaves no process.
    ///
    /// # Errors
    /// When the board does not come up.
    pub async fn ensure(&mut self, firmware: &Pin, image: Option<&Pin>) -> Result<&mut Running, BoardError> {
        let same = self.running.as_mut().is_some_and(|running| {
            running.firmware == firmware.digest()
                && running.image == image.map(Pin::digest)
                && running.process.id().is_some()
        });
        if !same {
            self.stop().await;
            let started = self.start(firmware, image).await?;
            return Ok(self.running.insert(started));
        }
        Ok(self.running.as_mut().expect("it was seen to run"))
    }

    async fn start(&self, firmware: &Pin, image: Option<&Pin>) -> Result<Running, BoardError> {
        let Some(recipe) = &self.kind.emulator else {
            return Err(BoardError::Protocol(format!("board kind {} has no emulator", self.kind.name)));
        };
        let image_path = image.map(Pin::path);
        let spawn = |chardev, inherited| {
            let arguments = emulator::arguments(recipe, chardev, firmware.path(), image_path);
            self.spawner.spawn(&recipe.program, arguments, inherited)
        };
        let failed = |source| BoardError::Spawn { program: recipe.program.clone(), source };
        let (mut process, line): (Process, Box<dyn Line>) = match self.transport {
            Transport::Socket => {
                let (near, far) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
                near.set_nonblocking(true).map_err(failed)?;
                let near = UnixStream::from_std(near).map_err(failed)?;
                let far = OwnedFd::from(far);
                let chardev = Chardev::Socket(std::os::fd::AsRawFd::as_raw_fd(&far));
                (spawn(chardev, Some(far)).await?, Box::new(near))
            }
            Transport::Pty => {
                let mut process = spawn(Chardev::Pty, None).await?;
                let Ok(found) = timeout(self.boot, process.pty()).await else {
                    return Err(BoardError::Hung { doing: "name its terminal", after: self.boot });
                };
                let Some(path) = found else {
                    return Err(process.ended().await);
                };
                (process, Box::new(line::serial(&path, PTY_BAUD).map_err(failed)?))
            }
        };
        let mut board = Conversation::new(line);
        let opened = tokio::select! {
            death = process.ended() => Err(death),
            opened = board.open(&self.kind.name, self.boot) => opened,
        };
        let firmware = firmware.digest();
        let image = image.map(Pin::digest);
        match opened {
            Ok(hello) => Ok(Running { process, board, hello, firmware, image }),
            Err(BoardError::Line(error)) => {
                let lost = BoardError::Line(error);
                Err(timeout(DEATH_LAG, process.ended()).await.unwrap_or(lost))
            }
            Err(error) => {
                process.kill().await;
                Err(error)
            }
        }
    }

    /// Ends the emulator, if it runs.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.process.kill().await;
        }
    }

    /// Waits while the board has nothing to do, and returns when it has died. For ever where none runs.
    /// Cancel safe.
    pub async fn idle(&mut self) -> BoardError {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let error = running.board.idle().await;
        running.explain(error).await
    }

    /// The board, if it runs.
    pub fn running(&mut self) -> Option<&mut Running> {
        self.running.as_mut()
    }

    /// Version of the firmware that runs, and the image's digest.
    pub fn content(&self) -> Option<(String, Option<Digest>)> {
        self.running.as_ref().map(|r| (r.hello.firmware_version.to_string(), r.image))
    }
}
