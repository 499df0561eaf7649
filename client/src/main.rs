//! The `edgeprof` command.
#![forbid(unsafe_code)]

mod args;
mod audit;
mod board;
mod close;
mod cluster;
mod console;
mod doctor;
mod drain;
mod events;
mod exit;
mod follow;
mod job;
mod jobs;
mod local;
mod logs;
mod marks;
mod model;
mod output;
mod pki;
mod programs;
mod progress;
mod run;
mod suites;
mod telemetry;
mod tokens;
mod top;

use std::process::ExitCode;

use args::{BoardCommand, Cli, Command};
use clap::{CommandFactory, Parser};
use edgeprof_service::manual;
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::usage(format!("cannot start: {error}")).report(),
    };
    let name = telemetry::name(&cli.command);
    let certificates = cli.global.certificates();
    let outcome = runtime.block_on(telemetry::observed(name, certificates.as_deref(), dispatch(cli)));
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
        Command::Top { every } => top::run(&global, every).await,
        Command::Run { local: false, job, who } => run::run(&global, job, &who).await,
        Command::Run { local: true, job, who } => local::run(&global, &job, &who).await,
        Command::Submit { file, job, who } => run::submit(&global, file, job, &who).await,
        Command::Jobs { limit } => jobs::list(&global, limit).await,
        Command::Show { job, events: true } => events::show(&global, &job).await,
        Command::Show { job, events: false } => jobs::show(&global, &job).await,
        Command::Watch { job } => jobs::watch(&global, &job).await,
        Command::Cancel { job } => jobs::cancel(&global, &job).await,
        Command::Results { id } => jobs::results(&global, &id).await,
        Command::Logs { id } => logs::show(&global, &id).await,
        Command::Drain { worker, undo: true, .. } => drain::undo(&global, &worker).await,
        Command::Drain { worker, undo: false, no_wait } => drain::drain(&global, &worker, !no_wait).await,
        Command::Quarantine { board, reason, who } => marks::quarantine(&global, &board, &reason, &who).await,
        Command::Unquarantine { board, who } => marks::unquarantine(&global, &board, &who).await,
        Command::Board { command } => match command {
            BoardCommand::Check { board } => board::check(&global, &board).await,
            BoardCommand::Reserve { board, time: Some(time), who, .. } => {
                marks::reserve(&global, &board, time, &who).await
            }
            BoardCommand::Reserve { board, time: None, who, .. } => {
                marks::release(&global, &board, &who).await
            }
            BoardCommand::Console { board, linger } => console::open(&global, &board, linger).await,
            BoardCommand::Reset { board } => board::reset(&global, &board).await,
        },
        Command::Whoami => tokens::whoami(&global).await,
        Command::Token { command } => tokens::token(&global, command).await,
        Command::Audit { who, since, limit } => {
            audit::list(&global, who.as_deref(), since.as_deref(), limit).await
        }
        Command::Doctor => doctor::run(&global).await,
        Command::Pki(pki) => pki::run(&global, pki).await,
        Command::Manual { folder } => match manual::write(&Cli::command(), "edgeprof", &folder) {
            Ok(()) => Ok(Exit::Ok),
            Err(error) => Err(Failure::usage(format!("cannot write to {}: {error}", folder.display()))),
        },
        Command::Health => cluster::health(&global).await,
        Command::Suites => suites::list(&global),
        Command::Model { command: args::ModelCommand::Inspect { file } } => model::inspect(&global, &file),
    }
}
