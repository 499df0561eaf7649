//! A coordinator and workers as processes of their own, on loopback.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use edgeprof_client::Client;
use edgeprof_tests::{Daemon, firmware, program};

use crate::{log, play, process};

/// How long a cluster may take to be there, and a round of tasks to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Boards of one worker that are alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boards {
    pub(crate) kind: &'static str,
    pub(crate) count: usize,
    /// What an attempt takes on one that does nothing.
    pub(crate) run: Option<Duration>,
}

impl Boards {
    /// Boards that do nothing for this long.
    pub(crate) const fn noop(count: usize, run: Duration) -> Self {
        Self { kind: "noop", count, run: Some(run) }
    }

    /// Their section of a worker's configuration. They can be selected by how long they take.
    fn toml(self) -> String {
        let mut text = String::new();
        for _ in 0..self.count {
            let _ = writeln!(text, "[[board]]\nkind = {:?}", self.kind);
            if let Some(run) = self.run {
                let ms = run.as_millis();
                let _ = writeln!(text, "labels = {{ takes = \"{ms}ms\" }}\nnoop = {{ run = \"{ms}ms\" }}");
            }
        }
        text
    }
}

/// Who serves the boards.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hosts<'a> {
    /// Worker processes, one for each list of boards.
    Real(&'a [&'a [Boards]]),
    /// Workers that one process plays, each with this many no-op boards.
    Played { workers: usize, boards: usize },
}

/// A running cluster; its processes end with it.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: PathBuf,
    pub(crate) coordinator: Daemon,
    pub(crate) workers: Vec<Daemon>,
    pub(crate) client: Client,
}

impl Cluster {
    /// Starts it in a folder of its own within `folder`, and waits until every board is good. `filter` is what
    /// daemons log.
    pub(crate) async fn start(folder: &Path, name: &str, hosts: Hosts<'_>, filter: &str) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let (workers, boards) = match hosts {
            Hosts::Real(list) => {
                let mut workers = Vec::new();
                for (index, boards) in list.iter().enumerate() {
                    workers.push(worker(&folder, &format!("host-{}", index + 1), boards, filter)?);
                }
                (workers, list.iter().flat_map(|boards| boards.iter()).map(|boards| boards.count).sum())
            }
            Hosts::Played { workers, boards } => {
                (vec![Daemon::start("played", &folder, play::command(workers, boards)?)], workers * boards)
            }
        };
        let addresses: Vec<String> =
            workers.iter().flat_map(|worker| worker.url().lines()).map(str::to_owned).collect();
        let command = coordinator(&folder, "127.0.0.1:0", &addresses, filter);
        let coordinator = Daemon::start("coordinator", &folder, command);
        let client = Client::connect(coordinator.url()).await?;
        let cluster = Self { folder, coordinator, workers, client };
        cluster.wait_for_boards(boards).await?;
        Ok(cluster)
    }

    async fn wait_for_boards(&self, count: usize) -> Result<()> {
        until(&format!("{count} good boards"), Duration::from_millis(100), async || {
            let boards = self.client.boards(&[]).await?;
            if let Some(bad) = boards.iter().find(|board| board.health == "bad") {
                bail!("board {} is bad: {}", bad.id, bad.reason());
            }
            Ok((boards.iter().filter(|board| board.health == "good").count() == count).then_some(()))
        })
        .await
    }

    /// Where the coordinator keeps its store.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("coordinator")
    }

    /// A further worker, which the coordinator is not told of before its next start.
    pub(crate) fn add_worker(&mut self, name: &str, boards: &[Boards], filter: &str) -> Result<()> {
        self.workers.push(worker(&self.folder, name, boards, filter)?);
        Ok(())
    }

    /// What starts the coordinator again on its data and its address, and where its files go.
    pub(crate) fn coordinator_again(&self, filter: &str) -> (Command, PathBuf) {
        let addresses: Vec<String> = self.workers.iter().map(|worker| worker.url().to_owned()).collect();
        let listen = self.coordinator.url().trim_start_matches("http://");
        (coordinator(&self.folder, listen, &addresses, filter), self.folder.clone())
    }

    /// Processor time so far: of the coordinator, and of all workers together.
    pub(crate) fn cpu(&self) -> Result<(Duration, Duration)> {
        let mut workers = Duration::ZERO;
        for worker in &self.workers {
            workers += process::cpu(worker.id())?;
        }
        Ok((process::cpu(self.coordinator.id())?, workers))
    }
}

fn coordinator(folder: &Path, listen: &str, workers: &[String], filter: &str) -> Command {
    let mut command = Command::new(program("edgeprof-coordinator"));
    command.args(["--listen", listen, "--site", "bench", "--no-discovery", "--log-format", "json"]);
    command.arg("--data").arg(folder.join("coordinator")).env("EDGEPROF_LOG", filter);
    command.env("EDGEPROF_FIRMWARE", firmware());
    for worker in workers {
        command.args(["--worker", worker.trim_start_matches("http://")]);
    }
    command
}

fn worker(folder: &Path, name: &str, boards: &[Boards], filter: &str) -> Result<Daemon> {
    let sections: String = boards.iter().map(|boards| boards.toml()).collect();
    let config = folder.join(format!("{name}.toml"));
    fs::write(&config, format!("allow_noop = true\nannounce = false\n{sections}"))
        .with_context(|| format!("writing {}", config.display()))?;
    let mut command = Command::new(program("edgeprof-worker"));
    command.args(["--listen", "127.0.0.1:0", "--site", "bench", "--log-format", "json", "--name", name]);
    command.arg("--config").arg(config).arg("--data").arg(folder.join(name)).env("EDGEPROF_LOG", filter);
    command.env("EDGEPROF_FIRMWARE", firmware());
    Ok(Daemon::start(name, folder, command))
}

/// What daemons log: the default, and more.
pub(crate) fn filter(more: &[&str]) -> String {
    [&[log::PLAIN], more].concat().join(",")
}

/// Asks `probe`, once a `pace`, until it has an answer.
pub(crate) async fn until<T>(
    what: &str,
    pace: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe().await? {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}");
        }
        tokio::time::sleep(pace).await;
    }
}
