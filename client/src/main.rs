//! The `edgeprof` command.
#![forbid(unsafe_code)]

mod args;
mod board;
mod cluster;
mod doctor;
mod exit;
mod follow;
mod job;
mod jobs;
mod local;
mod logs;
mod model;
mod output;
mod programs;
mod progress;
mod run;
mod suites;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::usage(format!("cannot start: {error}")).report(),
    };
    let outcome = runtime.block_on(dispatch(cli));
    // A blocked read of a dead file system must not hold the process.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Boards { labels } => cluster::boards(&global, &labels).await,
        Command::Workers => cluster::workers(&global).await,
        Command::Run { local: false, job } => run::run(&global, job).await,
        Command::Run { local: true, job } => local::run(&global, &job).await,
        Command::Submit { file, job } => run::submit(&global, file, job).await,
        Command::Jobs { limit } => jobs::list(&global, limit).await,
        Command::Show { job } => jobs::show(&global, &job).await,
        Command::Watch { job } => jobs::watch(&global, &job).await,
        Command::Cancel { job } => jobs::cancel(&global, &job).await,
        Command::Results { id } => jobs::results(&global, &id).await,
        Command::Logs { id } => logs::show(&global, &id).await,
        Command::Board { command: args::BoardCommand::Check { board } } => {
            board::check(&global, &board).await
        }
        Command::Doctor => doctor::run(&global).await,
        Command::Suites => suites::list(&global),
        Command::Model { command: args::ModelCommand::Inspect { file } } => model::inspect(&global, &file),
    }
}
