//! `edgeprof run --local`: a run on a coordinator and a worker of its own, of which nothing is left.

pub(crate) mod boards;
mod folder;
mod lab;

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use edgeprof_boards::{Kind, catalogue};
use edgeprof_client::{Client, LocalFile};
use edgeprof_service::firmware;
use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

pub(crate) use self::lab::{COORDINATOR, Programs, WORKER, free};
use self::{boards::Lack, lab::Lab};
use crate::{
    args::{Global, JobArgs, Who},
    exit::{Exit, Failure},
    follow::pressed,
    job, output, programs,
    run::carry_out,
};

/// `edgeprof run --local`
pub(crate) async fn run(global: &Global, args: &JobArgs, who: &Who) -> Result<Exit, Failure> {
    if global.coordinator.is_some() {
        return Err(Failure::usage("--local and --coordinator exclude each other")
            .hint("leave one of them out: --local starts a coordinator of its own"));
    }
    let asked = boards::asked(&args.board, catalogue())?;
    let prepared = job::prepare(args, who)?;
    let programs = Programs::find()?;
    let folders = firmware_folders(&programs.coordinator);
    let own_firmware = args.firmware.is_some();
    let chosen = boards::choose(&asked, catalogue(), |kind| lack(kind, &folders, own_firmware))?;
    for (kind, lack) in &chosen.left_out {
        output::say(&format!("left out {kind}: {}\n", lack.what));
    }
    let cores = available_parallelism().map_or(1, NonZero::get);
    let counts = boards::counts(&chosen.named, prepared.spec.cells().len(), args.each, cores);
    let boards: Vec<_> = chosen.kinds.iter().map(|kind| kind.name.as_str()).zip(counts).collect();
    let bytes = prepared.files.iter().map(LocalFile::size).sum();
    in_lab(&programs, &boards, bytes, async |client, interrupt| {
        carry_out(client, &prepared, global, interrupt).await
    })
    .await
}

/// Starts a lab with these boards (kind and number) and room for models of so many bytes, does `work` on it, and stops it: also when a signal
/// ends the work, or a daemon does not go on. `work` hears Ctrl-C itself.
pub(crate) async fn in_lab<T>(
    programs: &Programs,
    boards: &[(&str, usize)],
    models: u64,
    work: impl AsyncFnOnce(&Client, &mut Option<unix::Signal>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut signals = Signals::listen();
    let mut lab = Lab::new(models)?;
    let all = async {
        let client = tokio::select! {
            client = lab.start(programs, boards) => client?,
            () = pressed(&mut signals.interrupt) => return Err(Failure::signal(Signal::SIGINT)),
        };
        tokio::select! {
            outcome = work(&client, &mut signals.interrupt) => outcome,
            failure = lab.broken() => Err(failure),
        }
    };
    let outcome = tokio::select! {
        outcome = all => outcome,
        signal = told(&mut signals.terminate, &mut signals.hangup) => Err(Failure::signal(signal)),
    };
    if let Err(error) = lab.stop(pressed(&mut signals.interrupt)).await {
        output::say(&format!("could not remove everything: {error}\n"));
    }
    outcome
}

/// Where the coordinator will look for firmware images.
pub(crate) fn firmware_folders(coordinator: &Path) -> Vec<PathBuf> {
    let named = std::env::var_os("EDGEPROF_FIRMWARE").unwrap_or_default();
    let named: Vec<_> = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
    // It knows itself by its real path.
    let program = coordinator.canonicalize().unwrap_or_else(|_| coordinator.to_owned());
    firmware::folders(&named, Some(&program))
}

/// Why a kind cannot be emulated here.
fn lack(kind: &Kind, folders: &[PathBuf], own_firmware: bool) -> Option<Lack> {
    let emulator = kind.emulator.as_ref()?;
    if programs::in_path(&emulator.program).is_none() {
        return Some(Lack {
            what: format!("{} is not installed", emulator.program),
            way_out: format!("apt install {}", emulator.debian_package),
        });
    }
    if own_firmware || firmware::find(folders, &kind.name).is_some() {
        return None;
    }
    let looked: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Some(Lack {
        what: format!("there is no firmware {}.elf; looked in {}", kind.name, looked.join(", ")),
        way_out: format!(
            "name the folder that has it in EDGEPROF_FIRMWARE, install it in {}, or build it in a clone with \
             `cargo xtask firmware`",
            firmware::SYSTEM
        ),
    })
}

/// What may end the run from outside.
struct Signals {
    interrupt: Option<unix::Signal>,
    terminate: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    fn listen() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            // Under nohup it stays ignored.
            hangup: (!ignored(Signal::SIGHUP)).then(|| signal(SignalKind::hangup()).ok()).flatten(),
        }
    }
}

/// Whether this process was started with a signal ignored.
fn ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal as u32 - 1) & 1 == 1
}

/// Waits for the word to end.
async fn told(terminate: &mut Option<unix::Signal>, hangup: &mut Option<unix::Signal>) -> Signal {
    tokio::select! {
        () = pressed(terminate) => Signal::SIGTERM,
        () = pressed(hangup) => Signal::SIGHUP,
    }
}
