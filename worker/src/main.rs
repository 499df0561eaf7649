//! `edgeprof-worker`: the worker daemon. Exit codes: 0 stopped as told · 1 unexpected · 2 usage · 78 the
//! configuration cannot be used: do not start it again before somebody looked.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;
use edgeprof_service::{config::print_default, flags, manual, shutdown::Signals, supervisor, telemetry};
use edgeprof_worker::{
    config::{Cli, Config, KEYS, SetupError, Subcommand, resolve},
    daemon,
};

const DO_NOT_RESTART: u8 = 78;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&flags::parse::<Cli>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each says its cause itself.
            eprintln!("edgeprof-worker: {error}");
            if error.is::<SetupError>() { ExitCode::from(DO_NOT_RESTART) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(cli: &Cli) -> Result<()> {
    if cli.print_default_config {
        print!("{}", print_default::<Config>(KEYS));
        return Ok(());
    }
    if let Some(Subcommand::Scan { ports, baud }) = &cli.command {
        print!("{}", edgeprof_worker::scan::scan(ports, *baud).await);
        return Ok(());
    }
    if let Some(Subcommand::Manual { folder }) = &cli.command {
        return Ok(manual::write(&Cli::command(), folder)?);
    }
    let settings = resolve(cli)?;
    if cli.check_config {
        println!("the configuration is good: {} boards", settings.boards.len());
        return Ok(());
    }
    telemetry::init(settings.config.log_format);
    // Before anything is served: a signal that comes early is not lost.
    let mut signals = Signals::new().map_err(|error| anyhow::anyhow!("cannot wait for signals: {error}"))?;
    let mut daemon = daemon::start(settings).await?;
    supervisor::ready(&format!("{} serves on {}", daemon.worker, daemon.address));
    let outcome = tokio::select! {
        signal = signals.next() => {
            supervisor::stopping();
            tracing::info!(signal, "stopping; a second signal stops at once");
            tokio::select! {
                () = daemon.drain() => {}
                signal = signals.next() => tracing::info!(signal, "stopping at once"),
            }
            Ok(())
        }
        // Without its loop it would look alive and do nothing.
        ended = daemon.failed() => Err(anyhow::anyhow!(ended)),
    };
    daemon.stop().await;
    outcome
}
