//! `edgeprof pki`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use edgeprof_common::Role;
use edgeprof_identity::Reason;

#[derive(Args, Clone, Debug)]
pub(crate) struct Pki {
    /// Folder of the authority [default: ~/.config/edgeprof/pki]
    #[arg(long, env = "EDGEPROF_PKI", value_name = "DIR", global = true)]
    pub(crate) dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: PkiCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make the lab's authority, once
    Init {
        /// Name of the lab, for people who read certificates
        #[arg(long, default_value = "lab", value_name = "NAME")]
        lab: String,
    },
    /// Issue a certificate, and say what to copy where
    Issue {
        #[command(subcommand)]
        whose: Whose,
    },
    /// List what was issued, and what became of it
    List,
    /// Revoke certificates, in the list that `publish` hands to the lab
    Revoke {
        /// A name, such as `host-1` or `client/ann`: all its certificates; or the serial of one
        #[arg(value_name = "NAME|SERIAL")]
        which: String,
        /// Why: unspecified, key-compromise, superseded, cessation-of-operation or privilege-withdrawn
        #[arg(long, default_value_t, value_name = "REASON")]
        reason: Reason,
    },
    /// Hand the list of what is revoked to the coordinator, and by it to every worker; needs the role admin
    Publish,
    /// Issue a certificate anew, with a new key, for whoever has one
    Renew {
        /// A name, such as `host-1`, `client/ann` or `coordinator`
        name: String,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Whose {
    /// The coordinator's, good for 90 days
    Coordinator {
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        again: Again,
    },
    /// A worker's, good for 90 days; the name in it is the worker's
    Worker {
        /// Name of the worker
        name: String,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        again: Again,
    },
    /// A person's or a program's, good for 30 days
    Client {
        /// Who
        name: String,
        /// What they may do: viewer, submitter, operator or admin
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        again: Again,
    },
}

#[derive(Args, Clone, Debug)]
pub(crate) struct How {
    /// For how many days it is good
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: Option<u32>,
    /// Write it to this folder as well
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Again {
    /// Even if there is a good one, which stays so
    #[arg(long)]
    pub(crate) again: bool,
}
