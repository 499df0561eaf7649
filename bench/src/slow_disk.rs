//! One task alone on a disk whose syncs take longer than this machine's: the time that such a task takes is that of its
//! commits, and then that of the processors, and which of them counts is for the disk to say.
//!
//! Emulated: this program runs once more with the library of `bench/slow-disk` preloaded, and so do its daemons.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{figure::Figure, measure::alone, runtime};

/// What a commit takes on a disk that writes through is about 4 ms.
const LONGER: Duration = Duration::from_micros(3600);

/// What `cargo build --package edgeprof-slow-disk` makes, beside this program.
const LIBRARY: &str = "libedgeprof_slow_disk.so";

/// The figure with its goal; what a task costs the processors is the same on any disk.
pub(crate) fn one_task_alone(folder: &Path) -> Result<Option<Figure>> {
    let program = env::current_exe()?;
    let library = program.with_file_name(LIBRARY);
    ensure!(library.is_file(), "{} is missing: `cargo xtask bench cluster` builds it", library.display());
    let mut command = Command::new(&program);
    command.arg("--folder").arg(folder).arg("slow-disk").stderr(Stdio::inherit());
    command.env("LD_PRELOAD", &library).env("EDGEPROF_SYNC_LONGER_US", LONGER.as_micros().to_string());
    let done = command.output()?;
    ensure!(done.status.success(), "measuring on a slow disk ended with {}", done.status);
    let figures: Vec<Figure> =
        serde_json::from_slice(&done.stdout).context("reading the figures of the slow disk")?;
    let longer = format!("syncs {:.1} ms longer", LONGER.as_secs_f64() * 1e3);
    let how = "every fdatasync of daemons and store alone waited so much longer";
    Ok(figures.into_iter().next().map(|figure| figure.emulated(&longer, how)))
}

/// In the process that has that disk.
pub(crate) fn measure(folder: &Path) -> Result<()> {
    let folder = folder.join("slow-disk");
    std::fs::create_dir_all(&folder)?;
    // The loader goes on without a library that it cannot load, and the figure would say what is not so.
    let file = tempfile::tempfile_in(&folder)?;
    let start = Instant::now();
    file.sync_data()?;
    ensure!(
        start.elapsed() >= LONGER,
        "no library makes syncs longer here: `bench-cluster alone` sees to that"
    );
    let figures = runtime()?.block_on(alone::measure(&folder))?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
