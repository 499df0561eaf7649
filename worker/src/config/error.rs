//! Why a worker cannot be set up as it was asked.

use std::path::PathBuf;

use edgeprof_service::config::{ConfigError, Place};

/// Why the worker cannot be set up as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A folder.
    #[error("cannot read {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in a file.
    #[error("in config {place}: {error}")]
    At {
        /// Where.
        place: Place,
        /// What is wrong there.
        error: Box<SetupError>,
    },
    /// A kind that is not in the catalogue.
    #[error("unknown board kind {typed:?}{}; known kinds: {known}", suggestion.as_ref().map(|s| format!(", did you mean {s:?}?")).unwrap_or_default())]
    UnknownKind {
        /// As typed.
        typed: String,
        /// The closest.
        suggestion: Option<String>,
        /// All of them.
        known: String,
    },
    /// A kind that only exists as hardware.
    #[error("board kind {0:?} has no emulator: give it the `port` that it is attached to")]
    NoEmulator(String),
    /// A key that only makes sense beside another.
    #[error("board {board:?}: `{key}` is for {which}")]
    Misplaced {
        /// The board.
        board: String,
        /// The key.
        key: &'static str,
        /// Which boards have it.
        which: &'static str,
    },
    /// A kind that is only emulated, at a port.
    #[error("board {board:?}: {kind} is not known as silicon, so nothing could be measured on it; if an emulator is behind {}, say `emulated = true`", port.display())]
    NoSilicon {
        /// The board.
        board: String,
        /// Its kind.
        kind: String,
        /// Where it is said to be.
        port: PathBuf,
    },
    /// Two boards at one port.
    #[error("boards {first:?} and {second:?} are at the same port {}", port.display())]
    SamePort {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// The port.
        port: PathBuf,
    },
    /// A number of boards that makes no sense.
    #[error("in --board {0:?}: the number after x is 1 to 64")]
    Count(String),
    /// A board that does nothing, where nobody said that this is wanted.
    #[error(
        "boards of kind noop do nothing and are for benchmarks of the cluster: set EDGEPROF_ALLOW_NOOP=1 or \
         `allow_noop = true` to offer them, or name another kind"
    )]
    Noop,
    /// A time that nobody means.
    #[error("{0} is at most 7 days")]
    TooLong(&'static str),
    /// No place for any result.
    #[error("outbox is 1 at least: with no room for a result no board could take work")]
    NoOutbox,
    /// Two boards of one name.
    #[error("two boards are named {0:?}")]
    Twice(String),
    /// A board name that cannot be an id.
    #[error("board name {0:?}: letters, digits, '.', '_' and '-' only")]
    Name(String),
}

impl SetupError {
    /// The key of a board, or of the limits, that it is about.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::Misplaced { key, .. } | Self::TooLong(key) => key,
            Self::NoOutbox => "outbox",
            Self::NoSilicon { .. } | Self::SamePort { .. } => "port",
            Self::Twice(_) | Self::Name(_) => "name",
            _ => "kind",
        }
    }
}
