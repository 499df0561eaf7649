//! `edgeprof-coordinator`. Exit codes: 0 stopped as told · 1 unexpected · 2 usage · 75 the address is
//! taken, trying again may help · 78 configuration or storage cannot be used, or a newer life of this
//! coordinator took over: do not start it again before somebody looked.

mod allocator;

use std::{path::Path, process::ExitCode};

use clap::CommandFactory;
use edgeprof_common::Epoch;
use edgeprof_coordinator::{
    adopt::adopt,
    backup,
    config::{Config, Flags, KEYS, Subcommand},
    core::Failed,
    daemon::{Daemon, StartError, write_ready},
    preparing::child,
};
use edgeprof_service::{
    config::print_default,
    manual,
    shutdown::signalled,
    supervisor,
    telemetry::{self, TelemetryError},
    tls::Own,
};

const TRY_AGAIN: u8 = 75;
const DO_NOT_RESTART: u8 = 78;

fn main() -> ExitCode {
    allocator::give_back_soon();
    let flags = edgeprof_service::flags::parse::<Flags>();
    // They need no configuration.
    let aside = match &flags.command {
        Some(Subcommand::Prepare) => Some(child::main()),
        Some(Subcommand::Manual { folder }) => {
            Some(manual::write(&Flags::command(), "edgeprof-coordinator", folder))
        }
        Some(_) | None => None,
    };
    match aside {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => return fail(1, &error, None),
        None => {}
    }
    if flags.print_default_config {
        print!("{}", print_default::<Config>(KEYS));
        return ExitCode::SUCCESS;
    }
    let config = match flags.resolve() {
        Ok(config) => config,
        Err(error) => return fail(DO_NOT_RESTART, &error, None),
    };
    if let Some(command) = &flags.command {
        return on_data(command, &config.data);
    }
    if flags.check_config {
        if let Err(why) =
            edgeprof_service::tls::secure(&config.tls, config.listen, Own::Coordinator, &config.data)
        {
            return fail(DO_NOT_RESTART, &why, Some(&why.hint));
        }
        println!("the configuration is good");
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error, None),
    };
    let started = runtime.block_on(async {
        let settings = config.telemetry.within(&config.tls);
        telemetry::start("edgeprof-coordinator", Some(config.log_format), &settings)
    });
    let telemetry = match started {
        Ok(telemetry) => telemetry,
        Err(error @ TelemetryError::Listen { .. }) => return fail(TRY_AGAIN, &error, None),
        Err(error) => return fail(DO_NOT_RESTART, &error, None),
    };
    let code = runtime.block_on(run(&config, &flags));
    runtime.block_on(telemetry.stop());
    // What hangs on a disk does not keep the process.
    runtime.shutdown_background();
    code
}

/// What is done to a data folder without serving it.
fn on_data(command: &Subcommand, data: &Path) -> ExitCode {
    let done = match command {
        Subcommand::Adopt { cluster, epoch, force } => adopt(data, *cluster, Epoch(*epoch), *force)
            .map(|()| {
                format!("the next start has epoch {epoch} of cluster {cluster}; start the coordinator now")
            })
            .map_err(|error| fail(DO_NOT_RESTART, &error, Some(error.hint()))),
        Subcommand::Backup { file } => backup::take(data, file)
            .map(|bytes| format!("{}: {} KiB", file.display(), bytes.div_ceil(1024)))
            .map_err(|error| fail(1, &error, Some(error.hint()))),
        Subcommand::Restore { file } => backup::restore(file, data)
            .map(|restored| restored.to_string())
            .map_err(|error| fail(1, &error, Some(error.hint()))),
        Subcommand::Prepare | Subcommand::Manual { .. } => return ExitCode::SUCCESS,
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

async fn run(config: &Config, flags: &Flags) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return fail(1, &error, None),
    };
    // Before anything is served: a signal that comes early is not lost.
    let mut stop = tokio::spawn(signalled());
    let mut daemon = match Daemon::start(config, program).await {
        Ok(daemon) => daemon,
        Err(error) => {
            let code = match error {
                StartError::Listen { .. } => TRY_AGAIN,
                StartError::System(_) => 1,
                _ => DO_NOT_RESTART,
            };
            return fail(code, &error, Some(error.hint()));
        }
    };
    if let Some(path) = &flags.ready_file
        && let Err(error) = write_ready(path, &daemon.url())
    {
        let code = fail(1, &format!("cannot write {}: {error}", path.display()), None);
        daemon.stop().await;
        return code;
    }
    supervisor::ready(&format!("serving on {}", daemon.address()));
    let code = tokio::select! {
        signal = &mut stop => match signal {
            Ok(Ok(signal)) => {
                tracing::info!(signal, "stopping");
                ExitCode::SUCCESS
            }
            Ok(Err(error)) => fail(1, &error, None),
            Err(error) => fail(1, &error, None),
        },
        outcome = daemon.failed() => match outcome {
            Ok(()) => fail(1, &"the coordinator ended unexpectedly", None),
            // At once: whoever waits for an answer must not get one.
            Err(error @ Failed::Store(_)) => return fail(DO_NOT_RESTART, &error, error.hint()),
            Err(error) => fail(DO_NOT_RESTART, &error, error.hint()),
        },
    };
    supervisor::stopping();
    daemon.stop().await;
    code
}

fn fail(code: u8, error: &dyn std::fmt::Display, hint: Option<&str>) -> ExitCode {
    eprintln!("edgeprof-coordinator: {error}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(code)
}
