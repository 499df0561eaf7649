//! The boards of a configuration, checked against the catalogue and against each other.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use edgeprof_boards::{Kind, catalogue};
use edgeprof_common::{BoardId, WorkerId};
use edgeprof_service::config::Source;
use serde::{Deserialize, Serialize};

use super::SetupError;
use crate::board::attached::Port;

/// One board, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardConfig {
    /// Entry of the board catalogue.
    pub kind: String,
    /// Its name on this worker; default the kind and a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For selecting it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How an emulated board is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Serial device of a board that runs our firmware already; best one of /dev/serial/by-id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PathBuf>,
    /// Its baud rate; default 115200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baud: Option<u32>,
    /// Whether an emulator is behind the port, started by somebody else by the kind's recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated: Option<bool>,
    /// What a board of kind noop does instead of running a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noop: Option<NoopConfig>,
}

/// A board that does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoopConfig {
    /// What an attempt takes.
    #[serde(with = "humantime_serde")]
    pub run: Duration,
}

impl BoardConfig {
    /// An emulated board of a kind.
    pub fn of_kind(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            name: None,
            labels: BTreeMap::new(),
            transport: None,
            port: None,
            baud: None,
            emulated: None,
            noop: None,
        }
    }
}

/// Baud rate of the firmware as it is.
pub const BAUD: u32 = 115_200;

/// How an emulated board is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A unix socket: connects at once.
    #[default]
    Socket,
    /// A pseudo terminal: looks like a serial device.
    Pty,
}

/// A file of `boards.d`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BoardFile {
    board: Vec<BoardConfig>,
}

/// One board, checked.
#[derive(Clone, Debug)]
pub struct Board {
    /// Name on this worker.
    pub name: String,
    /// Its kind.
    pub kind: &'static Kind,
    /// For selecting it.
    pub labels: BTreeMap<String, String>,
    /// What is behind its line.
    pub behind: Behind,
}

/// What is behind a board's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// An emulator that this worker starts.
    Emulator(Transport),
    /// Whatever is attached to a port.
    Port(Port),
    /// Nothing: every attempt takes this long.
    Nothing(Duration),
}

impl Board {
    /// Its id on `worker`.
    ///
    /// # Panics
    /// Never: `resolve` has checked the name.
    pub fn id(&self, worker: &WorkerId) -> BoardId {
        BoardId::on(worker, &self.name).expect("the name was checked")
    }
}

/// Boards as asked for, and the file that they stand in.
pub(super) type Asked = (Vec<BoardConfig>, Option<Source>);

/// The boards of `boards.d/*.toml` beside the configuration file, in the order of file names.
pub(super) fn beside(config: &Path) -> Result<Vec<Asked>, SetupError> {
    let folder = config.parent().unwrap_or(Path::new(".")).join("boards.d");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let wrong = |source| SetupError::Folder { path: folder.clone(), source };
    let mut files = fs::read_dir(&folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>())
        .map_err(wrong)?;
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let mut boards = Vec::new();
    for file in files {
        let source = Source::read(&file)?;
        boards.push((source.parse::<BoardFile>()?.board, Some(source)));
    }
    Ok(boards)
}

/// `KIND` or `KINDxN`. A name of the catalogue that ends like a number of boards is a name.
///
/// # Errors
/// When the number makes no sense.
pub fn typed_boards(typed: &str) -> Result<Vec<BoardConfig>, SetupError> {
    let (kind, count) = match typed.rsplit_once('x') {
        Some((kind, digits))
            if catalogue().get(typed).is_none()
                && !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            let count = digits.parse().ok().filter(|n| (1..=64).contains(n));
            (kind, count.ok_or_else(|| SetupError::Count(typed.to_owned()))?)
        }
        _ => (typed, 1),
    };
    Ok(vec![BoardConfig::of_kind(kind); count])
}

pub(super) fn check(asked: Vec<Asked>, noop: bool) -> Result<Vec<Board>, SetupError> {
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let mut boards: Vec<Board> = Vec::new();
    for (group, source) in asked {
        for (place, board) in group.into_iter().enumerate() {
            let checked = one(board, &boards, &mut numbers, noop).map_err(|error| match &source {
                Some(source) => {
                    let place = source.place(&["board", &place.to_string(), error.key()]);
                    SetupError::At { place, error: Box::new(error) }
                }
                None => error,
            });
            boards.push(checked?);
        }
    }
    Ok(boards)
}

/// A board beside those before it.
fn one(
    board: BoardConfig,
    boards: &[Board],
    numbers: &mut BTreeMap<String, u32>,
    noop: bool,
) -> Result<Board, SetupError> {
    let kind = kind(&board.kind)?;
    if kind.is_noop() && !noop {
        return Err(SetupError::Noop);
    }
    let number = numbers.entry(board.kind.clone()).or_default();
    let name = board.name.clone().unwrap_or_else(|| format!("{}.{number}", board.kind));
    *number += 1;
    if name.parse::<WorkerId>().is_err() || name.len() > 60 {
        return Err(SetupError::Name(name));
    }
    if boards.iter().any(|other| other.name == name) {
        return Err(SetupError::Twice(name));
    }
    let behind = behind(&name, kind, &board)?;
    if let Behind::Port(port) = &behind
        && let Some(other) = boards.iter().find(|other| at(other).is_some_and(|p| same(p, &port.path)))
    {
        let first = other.name.clone();
        return Err(SetupError::SamePort { first, second: name, port: port.path.clone() });
    }
    Ok(Board { name, kind, labels: board.labels, behind })
}

fn behind(name: &str, kind: &Kind, board: &BoardConfig) -> Result<Behind, SetupError> {
    let misplaced = |key, which| Err(SetupError::Misplaced { board: name.to_owned(), key, which });
    if kind.is_noop() {
        return match board {
            BoardConfig { port: Some(_), .. } => misplaced("port", "boards that are there"),
            BoardConfig { transport: Some(_), .. } => misplaced("transport", "emulated boards"),
            BoardConfig { baud: Some(_), .. } => misplaced("baud", "boards with a `port`"),
            BoardConfig { emulated: Some(_), .. } => misplaced("emulated", "boards with a `port`"),
            _ => Ok(Behind::Nothing(board.noop.as_ref().map_or(Duration::ZERO, |noop| noop.run))),
        };
    }
    if board.noop.is_some() {
        return misplaced("noop", "boards of kind noop");
    }
    let Some(path) = board.port.clone() else {
        return match board {
            BoardConfig { baud: Some(_), .. } => misplaced("baud", "boards with a `port`"),
            BoardConfig { emulated: Some(_), .. } => misplaced("emulated", "boards with a `port`"),
            _ if kind.emulator.is_none() => Err(SetupError::NoEmulator(kind.name.clone())),
            _ => Ok(Behind::Emulator(board.transport.unwrap_or_default())),
        };
    };
    if board.transport.is_some() {
        return misplaced("transport", "boards that this worker emulates, not for those with a `port`");
    }
    let emulated = board.emulated.unwrap_or(false);
    if !emulated && kind.counter.silicon_hz.is_none() {
        return Err(SetupError::NoSilicon { board: name.to_owned(), kind: kind.name.clone(), port: path });
    }
    Ok(Behind::Port(Port { path, baud: board.baud.unwrap_or(BAUD), emulated }))
}

fn at(board: &Board) -> Option<&Path> {
    match &board.behind {
        Behind::Port(port) => Some(&port.path),
        Behind::Emulator(_) | Behind::Nothing(_) => None,
    }
}

/// Whether two names are of one device: links of /dev/serial lead to it.
fn same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

fn kind(typed: &str) -> Result<&'static Kind, SetupError> {
    let catalogue = catalogue();
    catalogue.get(typed).ok_or_else(|| SetupError::UnknownKind {
        typed: typed.to_owned(),
        suggestion: catalogue.suggest(typed).map(str::to_owned),
        known: catalogue.kinds().iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}
