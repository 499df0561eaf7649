//! Starting an emulated board.

use std::{os::fd::OwnedFd, time::Duration};

use edgeprof_boards::Kind;
use edgeprof_link::BoardHello;
use tokio::{net::UnixStream, time::timeout};

use super::{
    conversation::Conversation,
    emulator::{self, Chardev},
    error::BoardError,
    process::{Process, Spawner},
    transcript::Transcript,
};
use crate::{
    blobs::Pin,
    config::Transport,
    line::{self, Line},
};

/// How long the end of a process may lag behind the end of its line.
pub const DEATH_LAG: Duration = Duration::from_secs(2);

/// Baud rate for a pseudo terminal, which has none.
const PTY_BAUD: u32 = 115_200;

/// How the boards of this worker are emulated.
#[derive(Clone, Debug)]
pub struct Emulation {
    /// What the line is.
    pub transport: Transport,
    /// Starts the processes.
    pub spawner: Spawner,
}

impl Emulation {
    /// Starts the emulator and opens the conversation. Dropped before its end, it leaves no process.
    ///
    /// # Errors
    /// When the board does not come up within `boot`.
    pub async fn start(
        &self,
        kind: &Kind,
        boot: Duration,
        firmware: &Pin,
        image: Option<&Pin>,
        transcript: &Transcript,
    ) -> Result<(Process, Conversation, BoardHello), BoardError> {
        let Some(recipe) = &kind.emulator else {
            return Err(BoardError::Protocol(format!("board kind {} has no emulator", kind.name)));
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
                let Ok(found) = timeout(boot, process.pty()).await else {
                    return Err(BoardError::Hung { doing: "name its terminal", after: boot });
                };
                let Some(path) = found else {
                    return Err(process.ended().await);
                };
                (process, Box::new(line::serial(&path, PTY_BAUD).map_err(failed)?))
            }
        };
        transcript.note(&format!("{} started as process {}", recipe.program, process.id().unwrap_or(0)));
        let mut board = Conversation::new(line, transcript.clone());
        let opened = tokio::select! {
            death = process.ended() => Err(death),
            opened = board.open(&kind.name, boot) => opened,
        };
        match opened {
            Ok(hello) => Ok((process, board, hello)),
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
}
