//! Configuration: flags over environment over TOML.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;
use edgeprof_boards::{Kind, catalogue};
use edgeprof_common::{BoardId, WorkerId};
use edgeprof_service::{
    WORKER_PORT,
    config::{self, ConfigError, Place, Source},
    telemetry::LogFormat,
};
use serde::{Deserialize, Serialize};

use crate::board::attached::Port;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "edgeprof-worker",
    version,
    about = "Owns the boards of one lab host and runs tasks on them"
)]
pub struct Cli {
    /// Configuration file; default /etc/edgeprof/worker.toml where that exists
    #[arg(long, value_name = "FILE", env = "EDGEPROF_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address to serve on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "EDGEPROF_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Folder for state and cache; one worker each
    #[arg(long, value_name = "DIR", env = "EDGEPROF_DATA")]
    pub data: Option<PathBuf>,
    /// Lab that this worker belongs to
    #[arg(long, value_name = "NAME", env = "EDGEPROF_SITE")]
    pub site: Option<String>,
    /// Emulated boards to offer instead of the configured ones, such as riscv32 or mps2-an386x2
    #[arg(long = "board", value_name = "KIND[xN]", env = "EDGEPROF_BOARDS", value_delimiter = ',')]
    pub boards: Vec<String>,
    /// Name of this worker; default one made once and kept in the data folder
    #[arg(long, value_name = "ID", env = "EDGEPROF_NAME")]
    pub name: Option<WorkerId>,
    /// Write the address here once serving
    #[arg(long, value_name = "PATH", env = "EDGEPROF_READY_FILE")]
    pub ready_file: Option<PathBuf>,
    /// Shape of log lines
    #[arg(long, value_name = "FORMAT", env = "EDGEPROF_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Check the configuration and exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the defaults as TOML and exit
    #[arg(long)]
    pub print_default_config: bool,
    /// What else this program does
    #[command(subcommand)]
    pub command: Option<Subcommand>,
}

/// What the worker's program does besides being the daemon.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Print ready `board` stanzas for the serial devices and emulators of this machine
    Scan {
        /// A device to look at besides those that the system lists; repeatable
        #[arg(long = "port", value_name = "DEVICE")]
        ports: Vec<PathBuf>,
        /// Baud rate to try [default: 115200]
        #[arg(long, value_name = "RATE")]
        baud: Option<u32>,
    },
}

/// The configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to serve on.
    pub listen: SocketAddr,
    /// Folder for state and cache.
    pub data: PathBuf,
    /// Lab that this worker belongs to.
    pub site: String,
    /// Name of this worker; made once where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<WorkerId>,
    /// Shape of log lines.
    pub log_format: LogFormat,
    /// Whether to announce the worker over mDNS.
    pub announce: bool,
    /// Bounds.
    pub limits: Limits,
    /// Boards. More may lie in `boards.d/*.toml` beside this file.
    #[serde(rename = "board")]
    pub boards: Vec<BoardConfig>,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest silence of a board in a run, beyond what the model's size explains.
    #[serde(with = "humantime_serde")]
    pub frame_timeout: Duration,
    /// How long a board may take to answer after its start.
    #[serde(with = "humantime_serde")]
    pub boot_timeout: Duration,
    /// How long an attempt waits for the next piece of a blob.
    #[serde(with = "humantime_serde")]
    pub blob_timeout: Duration,
    /// How long a board may take to end a cancelled run before it is restarted.
    #[serde(with = "humantime_serde")]
    pub cancel_timeout: Duration,
    /// Largest blob in bytes.
    pub blob_bytes: u64,
    /// Size that the blob cache is kept below.
    pub cache_bytes: u64,
    /// Results that may wait for a coordinator; beyond that boards take no work.
    pub outbox: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_timeout: Duration::from_secs(60),
            boot_timeout: Duration::from_secs(30),
            blob_timeout: Duration::from_secs(120),
            cancel_timeout: Duration::from_secs(10),
            blob_bytes: 1 << 30,
            cache_bytes: 4 << 30,
            outbox: 1_000,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], WORKER_PORT)),
            data: default_data(),
            site: String::new(),
            name: None,
            log_format: LogFormat::default(),
            announce: true,
            limits: Limits::default(),
            boards: Vec::new(),
        }
    }
}

fn default_data() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")));
    match state {
        Some(state) if !nix::unistd::geteuid().is_root() => state.join("edgeprof/worker"),
        _ => PathBuf::from("/var/lib/edgeprof/worker"),
    }
}

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

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BoardFile {
    board: Vec<BoardConfig>,
}

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
    /// Two boards of one name.
    #[error("two boards are named {0:?}")]
    Twice(String),
    /// A board name that cannot be an id.
    #[error("board name {0:?}: letters, digits, '.', '_' and '-' only")]
    Name(String),
}

impl SetupError {
    /// The key of a board that it is about.
    fn key(&self) -> &'static str {
        match self {
            Self::Misplaced { key, .. } => key,
            Self::NoSilicon { .. } | Self::SamePort { .. } => "port",
            Self::Twice(_) | Self::Name(_) => "name",
            _ => "kind",
        }
    }
}

/// The configuration, checked and complete.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file's content with flags and environment over it. `boards` is superseded.
    pub config: Config,
    /// All boards.
    pub boards: Vec<Board>,
    /// Where to write the address once serving.
    pub ready_file: Option<PathBuf>,
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
}

impl Board {
    /// Its id on `worker`.
    ///
    /// # Panics
    /// Never: [`resolve`] has checked the name.
    pub fn id(&self, worker: &WorkerId) -> BoardId {
        BoardId::on(worker, &self.name).expect("the name was checked")
    }
}

/// Brings flags, environment and files together.
///
/// # Errors
/// The first thing that is wrong, in words for the person who wrote it.
pub fn resolve(cli: &Cli) -> Result<Settings, SetupError> {
    let (mut config, source): (Config, _) = config::load(cli.config.as_deref(), "worker")?;
    if let Some(listen) = cli.listen {
        config.listen = listen;
    }
    if let Some(data) = &cli.data {
        config.data.clone_from(data);
    }
    if let Some(site) = &cli.site {
        config.site.clone_from(site);
    }
    if let Some(name) = &cli.name {
        config.name = Some(name.clone());
    }
    if let Some(format) = cli.log_format {
        config.log_format = format;
    }
    let mut asked = Vec::new();
    if cli.boards.is_empty() {
        asked.extend(source.map(|source| (config.boards.clone(), Some(source))));
        asked.extend(beside(cli.config.as_deref().unwrap_or(Path::new("/etc/edgeprof/worker.toml")))?);
    } else {
        for typed in &cli.boards {
            asked.push((typed_boards(typed)?, None));
        }
    }
    let boards = check(asked)?;
    Ok(Settings { config, boards, ready_file: cli.ready_file.clone() })
}

/// Boards as asked for, and the file that they stand in.
type Asked = (Vec<BoardConfig>, Option<Source>);

/// The boards of `boards.d/*.toml` beside the configuration file, in the order of file names.
fn beside(config: &Path) -> Result<Vec<Asked>, SetupError> {
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

/// Understands the content of a configuration file and checks its boards; `path` is for errors.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(bytes: &[u8], path: &Path) -> Result<(Config, Vec<Board>), SetupError> {
    let source = Source::new(bytes, path)?;
    let config: Config = source.parse()?;
    let boards = check(vec![(config.boards.clone(), Some(source))])?;
    Ok((config, boards))
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

fn check(asked: Vec<Asked>) -> Result<Vec<Board>, SetupError> {
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let mut boards: Vec<Board> = Vec::new();
    for (group, source) in asked {
        for (place, board) in group.into_iter().enumerate() {
            let checked = one(board, &boards, &mut numbers).map_err(|error| match &source {
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
) -> Result<Board, SetupError> {
    let kind = kind(&board.kind)?;
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
        Behind::Emulator(_) => None,
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

#[cfg(test)]
mod tests;
