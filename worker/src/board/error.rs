//! Everything that can go wrong with a board, and what it is blamed on.

use std::{io, path::Path, time::Duration};

use edgeprof_common::{ErrorClass, TaskError};
use edgeprof_link::{FailCode, LoadFailure};

use crate::{firmware::FirmwareError, line::LineError};

/// Why an attempt did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The emulator is not installed.
    #[error("{program} is not installed")]
    EmulatorMissing {
        /// The program.
        program: String,
        /// What to install.
        package: String,
    },
    /// The emulator could not be started.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The emulator ended by itself.
    #[error("the emulator died ({status}){}", if stderr.is_empty() { String::new() } else { format!(": {stderr}") })]
    Died {
        /// Exit code or signal.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// Nothing came for too long.
    #[error("the board sent nothing for {} s while it was to {doing}", after.as_secs())]
    Hung {
        /// What was awaited.
        doing: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The line is gone, the emulator is not.
    #[error("the line to the board was lost: {0}")]
    Line(#[from] LineError),
    /// What arrives cannot be relied on.
    #[error("the line is garbled: {0}")]
    Garbled(String),
    /// The board says something that makes no sense here.
    #[error("the board broke the protocol: {0}")]
    Protocol(String),
    /// The firmware is another than is needed.
    #[error("the firmware does not match: {0}")]
    Firmware(String),
    /// The firmware is of another board kind.
    #[error("firmware {version} is for board kind {has}, this board is to be a {needs}")]
    OtherKind {
        /// Its version.
        version: String,
        /// Its kind.
        has: String,
        /// The configured kind.
        needs: String,
    },
    /// The firmware's file is no firmware.
    #[error(transparent)]
    NotFirmware(#[from] FirmwareError),
    /// The board runs another firmware than the task names.
    #[error("the board runs another firmware than the task names: {0}")]
    OtherFirmware(String),
    /// The port cannot be opened.
    #[error("cannot open {}: {source}{}", path.display(), holder.as_ref().map(|h| format!("; {h} has it")).unwrap_or_default())]
    Port {
        /// The device.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// Who has it, where that can be seen.
        holder: Option<String>,
    },
    /// The image is not in the model region.
    #[error("{}", not_loaded(code))]
    NotLoaded {
        /// The board's word.
        code: LoadFailure,
    },
    /// The firmware panicked.
    #[error("the firmware panicked: {message}{}", place.as_ref().map(|p| format!("; {p}")).unwrap_or_default())]
    Panic {
        /// Its message, with file and line.
        message: String,
        /// What looked like return addresses, the innermost first.
        trace: Vec<u64>,
        /// The same in words.
        place: Option<String>,
    },
    /// The processor took a fault.
    #[error("the processor took a fault at {pc:#x} (lr {lr:#x}, status {status:#x}){}", place.as_ref().map(|p| format!(": {p}")).unwrap_or_default())]
    Fault {
        /// The faulting instruction.
        pc: u64,
        /// Return address there.
        lr: u64,
        /// Cause.
        status: u64,
        /// What looked like return addresses, the innermost first.
        trace: Vec<u64>,
        /// All of that in words.
        place: Option<String>,
    },
    /// The board refused, or the run failed in the engine.
    #[error("{}", refusal(code))]
    Refused {
        /// Its word.
        code: FailCode,
    },
    /// A blob did not come.
    #[error("blob {digest} did not come within {} s", after.as_secs())]
    BlobMissing {
        /// Its name.
        digest: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Somebody wanted it restarted.
    #[error("the board was reset")]
    Reset,
    /// A blob came and could not be kept.
    #[error("{0}")]
    BlobLost(String),
    /// A file of this worker cannot be read.
    #[error("cannot read {what}: {source}")]
    File {
        /// Which.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

fn refusal(code: &FailCode) -> String {
    match code {
        FailCode::NoImage => "the board found no image in its model region".into(),
        FailCode::BadImage => "the board refused the image: it is damaged or contradicts itself".into(),
        FailCode::ImageVersion { found } => {
            format!("the board refused the image: its format version is {found}")
        }
        FailCode::ArenaTooSmall { need, have } => {
            format!("the run needs an arena of {need} bytes, the board has {have}")
        }
        FailCode::PromptTooLong { max } => format!("the prompt is longer than the board's {max} tokens"),
        FailCode::BadRequest => "the board refused the request: it does not fit the model".into(),
        FailCode::NonFinite => "a logit was not finite".into(),
        FailCode::Busy => "the board is busy with another run".into(),
        FailCode::UnknownRun => "the board does not know the run".into(),
        FailCode::Engine { code } => format!("the engine gave up with code {code}"),
    }
}

fn not_loaded(code: &LoadFailure) -> String {
    match code {
        LoadFailure::ReadOnly => "the firmware cannot write this board's model region".into(),
        LoadFailure::TooLong { max } => format!("the image is longer than the model region of {max} bytes"),
        LoadFailure::NotBegun => "the board was restarted while it was loaded".into(),
        LoadFailure::Damaged => "the image arrived damaged, twice".into(),
        LoadFailure::Storage { offset } => {
            format!("the board's memory does not keep what is written at {offset:#x} of its model region")
        }
    }
}

impl BoardError {
    /// Whether the board can go on as it is: it answered, and properly.
    pub fn board_is_well(&self) -> bool {
        match self {
            Self::Refused { code } => !matches!(code, FailCode::Busy | FailCode::UnknownRun),
            Self::BlobMissing { .. }
            | Self::BlobLost(_)
            | Self::NotFirmware(_)
            | Self::File { .. }
            | Self::NotLoaded { code: LoadFailure::ReadOnly | LoadFailure::TooLong { .. } } => true,
            _ => false,
        }
    }

    /// The same as the coordinator hears it.
    pub fn task_error(&self) -> TaskError {
        use ErrorClass::{Infrastructure, Model, Request};
        let (class, code) = match self {
            Self::EmulatorMissing { .. } => (Infrastructure, "qemu_missing"),
            Self::Spawn { .. } | Self::Died { .. } => (Infrastructure, "board_died"),
            Self::Hung { .. } => (Infrastructure, "board_hung"),
            Self::Line(_) => (Infrastructure, "line_lost"),
            Self::Garbled(_) => (Infrastructure, "line_garbled"),
            Self::Protocol(_) => (Infrastructure, "board_protocol"),
            Self::Firmware(_) | Self::OtherKind { .. } => (Request, "firmware_mismatch"),
            Self::NotFirmware(_) => (Request, "firmware_refused"),
            Self::OtherFirmware(_) => (Infrastructure, "firmware_mismatch"),
            Self::Port { .. } => (Infrastructure, "port_unavailable"),
            Self::NotLoaded { code } => match code {
                LoadFailure::TooLong { .. } => (Model, "image_refused"),
                _ => (Infrastructure, "not_loaded"),
            },
            Self::Panic { .. } => (Infrastructure, "board_panic"),
            Self::Fault { .. } => (Infrastructure, "board_fault"),
            Self::Reset => (Infrastructure, "board_reset"),
            Self::BlobMissing { .. } => (Infrastructure, "blob_missing"),
            Self::File { .. } | Self::BlobLost(_) => (Infrastructure, "worker_disk"),
            Self::Refused { code } => match code {
                FailCode::NoImage | FailCode::BadImage | FailCode::ImageVersion { .. } => {
                    (Model, "image_refused")
                }
                FailCode::ArenaTooSmall { .. } => (Model, "arena_too_small"),
                FailCode::NonFinite => (Model, "non_finite"),
                FailCode::PromptTooLong { .. } => (Request, "prompt_too_long"),
                FailCode::BadRequest => (Model, "run_refused"),
                FailCode::Busy | FailCode::UnknownRun => (Infrastructure, "board_protocol"),
                FailCode::Engine { .. } => (Model, "engine_failed"),
            },
        };
        let error = TaskError::new(class, code, self.to_string());
        match self.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::EmulatorMissing { package, .. } => format!("apt install {package}"),
            Self::Hung { doing, .. } if doing.contains("first ping") => {
                "is our firmware on it, has it power, are cable and baud rate right? `edgeprof-worker scan` asks again"
                    .into()
            }
            Self::Port { path, holder: Some(_), .. } => {
                format!("end the program that has it; `fuser {}` names it as well", path.display())
            }
            Self::Port { path, source, .. } => port_hint(path, source),
            Self::OtherKind { has, .. } => format!(
                "correct the board's `kind`, which `edgeprof-worker scan` prints, or attach another; \
                 or give firmware that was built for it and not for {has}"
            ),
            Self::OtherFirmware(_) => "write the firmware that the coordinator has to the board; \
                                      `edgeprof board check` tells whether it is there"
                .into(),
            Self::NotLoaded { code: LoadFailure::ReadOnly } => {
                "put the image there with a probe, or take a board whose model region is RAM".into()
            }
            Self::NotLoaded { code: LoadFailure::Damaged } => {
                "check the line: cable, ground, baud rate".into()
            }
            Self::BlobLost(_) => "make room on the worker's disk, or raise its limits".into(),
            Self::Refused { code: FailCode::ArenaTooSmall { .. } } => {
                "a shorter --ctx or a smaller --kv type needs less".into()
            }
            Self::Refused { code: FailCode::ImageVersion { .. } } | Self::Firmware(_) => {
                "build firmware, worker and coordinator from the same source; an attached board is to be written anew"
                    .into()
            }
            _ => return None,
        })
    }
}

fn port_hint(path: &Path, source: &io::Error) -> String {
    let scan = "`edgeprof-worker scan` lists what is there";
    match source.kind() {
        io::ErrorKind::NotFound => format!("plug the board in, or correct `port`; {scan}"),
        io::ErrorKind::PermissionDenied => {
            "let the worker's user into the device's group, mostly: sudo usermod -aG dialout USER, then log in anew"
                .into()
        }
        io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock => {
            format!("end the program that holds it; `fuser {}` names it", path.display())
        }
        _ => format!("`port` is to name a serial device; {scan}"),
    }
}
