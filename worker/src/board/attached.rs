//! A board at a serial port, which runs our firmware already.

use std::{fs, path::PathBuf, time::Duration};

use edgeprof_boards::Kind;
use edgeprof_link::BoardHello;

use super::{
    conversation::Conversation,
    error::BoardError,
    load::{self, Loaded},
    transcript::Transcript,
};
use crate::{
    blobs::Pin,
    firmware::Firmware,
    line::{self, holder},
};

/// An idle board is asked so often whether it is there.
pub const ROUND: Duration = Duration::from_secs(10);

/// Where a board is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The device.
    pub path: PathBuf,
    /// Baud rate.
    pub baud: u32,
    /// An emulator by the kind's recipe is behind it, not silicon.
    pub emulated: bool,
}

impl Port {
    /// Opens the port and hears who is there.
    ///
    /// # Errors
    /// When the port cannot be opened, or the board does not answer within `boot` or is another.
    pub async fn open(
        &self,
        kind: &Kind,
        boot: Duration,
        transcript: &Transcript,
    ) -> Result<(Conversation, BoardHello), BoardError> {
        let line = line::serial(&self.path, self.baud).map_err(|source| BoardError::Port {
            path: self.path.clone(),
            holder: holder(&self.path),
            source,
        })?;
        transcript.note(&format!("opened {} at {} baud", self.path.display(), self.baud));
        let mut board = Conversation::new(Box::new(line), transcript.clone());
        let hello = board.open(&kind.name, boot).await?;
        Ok((board, hello))
    }

    /// Serial number that the system knows the device's USB interface by.
    pub fn uid(&self) -> Option<String> {
        let device = fs::canonicalize(&self.path).ok()?;
        let name = device.file_name()?.to_str()?.to_owned();
        let mut folder = fs::canonicalize(format!("/sys/class/tty/{name}/device")).ok()?;
        // The interface, its device, or a hub's port above: the nearest that has one.
        for _ in 0..3 {
            if let Ok(serial) = fs::read_to_string(folder.join("serial")) {
                return Some(serial.trim().to_owned()).filter(|serial| !serial.is_empty());
            }
            folder = folder.parent()?.to_owned();
        }
        None
    }
}

/// Sees that the code that runs is that of `firmware`, by the board's own checksums of it.
///
/// # Errors
/// [`BoardError::OtherFirmware`] when it is another.
pub async fn check_firmware(
    board: &mut Conversation,
    hello: &BoardHello,
    firmware: &Firmware,
    within: Duration,
) -> Result<(), BoardError> {
    for segment in &firmware.segments {
        let sum = board.code_sum(segment.address, segment.len, within).await?;
        if sum != Some(segment.crc32) {
            let has = sum.map_or("no code".into(), |sum| format!("checksum {sum:08x}"));
            return Err(BoardError::OtherFirmware(format!(
                "version {}, with {has} where {} bytes of checksum {:08x} belong at {:#x}",
                hello.firmware_version, segment.len, segment.crc32, segment.address
            )));
        }
    }
    Ok(())
}

/// Puts an image into the board's model region.
///
/// # Errors
/// When it cannot be read here, or does not get there.
pub async fn load(
    board: &mut Conversation,
    image: &Pin,
    within: Duration,
    progress: impl FnMut(u32),
) -> Result<Loaded, BoardError> {
    let bytes = tokio::fs::read(image.path())
        .await
        .map_err(|source| BoardError::File { what: "the board image", source })?;
    // The board sums up all of it at the beginning and at the end.
    let within = within.saturating_add(
        Duration::from_micros(8).saturating_mul(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
    );
    load::load(board, &bytes, within, progress).await
}
