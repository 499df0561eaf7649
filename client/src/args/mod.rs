//! The command line.

mod access;
mod examples;
mod job;
mod pki;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use edgeprof_client::{Client, ClientError, Token, address};
use edgeprof_service::{
    channel::Dialer,
    tls::{Demand, Keeper, Own},
};

pub(crate) use self::{
    access::TokenCommand,
    job::{JobArgs, Who},
    pki::{How, Pki, PkiCommand, Whose},
};
use crate::{exit::Failure, output::Format, progress::Mode};

/// Who waits longer than a year waits for ever: so no instant overflows.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Profile quantized language models on small boards, real or emulated.
#[derive(Debug, Parser)]
#[command(name = "edgeprof", version, max_term_width = 100, after_help = examples::EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Global {
    /// Address of the coordinator, such as http://lab:7450
    ///
    /// Else it is taken from EDGEPROF_COORDINATOR, from `coordinator` in ~/.config/edgeprof/config.toml, from
    /// an mDNS announcement on this network, or is http://127.0.0.1:7450.
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) coordinator: Option<String>,
    /// Folder with the certificates of this client, as `edgeprof pki issue` writes it
    ///
    /// Else ~/.config/edgeprof/tls where that exists. With it, coordinators are spoken to over TLS only, unless their
    /// address says http://.
    #[arg(
        long,
        global = true,
        env = "EDGEPROF_TLS_DIR",
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) tls_dir: Option<PathBuf>,
    /// File with a token that shows the coordinator who asks; only its owner may be able to read it
    ///
    /// Else the token itself is taken from EDGEPROF_TOKEN, if that is set. It is no argument, as those are seen by
    /// everybody on this machine.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "EDGEPROF_TOKEN_FILE",
        help_heading = "Global options"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Shape of the output
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
    /// Progress on standard error: bars on a terminal, plain lines, or none
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "EDGEPROF_PROGRESS",
        value_name = "MODE",
        help_heading = "Global options"
    )]
    pub(crate) progress: Mode,
}

impl Global {
    /// What was said of the coordinator: flag, environment, configuration file.
    pub(crate) fn said(&self) -> address::Said {
        let variable = |name: &str| std::env::var(name).ok();
        address::Said {
            flag: self.coordinator.clone(),
            environment: variable("EDGEPROF_COORDINATOR"),
            config: address::config_path(variable),
        }
    }

    /// Finds the coordinator and connects.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        // Before anybody is dialled.
        let token = self.token()?;
        let certificates = self.certificates();
        let target = address::resolve(&self.said(), address::search(), certificates.is_some()).await?;
        let dialer = self.dialer(&target)?;
        Ok(Self::showing(address::connect(&target, &dialer).await?, token)?)
    }

    /// The client with the token, if there is one.
    pub(crate) fn showing(client: Client, token: Option<Token>) -> Result<Client, ClientError> {
        match token {
            Some(token) => client.with_token(token),
            None => Ok(client),
        }
    }

    /// The token that was given.
    pub(crate) fn token(&self) -> Result<Option<Token>, ClientError> {
        if let Some(path) = &self.token_file {
            return Token::read(path).map(Some);
        }
        let given = std::env::var("EDGEPROF_TOKEN").ok().filter(|text| !text.trim().is_empty());
        given.map(|text| Token::new(&text, "EDGEPROF_TOKEN")).transpose()
    }

    /// The folder of certificates, if there is one.
    pub(crate) fn certificates(&self) -> Option<PathBuf> {
        let usual = || {
            let config = address::config_path(|name| std::env::var(name).ok())?;
            Some(config.parent()?.join("tls")).filter(|folder| folder.exists())
        };
        self.tls_dir.clone().filter(|dir| !dir.as_os_str().is_empty()).or_else(usual)
    }

    /// How `target` is dialled. Certificates that cannot be used keep nobody from an address without TLS.
    pub(crate) fn dialer(&self, target: &address::Target) -> Result<Dialer, Failure> {
        let plain = target.urls.iter().all(|url| url.starts_with("http://"));
        match self.certificates().filter(|_| !plain) {
            None => Ok(Dialer::default()),
            Some(dir) => {
                let keeper = Keeper::open(&dir, Own::Client)
                    .map_err(|why| Failure::usage(why.to_string()).hint(why.hint))?;
                Ok(Dialer::secured(keeper.into(), Demand::Coordinator))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Command {
    /// List boards: id, kind, worker, health, marks, what each runs and what waits behind it
    Boards {
        /// Only boards with this label; repeatable, all must match
        #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
    },
    /// List workers: address, health, boards, attempts, epoch, last heartbeat
    Workers,
    /// Submit a job, follow it with progress, print its results
    #[command(after_help = examples::RUN_EXAMPLES)]
    Run {
        /// Run on a private coordinator and worker with emulated boards, gone afterwards
        ///
        /// -b names their kinds; `all` is every kind that can be emulated here.
        #[arg(long, conflicts_with = "detach")]
        local: bool,
        #[command(flatten)]
        job: JobArgs,
        #[command(flatten)]
        who: Who,
    },
    /// Submit a job and print its id
    #[command(after_help = examples::SUBMIT_EXAMPLES)]
    Submit {
        /// Take the job from a TOML file, whose keys are the long names of these flags
        #[arg(short = 'f', long, value_name = "JOB.toml", conflicts_with = "JobArgs")]
        file: Option<PathBuf>,
        #[command(flatten)]
        job: JobArgs,
        #[command(flatten)]
        who: Who,
    },
    /// List jobs, newest first
    Jobs {
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
    },
    /// Show a job and its tasks: where each runs, its place in the queue, when it is likely to end
    #[command(after_help = examples::SHOW_EXAMPLES)]
    Show {
        /// Id of the job; with --events also that of a task
        job: String,
        /// Tell what became of each task, step by step: what, which attempt, on which board, why
        #[arg(long)]
        events: bool,
    },
    /// Follow a job until it ends, over restarts of the coordinator
    Watch {
        /// Id of the job
        job: String,
    },
    /// Cancel a job and print its state
    Cancel {
        /// Id of the job
        job: String,
    },
    /// Print recorded runs, whole
    Results {
        /// Id of a job or of a run
        #[arg(value_name = "JOB|RUN")]
        id: String,
    },
    /// Show what passed on the boards' lines, attempt by attempt
    Logs {
        /// Id of a job, of a task or of a run
        #[arg(value_name = "JOB|TASK|RUN")]
        id: String,
    },
    /// Take a worker out of service, and wait until nothing runs on its boards
    ///
    /// It gets no new work, over restarts of either side, until --undo. What waits on its boards goes elsewhere
    /// at once; what runs may end, or goes elsewhere after the coordinator's `drain_grace`. Nothing is lost.
    #[command(after_help = examples::DRAIN_EXAMPLES)]
    Drain {
        /// Id of the worker
        worker: String,
        /// Take it back into service
        #[arg(long, conflicts_with = "no_wait")]
        undo: bool,
        /// Say what still runs, and leave
        #[arg(long)]
        no_wait: bool,
    },
    /// Set a board aside: it gets no tasks until `unquarantine`
    #[command(after_help = examples::QUARANTINE_EXAMPLES)]
    Quarantine {
        /// Id of the board
        board: String,
        /// Why, for whoever finds it so
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        who: Who,
    },
    /// Take a board back; it gets tasks again once it has passed a canary run
    Unquarantine {
        /// Id of the board
        board: String,
        #[command(flatten)]
        who: Who,
    },
    /// Look after one board: check it, keep it for yourself, talk to it, restart it
    Board {
        #[command(subcommand)]
        command: BoardCommand,
    },
    /// Say who the coordinator takes you for, and your role
    Whoami,
    /// Make and end tokens, which show the coordinator who asks
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// List who changed what, and what was refused, the newest last
    #[command(after_help = examples::AUDIT_EXAMPLES)]
    Audit {
        /// Only of this caller
        #[arg(long, value_name = "NAME")]
        who: Option<String>,
        /// Only since then: a time such as 2026-01-31T12:00:00Z, or a span before now such as 2h
        #[arg(long, value_name = "TIME|SPAN", value_parser = access::since)]
        since: Option<String>,
        /// At most so many, the newest
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Ask the coordinator whether it serves (grpc.health.v1), as probes do; exits with 3 if it does not
    Health,
    /// List the built-in suites
    Suites,
    /// Say what on this machine would keep a lab from working, and the remedy
    ///
    /// Exit code 0 if nothing does, 1 if something does; what only narrows a lab is a warning.
    Doctor,
    /// Run the lab's certificate authority: who may connect to whom
    #[command(after_help = examples::PKI_EXAMPLES)]
    Pki(Pki),
    /// Look at model files; needs no cluster
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// Write manual pages and shell completions below a folder, as they lie below /usr/share
    #[command(hide = true)]
    Manual {
        /// The folder
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BoardCommand {
    /// Say what is wrong with a board, and the way out; exits with 1 if it cannot be used
    Check {
        /// Id of the board
        board: String,
    },
    /// Keep a board for yourself: it gets no tasks meanwhile
    ///
    /// What runs on it may end. Reserving it again counts from then on.
    #[command(after_help = examples::RESERVE_EXAMPLES)]
    Reserve {
        /// Id of the board
        board: String,
        /// For how long, such as 2h or 90m
        #[arg(
            long = "for",
            value_name = "DURATION",
            value_parser = humantime::parse_duration,
            required_unless_present = "release",
            conflicts_with = "release"
        )]
        time: Option<Duration>,
        /// Give it back before that
        #[arg(long)]
        release: bool,
        #[command(flatten)]
        who: Who,
    },
    /// Talk to a board that is reserved, over its own line
    ///
    /// On a terminal, Ctrl-] leaves and every other key goes to the board. Elsewhere standard input goes to the
    /// board and what it says to standard output, byte for byte.
    #[command(after_help = examples::CONSOLE_EXAMPLES)]
    Console {
        /// Id of the board
        board: String,
        /// After the end of a piped input, leave once the board has said nothing for so long
        #[arg(
            long,
            default_value = "1s",
            value_name = "DURATION",
            value_parser = humantime::parse_duration
        )]
        linger: Duration,
    },
    /// Restart a board that runs nothing, and say what became of it; exits with 1 if it is not good then
    Reset {
        /// Id of the board
        board: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Say what a model file is: architecture, size, quantization, tokenizer
    Inspect {
        /// GGUF or llama2.c file
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_end_with_2() {
        for line in [
            &["edgeprof", "run", "--quant", "q5_0"][..],
            &["edgeprof", "run", "--suite", "quick", "-n", "3"],
            &["edgeprof", "run", "--local", "--detach"],
            &["edgeprof", "submit", "--local"],
            &["edgeprof", "submit", "-f", "job.toml", "-m", "x"],
            &["edgeprof", "run", "--label", "novalue"],
            &["edgeprof", "frobnicate"],
            &["edgeprof", "jobs", "-o", "xml"],
            &["edgeprof", "quarantine", "host-1/a"],
            &["edgeprof", "drain", "host-1", "--undo", "--no-wait"],
            &["edgeprof", "board", "reserve", "host-1/a"],
            &["edgeprof", "board", "reserve", "host-1/a", "--for", "2h", "--release"],
            &["edgeprof", "board", "reserve", "host-1/a", "--for", "long"],
            &["edgeprof", "token", "issue", "ci"],
            &["edgeprof", "token", "issue", "ci", "--role", "king"],
            &["edgeprof", "audit", "--since", "yesterday"],
        ] {
            let error = Cli::try_parse_from(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
        assert_eq!(Cli::try_parse_from(["edgeprof", "--help"]).unwrap_err().exit_code(), 0);
    }
}
