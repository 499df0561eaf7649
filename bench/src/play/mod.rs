//! Many workers in one process, each a server of its own with no-op boards, as the coordinator sees them: they
//! greet, send a heartbeat a second, end what they are given at once, and deliver results until acknowledged.

mod worker;

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use edgeprof_proto::v1::worker_server::WorkerServer;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport::{Server, server::TcpIncoming};

use self::worker::Worker;

/// Between two heartbeats of a worker.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How the process is told what to play.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Workers
    #[arg(long)]
    workers: usize,
    /// Boards of each
    #[arg(long)]
    boards: usize,
    /// Where to write their addresses, one a line, once all are served
    #[arg(long)]
    ready_file: PathBuf,
}

/// What starts such a process; the file that says that it is ready is for the caller to name.
pub(crate) fn command(workers: usize, boards: usize) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["play", "--workers", &workers.to_string(), "--boards", &boards.to_string()]);
    Ok(command)
}

/// Plays until it is killed. One thread: it is not to take more than a core from what is measured.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(play(flags))
}

async fn play(flags: &Flags) -> Result<()> {
    let mut servers = JoinSet::new();
    let mut addresses = String::new();
    for number in 0..flags.workers {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses += &format!("{}\n", listener.local_addr()?);
        // Heartbeats of many hosts do not fall together.
        let share = number as f64 / flags.workers as f64;
        let worker = Worker::new(number, flags.boards, HEARTBEAT.mul_f64(share));
        let service = WorkerServer::new(worker);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        servers.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    }
    // Whole or not at all: who waits for it reads it at once.
    let unfinished = flags.ready_file.with_extension("part");
    fs::write(&unfinished, addresses)?;
    fs::rename(&unfinished, &flags.ready_file)?;
    let ended = servers.join_next().await.context("there is nobody to play")?;
    Ok(ended??)
}
