//! `edgeprof-worker`: the worker daemon. Exit codes: 0 stopped as told · 1 unexpected · 2 usage · 75 the address is
//! taken, trying again may help · 78 configuration or data folder cannot be used: do not start it again before
//! somebody looked.

use std::{fmt::Display, process::ExitCode};

use clap::CommandFactory;
use edgeprof_service::{
    config::print_default,
    flags, manual,
    shutdown::Signals,
    supervisor,
    telemetry::{self, TelemetryError},
    tls::Own,
};
use edgeprof_worker::{
    config::{Cli, Config, KEYS, Subcommand, resolve},
    daemon::{self, StartError},
};

const TRY_AGAIN: u8 = 75;
const DO_NOT_RESTART: u8 = 78;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&flags::parse::<Cli>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

async fn run(cli: &Cli) -> Result<(), u8> {
    if cli.print_default_config {
        print!("{}", print_default::<Config>(KEYS));
        return Ok(());
    }
    if let Some(Subcommand::Scan { ports, baud }) = &cli.command {
        print!("{}", edgeprof_worker::scan::scan(ports, *baud).await);
        return Ok(());
    }
    if let Some(Subcommand::Manual { folder }) = &cli.command {
        let written = manual::write(&Cli::command(), "edgeprof-worker", folder);
        return written.map_err(|error| fail(1, format!("cannot write to {}: {error}", folder.display())));
    }
    let settings = resolve(cli).map_err(|error| fail(DO_NOT_RESTART, error))?;
    if cli.check_config {
        let Config { tls, listen, data, .. } = &settings.config;
        edgeprof_service::tls::secure(tls, *listen, Own::Worker, data)
            .map_err(|why| fail(DO_NOT_RESTART, format!("{why}; {}", why.hint)))?;
        println!("the configuration is good: {} boards", settings.boards.len());
        return Ok(());
    }
    let Config { log_format, telemetry, tls, .. } = &settings.config;
    let started = telemetry::start("edgeprof-worker", Some(*log_format), &telemetry.within(tls));
    let telemetry = started.map_err(|error| {
        let busy = matches!(error, TelemetryError::Listen { .. });
        fail(if busy { TRY_AGAIN } else { DO_NOT_RESTART }, error)
    })?;
    // Before anything is served: a signal that comes early is not lost.
    let mut signals = Signals::new().map_err(|error| fail(1, format!("cannot wait for signals: {error}")))?;
    let mut daemon = daemon::start(settings).await.map_err(|error| {
        let code = match error {
            StartError::Listen { .. } => TRY_AGAIN,
            StartError::Thread(_) => 1,
            _ => DO_NOT_RESTART,
        };
        fail(code, error)
    })?;
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
        ended = daemon.failed() => Err(fail(1, ended)),
    };
    daemon.stop().await;
    telemetry.stop().await;
    outcome
}

/// Says why, and gives the exit code.
fn fail(code: u8, why: impl Display) -> u8 {
    eprintln!("edgeprof-worker: {why}");
    code
}
