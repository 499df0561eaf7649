//! Tokens and the log of who did what on the command line.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Subcommand;
use edgeprof_common::Role;

use super::examples;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it: nobody can show it again
    #[command(after_help = examples::TOKEN_EXAMPLES)]
    Issue {
        /// Who holds it; what they submit is theirs
        name: String,
        /// viewer, submitter, operator or admin
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// How long it is good, such as 12h or 90d; a year at most
        #[arg(
            long,
            default_value = "30d",
            value_name = "DURATION",
            value_parser = humantime::parse_duration
        )]
        expires: Duration,
        /// Only for these RPCs, such as ListJobs,WatchJob
        #[arg(long, value_name = "RPC,…", value_delimiter = ',')]
        only: Vec<String>,
        /// Write it to a new file that only you can read, instead of printing it
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// List tokens: name, role, until when, when last used
    List,
    /// End a token, and what it has opened
    Revoke {
        /// Whose it is
        name: String,
    },
}

/// A time as the coordinator takes it, of one or of a span before now.
pub(super) fn since(text: &str) -> Result<String, String> {
    let at = match humantime::parse_rfc3339_weak(text) {
        Ok(at) => at,
        Err(_) => {
            let span = humantime::parse_duration(text).map_err(|_| {
                "neither a time such as 2026-01-31T12:00:00Z nor a span such as 2h".to_owned()
            })?;
            SystemTime::now().checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH)
        }
    };
    Ok(humantime::format_rfc3339_seconds(at).to_string())
}

#[cfg(test)]
mod tests {
    use super::since;

    #[test]
    fn a_time_or_a_span_becomes_a_time() {
        assert_eq!(since("2026-01-31T12:00:00Z").unwrap(), "2026-01-31T12:00:00Z");
        assert_eq!(since("2026-01-31 12:00:00").unwrap(), "2026-01-31T12:00:00Z");
        assert_eq!(since("100000years").unwrap(), "1970-01-01T00:00:00Z");
        assert!(since("2h").unwrap() < since("1h").unwrap());
        assert!(since("yesterday").is_err());
    }
}
