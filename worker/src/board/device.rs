//! A board that can be brought up with a firmware and an image, whatever is behind its line.

use std::time::Duration;

use edgeprof_boards::Kind;
use edgeprof_common::Digest;
use edgeprof_link::BoardHello;
use tokio::time::timeout;

use super::{
    attached::{self, Port},
    conversation::Conversation,
    emulated::{DEATH_LAG, Emulation},
    emulator,
    error::BoardError,
    process::Process,
    spare::Recipe,
    transcript::Transcript,
};
use crate::{blobs::Pin, firmware::Firmware};

/// What is behind the line.
#[derive(Clone, Debug)]
pub enum Source {
    /// A process of ours.
    Emulated(Emulation),
    /// Somebody else's, or silicon.
    Attached(Port),
}

/// A firmware's file, and what is in it.
#[derive(Debug)]
pub struct Program {
    /// The file.
    pub pin: Pin,
    /// What it says of itself.
    pub parsed: Firmware,
}

/// A board.
#[derive(Debug)]
pub struct Device {
    kind: &'static Kind,
    source: Source,
    boot: Duration,
    transcript: Transcript,
    /// As the emulator prints it, once it was asked.
    emulator_version: Option<String>,
    running: Option<Running>,
}

/// A board that runs and has said who it is.
#[derive(Debug)]
pub struct Running {
    /// Where we have started it.
    process: Option<Process>,
    /// The conversation with it.
    pub board: Conversation,
    /// What it said of itself.
    pub hello: BoardHello,
    /// The firmware's file that it is known to run.
    firmware: Option<Digest>,
    image: Option<Digest>,
}

impl Running {
    /// An emulator that was started with this firmware and image.
    pub fn emulated(
        process: Process,
        board: Conversation,
        hello: BoardHello,
        (firmware, image): (Option<Digest>, Option<Digest>),
    ) -> Self {
        Self { process: Some(process), board, hello, firmware, image }
    }

    /// A line ends when its process does: says which of the two it was.
    pub async fn explain(&mut self, error: BoardError) -> BoardError {
        match (error, &mut self.process) {
            (BoardError::Line(error), Some(process)) => match timeout(DEATH_LAG, process.ended()).await {
                Ok(death) => death,
                Err(_) => BoardError::Line(error),
            },
            (other, _) => other,
        }
    }
}

impl Device {
    /// A board that does not run yet.
    pub fn new(kind: &'static Kind, source: Source, boot: Duration) -> Self {
        let transcript = Transcript::default();
        Self { kind, source, boot, transcript, emulator_version: None, running: None }
    }

    /// Its kind.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// What is behind its line.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What passes on its line.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Version of the emulator, where it is ours.
    pub fn emulator_version(&self) -> Option<&str> {
        self.emulator_version.as_deref()
    }

    /// Sees that the board can be used: the emulator is there, and `proven` comes up in it; whatever is
    /// attached answers.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn revive(&mut self, proven: Option<&Program>) -> Result<(), BoardError> {
        match (&self.source, proven) {
            (Source::Attached(_), _) => {
                self.connect().await?;
            }
            (Source::Emulated(_), proven) => {
                self.emulator_version = Some(emulator::version(self.kind).await?);
                if let Some(program) = proven {
                    self.ensure(program, None, |_, _| ()).await?;
                }
            }
        }
        Ok(())
    }

    /// The running board with this firmware and image. `progress` hears of bytes loaded, of how many.
    /// Dropped before its end, it leaves no process.
    ///
    /// # Errors
    /// When the board does not come up.
    pub async fn ensure(
        &mut self,
        program: &Program,
        image: Option<&Pin>,
        progress: impl FnMut(u64, u64),
    ) -> Result<&mut Running, BoardError> {
        match &self.source {
            Source::Emulated(_) => self.ensure_started(program, image).await,
            Source::Attached(_) => self.ensure_loaded(program, image, progress).await,
        }
    }

    /// Started anew where it runs another firmware or image, or has died.
    async fn ensure_started(
        &mut self,
        program: &Program,
        image: Option<&Pin>,
    ) -> Result<&mut Running, BoardError> {
        let wanted = (Some(program.pin.digest()), image.map(Pin::digest));
        let same = self.running.as_ref().is_some_and(|running| {
            (running.firmware, running.image) == wanted
                && running.process.as_ref().is_some_and(|process| process.id().is_some())
        });
        if !same {
            self.stop().await;
            let Source::Emulated(emulation) = &self.source else { unreachable!("asked of emulated boards") };
            let (process, board, hello) =
                emulation.start(self.kind, self.boot, &program.pin, image, &self.transcript).await?;
            self.running = Some(Running::emulated(process, board, hello, wanted));
        }
        Ok(self.running.as_mut().expect("it was seen to run"))
    }

    /// How the next emulator would be started while this one runs; absent where the board is not emulated here.
    pub fn spare(&self) -> Option<Recipe> {
        let Source::Emulated(emulation) = &self.source else { return None };
        let present = self.running.as_ref().map_or((None, None), |running| (running.firmware, running.image));
        Some(Recipe { kind: self.kind, emulation: emulation.clone(), boot: self.boot, present })
    }

    /// Takes an emulator that was started ahead, if it is the one that is needed. The other is killed.
    pub fn replace(&mut self, spare: Running, program: &Program, image: &Pin) {
        if (spare.firmware, spare.image) == (Some(program.pin.digest()), Some(image.digest())) {
            let mut spare = spare;
            let id = spare.process.as_ref().and_then(Process::id).unwrap_or(0);
            self.transcript.note(&format!("an emulator that was started ahead takes over: process {id}"));
            spare.board.tell_to(self.transcript.clone());
            self.running = Some(spare);
        }
    }

    /// Connected, checked and loaded as far as it is not.
    async fn ensure_loaded(
        &mut self,
        program: &Program,
        image: Option<&Pin>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<&mut Running, BoardError> {
        let boot = self.boot;
        let running = self.connect().await?;
        let digest = program.pin.digest();
        if running.firmware != Some(digest) {
            attached::check_firmware(&mut running.board, &running.hello, &program.parsed, boot).await?;
            running.firmware = Some(digest);
        }
        if let Some(image) = image {
            running.image = None;
            let total = tokio::fs::metadata(image.path()).await.map_or(0, |metadata| metadata.len());
            let loaded =
                attached::load(&mut running.board, image, boot, |done| progress(u64::from(done), total))
                    .await?;
            running.image = Some(image.digest());
            tracing::debug!(had = loaded.had, sent = loaded.sent, total, "image loaded");
        }
        Ok(running)
    }

    async fn connect(&mut self) -> Result<&mut Running, BoardError> {
        if self.running.is_none() {
            let Source::Attached(port) = &self.source else { unreachable!("asked of attached boards") };
            let (board, hello) = port.open(self.kind, self.boot, &self.transcript).await?;
            self.running = Some(Running { process: None, board, hello, firmware: None, image: None });
        }
        Ok(self.running.as_mut().expect("it was connected"))
    }

    /// Ends the emulator, or the connection.
    pub async fn stop(&mut self) {
        if let Some(Running { process: Some(process), .. }) = self.running.take() {
            process.kill().await;
        }
    }

    /// Waits while the board has nothing to do, and returns when it has died. For ever where none runs.
    /// Cancel safe.
    pub async fn idle(&mut self) -> BoardError {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        // A process that ends is seen at once; a board that hangs or is pulled out has to be asked.
        let every = matches!(self.source, Source::Attached(_)).then_some(attached::ROUND);
        let error = running.board.idle(every).await;
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
