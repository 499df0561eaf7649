//! Configuration: flags over environment over TOML.

mod boards;
mod error;
mod keys;
mod limits;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Parser;
use edgeprof_common::WorkerId;
use edgeprof_service::{
    WORKER_PORT,
    config::{self, Source},
    telemetry::LogFormat,
    tls::{Connections, TlsConfig, TlsFlags},
};
use serde::{Deserialize, Serialize};

use self::boards::{beside, check};
pub use self::{
    boards::{BAUD, Behind, Board, BoardConfig, NoopConfig, Transport, typed_boards},
    error::SetupError,
    keys::KEYS,
    limits::Limits,
};

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
    /// Offer boards of kind noop, which do nothing
    #[arg(long, hide = true, env = "EDGEPROF_ALLOW_NOOP", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_noop: bool,
    /// Shape of log lines
    #[arg(long, value_name = "FORMAT", env = "EDGEPROF_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Certificates of this worker
    #[command(flatten)]
    pub tls: TlsFlags,
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
    /// Write manual pages and shell completions below a folder, as they lie below /usr/share
    #[command(hide = true)]
    Manual {
        /// The folder
        folder: PathBuf,
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
    /// Whether boards of kind noop may be offered, which do nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_noop: bool,
    /// Certificates.
    pub tls: TlsConfig,
    /// How many may connect.
    pub connections: Connections,
    /// Bounds.
    pub limits: Limits,
    /// Boards. More may lie in `boards.d/*.toml` beside this file.
    #[serde(rename = "board", skip_serializing_if = "Vec::is_empty")]
    pub boards: Vec<BoardConfig>,
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
            allow_noop: false,
            tls: TlsConfig::default(),
            connections: Connections::default(),
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

/// Brings flags, environment and files together.
///
/// # Errors
/// The first thing that is wrong, in words for the person who wrote it.
pub fn resolve(cli: &Cli) -> Result<Settings, SetupError> {
    let (mut config, source): (Config, _) = config::load(cli.config.as_deref(), "worker")?;
    config.limits.check(source.as_ref())?;
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
    config.tls = cli.tls.over(config.tls);
    config.allow_noop |= cli.allow_noop;
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
    let boards = check(asked, config.allow_noop)?;
    Ok(Settings { config, boards, ready_file: cli.ready_file.clone() })
}

/// Understands the content of a configuration file and checks its boards; `path` is for errors.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(bytes: &[u8], path: &Path) -> Result<(Config, Vec<Board>), SetupError> {
    let source = Source::new(bytes, path)?;
    let config: Config = source.parse()?;
    config.limits.check(Some(&source))?;
    let boards = check(vec![(config.boards.clone(), Some(source))], config.allow_noop)?;
    Ok((config, boards))
}

#[cfg(test)]
mod tests;
