//! The next emulator, started with the next attempt's image while the present one still runs.
//!
//! Measured on two cores: between two attempts with the same image pass 0.1 ms; where the image changes the start
//! of another emulator took 30 to 130 ms, in which the board did nothing. Counts are not touched by it: emulated
//! time is not the host's.

use std::{fs, time::Duration};

use edgeprof_boards::Kind;
use edgeprof_common::Digest;
use tokio_util::task::AbortOnDropHandle;

use super::{device::Running, emulated::Emulation, stage::Staged, transcript::Transcript};

/// Memory that has to be left on the host, in KiB; an emulator takes a tenth of it.
const ROOM_KIB: u64 = 1 << 20;

/// How the next emulator is started.
#[derive(Debug)]
pub struct Recipe {
    /// What it emulates.
    pub kind: &'static Kind,
    /// How.
    pub emulation: Emulation,
    /// How long it may take to answer.
    pub boot: Duration,
    /// Firmware and image of the present one.
    pub present: (Option<Digest>, Option<Digest>),
}

impl Recipe {
    /// Starts an emulator for what is staged, where another than the present one is needed and there is room.
    pub fn start(&self, staged: Staged) -> Option<Spare> {
        let wanted = (Some(staged.firmware.digest()), Some(staged.image.digest()));
        if self.present == wanted || !has_room() {
            return None;
        }
        let (kind, emulation, boot) = (self.kind, self.emulation.clone(), self.boot);
        let started = tokio::spawn(async move {
            let (firmware, image, transcript) =
                (&staged.firmware, Some(&staged.image), Transcript::default());
            let started = emulation.start(kind, boot, firmware, image, &transcript).await;
            // Nothing comes of a failure: it shows again, and is told, when the attempt has its turn.
            let (process, board, hello) = started.ok()?;
            Some(Running::emulated(process, board, hello, wanted))
        });
        Some(Spare(AbortOnDropHandle::new(started)))
    }
}

/// An emulator that is started. Dropped, it leaves no process.
#[derive(Debug)]
pub struct Spare(AbortOnDropHandle<Option<Running>>);

impl Spare {
    /// Waits until it runs.
    pub async fn running(self) -> Option<Running> {
        self.0.await.ok()?
    }
}

/// Whether the system says that there is memory for one more.
fn has_room() -> bool {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.is_some_and(|kib| kib >= ROOM_KIB)
}
