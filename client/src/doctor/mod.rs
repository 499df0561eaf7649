//! `edgeprof doctor`: what on this machine would keep a lab from working, and the remedy.
//!
//! Each room looks at one thing: its `probe` asks the machine, its `judge` decides and asks nobody.

mod certificates;
mod check;
mod daemons;
mod emulators;
mod firmware;
mod folders;
mod holders;
mod network;
mod ports;
mod serial;
mod system;
mod trial;

use std::{net::SocketAddr, path::Path};

use edgeprof_boards::catalogue;
use edgeprof_proto::v1;
use edgeprof_service::{COORDINATOR_PORT, WORKER_PORT};

use self::{
    check::Check,
    daemons::Daemon,
    emulators::{Emulator, State},
    firmware::Images,
    folders::Folder,
    ports::Wanted,
};
use crate::{
    args::Global,
    exit::{Exit, Failure},
    local::{COORDINATOR, Programs, WORKER, firmware_folders},
    output,
    progress::View,
};

/// `edgeprof doctor`
pub(crate) async fn run(global: &Global) -> Result<Exit, Failure> {
    let (emulators, coordinator, worker, multicast, lab) = tokio::join!(
        emulators::probe(catalogue()),
        daemons::probe(COORDINATOR, "coordinator"),
        daemons::probe(WORKER, "worker"),
        network::multicast(),
        network::coordinator(global),
    );
    let devices = serial::probe(Path::new("/dev"));
    let program = coordinator.path.as_deref().unwrap_or(Path::new("edgeprof-coordinator"));
    let images = firmware::probe(catalogue(), firmware_folders(program));
    let served = matches!(lab, network::Coordinator::Answers { .. });
    let certificates = certificates::probe(global);
    let keeper = certificates.as_ref().and_then(|certificates| certificates.keeper.as_ref().ok());

    let mut checks = daemons::judge(&coordinator, served);
    checks.extend(daemons::judge(&worker, served));
    checks.extend(emulators::judge(&emulators, !devices.is_empty()));
    checks.extend(firmware::judge(&images, served));
    checks.extend(trial(&emulators, &images, &coordinator, &worker, &mut View::new(global.progress)).await?);
    for (role, service, daemon, port) in [
        ("coordinator", v1::profiler_server::SERVICE_NAME, &coordinator, COORDINATOR_PORT),
        ("worker", v1::worker_server::SERVICE_NAME, &worker, WORKER_PORT),
    ] {
        let address = daemon.settings.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], port)));
        let wanted = Wanted { role, service, address };
        checks.push(ports::judge(&wanted, &ports::probe(&wanted, keeper).await));
    }
    checks.push(certificates::judge(certificates.as_ref()));
    checks.push(network::judge_coordinator(&lab));
    checks.extend(network::judge_multicast(&multicast));
    checks.extend(folders(&coordinator, &worker).iter().map(folders::judge));
    checks.extend(serial::judge(&devices));
    checks.extend(system::judge(&system::probe()));
    output::print(&check::render(global.output, &checks))?;
    Ok(check::verdict(&checks))
}

/// A run on every kind that has what it needs; where nothing has, there is nothing to be tried.
async fn trial(
    emulators: &[Emulator],
    images: &Images,
    coordinator: &Daemon,
    worker: &Daemon,
    view: &mut View,
) -> Result<Vec<Check>, Failure> {
    let (Some(coordinator), Some(worker)) = (&coordinator.path, &worker.path) else { return Ok(Vec::new()) };
    let programs = Programs { coordinator: coordinator.clone(), worker: worker.clone() };
    let starts = |kind: &str| {
        emulators.iter().any(|e| matches!(e.state, State::Version(_)) && e.kinds.iter().any(|k| k == kind))
    };
    let has_image = images.kinds.iter().filter(|(_, path)| path.is_some()).map(|(kind, _)| kind.as_str());
    let kinds: Vec<_> = has_image.filter(|kind| starts(kind)).collect();
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    match trial::probe(&programs, &kinds, view).await {
        Ok(trials) => Ok(trial::judge(&trials)),
        Err(failure) if failure.is_signal() => Err(failure),
        Err(failure) => {
            let remedy = failure.hints().join(", or ");
            let remedy = if remedy.is_empty() { "see what the log above says".into() } else { remedy };
            Ok(vec![Check::problem("trial run", failure.message(), remedy)])
        }
    }
}

fn folders(coordinator: &Daemon, worker: &Daemon) -> Vec<Folder> {
    let mut all = Vec::new();
    for (purpose, daemon, instead) in [
        ("data of the coordinator", coordinator, "edgeprof-coordinator --data DIR"),
        ("data of the worker", worker, "edgeprof-worker --data DIR"),
    ] {
        if let Some(path) = &daemon.settings.data {
            let reserve = daemon.settings.reserve.unwrap_or_default();
            let state = folders::probe(path);
            all.push(Folder { purpose, path: path.clone(), reserve, instead, state });
        }
    }
    let path = std::env::temp_dir();
    let state = folders::probe(&path);
    let reserve = coordinator.settings.reserve.unwrap_or_default();
    all.push(Folder { purpose: "temporary files", path, reserve, instead: "export TMPDIR=DIR", state });
    all
}
