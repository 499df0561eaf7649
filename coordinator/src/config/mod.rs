//! Configuration: defaults, then the file, then `EDGEPROF_*`, then flags.

mod keys;
mod scheduling;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use edgeprof_common::ClusterId;
use edgeprof_service::{
    config::ConfigError,
    telemetry::LogFormat,
    tls::{Connections, TlsConfig, TlsFlags},
};
use serde::{Deserialize, Serialize};

use crate::access::{Quotas, audit};

pub use keys::KEYS;
pub use scheduling::Scheduling;

/// What the daemon can be told. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address for clients; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder of the store and the artifacts; one coordinator at a time.
    pub data: PathBuf,
    /// Name of the lab: only workers of the same site are served.
    pub site: String,
    /// Addresses of workers that mDNS does not find, as HOST:PORT.
    pub workers: Vec<String>,
    /// Whether to look for workers and to announce this coordinator over mDNS.
    pub discovery: bool,
    /// Folders that are searched for firmware images before the usual ones.
    pub firmware: Vec<PathBuf>,
    /// Largest artifact that a client may upload, in bytes.
    pub max_artifact_bytes: u64,
    /// Size in bytes that uploads and board images together are kept below. What no unfinished job needs
    /// goes when room is wanted, the least recently used first.
    pub artifact_quota_bytes: u64,
    /// Submissions are refused when the disk has less free space, in bytes.
    pub reserve_bytes: u64,
    /// Tasks that may wait; more are answered with `RESOURCE_EXHAUSTED`.
    pub max_queued_tasks: usize,
    /// Longest time that preparing a model may take between two steps.
    #[serde(with = "humantime_serde")]
    pub prepare_timeout: Duration,
    /// A workload is computed on the host as well, to verify boards by, if parameters times tokens are
    /// at most this.
    pub reference_limit: u64,
    /// Shape of log lines: text or json.
    pub log_format: LogFormat,
    /// Certificates. From here on tables.
    pub tls: TlsConfig,
    /// How many may connect.
    pub connections: Connections,
    /// How tasks are spread over boards.
    pub scheduler: Scheduling,
    /// How much one submitter may have.
    pub quotas: Quotas,
    /// How much is kept of the log of who did what.
    pub audit: audit::Keep,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], edgeprof_service::COORDINATOR_PORT)),
            data: "/var/lib/edgeprof/coordinator".into(),
            site: String::new(),
            workers: Vec::new(),
            discovery: true,
            firmware: Vec::new(),
            max_artifact_bytes: 16 << 30,
            artifact_quota_bytes: 64 << 30,
            reserve_bytes: 64 << 20,
            max_queued_tasks: 200_000,
            prepare_timeout: Duration::from_secs(120),
            // Ten seconds on a host of 2024, and within `prepare_timeout` on one that is five times slower.
            reference_limit: 50_000_000_000,
            log_format: LogFormat::Text,
            tls: TlsConfig::default(),
            connections: Connections::default(),
            scheduler: Scheduling::default(),
            quotas: Quotas::default(),
            audit: audit::Keep::default(),
        }
    }
}

/// Flags; each wins over its environment variable, and that over the file.
#[derive(Debug, Parser)]
#[command(
    name = "edgeprof-coordinator",
    version,
    about = "Finds workers, spreads profiling tasks over their boards, keeps the results",
    after_help = "Exit codes: 0 stopped as told; 1 unexpected; 2 usage; 75 the address is taken, trying again \
                  may help; 78 configuration or storage cannot be used, or a newer life took over: do not restart"
)]
pub struct Flags {
    /// TOML file; else /etc/edgeprof/coordinator.toml where it exists
    #[arg(long, env = "EDGEPROF_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address for clients [default: 127.0.0.1:7450]
    #[arg(long, env = "EDGEPROF_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Folder of the store and the artifacts [default: /var/lib/edgeprof/coordinator]
    #[arg(long, env = "EDGEPROF_DATA", value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
    /// Name of the lab [default: the empty name]
    #[arg(long, env = "EDGEPROF_SITE", value_name = "NAME")]
    pub site: Option<String>,
    /// Address of a worker that mDNS does not find; repeatable
    #[arg(long = "worker", env = "EDGEPROF_WORKERS", value_name = "ADDR", value_delimiter = ',')]
    pub workers: Vec<String>,
    /// Folder with firmware images, searched first
    #[arg(long, env = "EDGEPROF_FIRMWARE", value_name = "DIR", value_delimiter = ':')]
    pub firmware: Vec<PathBuf>,
    /// Neither look for workers nor announce this coordinator over mDNS
    #[arg(long, env = "EDGEPROF_NO_DISCOVERY")]
    pub no_discovery: bool,
    /// Shape of log lines [default: text]
    #[arg(long, env = "EDGEPROF_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// Certificates of this coordinator
    #[command(flatten)]
    pub tls: TlsFlags,
    /// Write http://ADDR, or https://ADDR, to this file once serving
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Check the configuration and exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the default configuration as TOML and exit
    #[arg(long)]
    pub print_default_config: bool,
    /// What else this program does
    #[command(subcommand)]
    pub command: Option<Subcommand>,
}

/// What is not serving.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Let the store command workers that obey another one, which is lost
    ///
    /// A worker refuses a coordinator that it does not know: the coordinator's log and `edgeprof workers` name
    /// cluster and epoch then, in this very command. Stop the coordinator before.
    Adopt {
        /// The cluster that the workers obey
        #[arg(long)]
        cluster: ClusterId,
        /// Above every epoch that one of these workers has seen
        #[arg(long)]
        epoch: u64,
        /// Even if the store has jobs of another cluster, whose workers will not obey it any more
        #[arg(long)]
        force: bool,
    },
    /// Write a backup of the coordinator that runs on --data, while it works
    ///
    /// It has every row as of one moment, and the artifacts that unfinished jobs need. What was acknowledged before
    /// is in it.
    Backup {
        /// A tar archive; none is overwritten
        file: PathBuf,
    },
    /// Make --data, an empty folder, what it was when a backup was taken
    Restore {
        /// What `backup` has written
        file: PathBuf,
    },
    /// The child that reads model files
    #[command(hide = true)]
    Prepare,
    /// Write manual pages and shell completions below a folder, as they lie below /usr/share
    #[command(hide = true)]
    Manual {
        /// The folder
        folder: PathBuf,
    },
}

impl Flags {
    /// The whole configuration.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let (file, _): (Config, _) = edgeprof_service::config::load(self.config.as_deref(), "coordinator")?;
        let or = |flag: &Vec<String>, file| if flag.is_empty() { file } else { flag.clone() };
        Ok(Config {
            listen: self.listen.unwrap_or(file.listen),
            data: self.data.clone().unwrap_or(file.data),
            site: self.site.clone().unwrap_or(file.site),
            workers: or(&self.workers, file.workers),
            discovery: file.discovery && !self.no_discovery,
            firmware: if self.firmware.is_empty() { file.firmware } else { self.firmware.clone() },
            log_format: self.log_format.unwrap_or(file.log_format),
            tls: self.tls.over(file.tls),
            ..file
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str, flags: &[&str]) -> Result<Config, ConfigError> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let program = ["edgeprof-coordinator", "--config", path.path().to_str().unwrap()];
        Flags::parse_from(program.iter().chain(flags)).resolve()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let config =
            resolve("site = \"attic\"\nlisten = \"0.0.0.0:1\"\n", &["--listen", "127.0.0.1:0"]).unwrap();
        assert_eq!(config.site, "attic");
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.reserve_bytes, Config::default().reserve_bytes);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = resolve("sight = \"attic\"\n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 1, key sight") && error.contains("known here: listen"), "{error}");
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let text = edgeprof_service::config::print_default::<Config>(KEYS);
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }
}
