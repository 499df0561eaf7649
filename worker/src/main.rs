//! `edgeprof-worker`: the worker daemon.

use std::process::ExitCode;

use anyhow::Result;
use edgeprof_service::{config::print_default, flags, shutdown::Signals, telemetry};
use edgeprof_worker::{
    config::{Cli, Config, KEYS, Subcommand, resolve},
    daemon,
};

#[tokio::main]
async fn main() -> ExitCode {
    match run(&flags::parse::<Cli>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each says its cause itself.
            eprintln!("edgeprof-worker: {error}");
            ExitCode::FAILURE
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
    let settings = resolve(cli)?;
    if cli.check_config {
        println!("the configuration is good: {} boards", settings.boards.len());
        return Ok(());
    }
    let Config { log_format, telemetry, .. } = &settings.config;
    let telemetry = telemetry::start("edgeprof-worker", *log_format, telemetry)?;
    // Before anything is served: a signal that comes early is not lost.
    let mut signals = Signals::new().map_err(|error| anyhow::anyhow!("cannot wait for signals: {error}"))?;
    let mut daemon = daemon::start(settings).await?;
    let outcome = tokio::select! {
        signal = signals.next() => {
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
    telemetry.stop().await;
    outcome
}
