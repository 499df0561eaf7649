//! Figures of the whole cluster, each beside a peer or a limit of the same run: run by `cargo xtask bench cluster`.
//!
//! Daemons are real processes of this build. Their boards do nothing, unless said otherwise, so that what is
//! left is the cluster's own cost.
#![forbid(unsafe_code)]

mod cluster;
mod figure;
mod jobs;
mod log;
mod measure;
mod peers;
mod play;
mod process;
mod slow_disk;
mod store;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;

use crate::figure::Report;

/// As the coordinator has it: what is played, sent and replayed here is to cost no more than it must, since it has its
/// share of the same processors.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "bench-cluster", about = "Figures of the whole cluster, each beside a peer or a limit")]
struct Arguments {
    /// What is measured; all of it if nothing is named
    #[arg(value_enum)]
    what: Vec<What>,
    /// No-op tasks of one round
    #[arg(long, default_value_t = 20_480)]
    tasks: usize,
    /// Rounds of each figure that takes long
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Tasks that wait when the coordinator is killed
    #[arg(long, default_value_t = 100_000)]
    queued: usize,
    /// Workers that are played
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// Python that may have the peers, Ray and Dask
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Where stores, logs and sockets of the run go: on the disk that is to be measured
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Also write the figures as JSON
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(subcommand)]
    inner: Option<Inner>,
}

/// Not for people.
#[derive(Debug, clap::Subcommand)]
enum Inner {
    /// Plays many workers in one process
    #[command(hide = true)]
    Play(play::Flags),
    /// Measures one task alone and prints the figures as JSON: in a process that has a slow disk
    #[command(hide = true)]
    SlowDisk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// No-op tasks a second, beside the store alone, Ray and Dask
    Throughput,
    /// One task alone, beside three commits: on this disk, and on a slower one
    Alone,
    /// Time between two tasks on one board
    Gap,
    /// A worker that is killed or stopped, until its tasks start elsewhere
    Failover,
    /// A coordinator that is killed, until it serves again
    Restart,
    /// Many workers
    Fleet,
    /// What traces, metrics and logs cost, with a collector that takes them and with one that hangs
    Telemetry,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.inner {
        Some(Inner::Play(flags)) => play::run(flags),
        Some(Inner::SlowDisk) => slow_disk::measure(&arguments.folder),
        None => measure_all(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        bail!("figures of a debug build mean nothing; run `cargo xtask bench cluster`");
    }
    process::many_files().context("raising the number of open files")?;
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let runtime = runtime()?;
    let mut report = Report::default();
    for &what in What::value_variants() {
        if !arguments.what.is_empty() && !arguments.what.contains(&what) {
            continue;
        }
        // Logs of the daemons stay where a measurement fails.
        let lab = tempfile::Builder::new().prefix("lab-").disable_cleanup(true).tempdir_in(&folder)?;
        let figures = runtime.block_on(one(what, arguments, lab.path())).with_context(|| {
            let name = what.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
            format!("measuring {name}; the logs are in {}", lab.path().display())
        })?;
        std::fs::remove_dir_all(lab.path())?;
        report.extend(figures);
    }
    println!("{}", report.table());
    if let Some(path) = &arguments.output {
        write(path, &report)?;
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn one(what: What, arguments: &Arguments, folder: &Path) -> Result<Vec<figure::Figure>> {
    let rounds = usize::from(arguments.rounds);
    match what {
        What::Throughput => {
            measure::throughput::measure(folder, arguments.tasks, rounds, &arguments.python).await
        }
        What::Alone => {
            let mut figures = measure::alone::measure(folder).await?;
            figures.extend(slow_disk::one_task_alone(folder)?);
            Ok(figures)
        }
        What::Gap => measure::gap::measure(folder).await,
        What::Failover => measure::failover::measure(folder, rounds).await,
        What::Restart => measure::restart::measure(folder, arguments.queued, rounds).await,
        What::Telemetry => measure::telemetry::measure(folder, arguments.tasks, rounds).await,
        What::Fleet => measure::fleet::measure(folder, arguments.workers, arguments.tasks, rounds).await,
    }
}

fn write(path: &Path, report: &Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}
