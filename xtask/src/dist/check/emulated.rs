//! Packages for another architecture: their programs under an emulator of it, and a job on a board that this machine
//! emulates. That the board's bits are those of the coordinator's own run holds over both.

use std::{ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::{CLIENT, COORDINATOR, JOB, RIGHT, WORKER, show};
use crate::{
    apt,
    build::{root, step},
    demo::MODEL,
    dist::{Build, cross::gnu, deb, text},
    lab::{Lab, Programs},
    system::find,
};

/// Runs a program where the kernel gives those of 64-bit Arm to an emulator.
const BINFMT: &str = include_str!("binfmt.sh");

pub(super) fn run(build: &Build, out: &Path) -> Result<()> {
    step(&format!("checking what was built for {}", build.triple));
    let architecture = deb::architecture(&build.triple).context("an architecture of Debian")?;
    ensure!(architecture == "arm64", "how {architecture} is emulated is not known here: leave out --check");
    if find("qemu-aarch64").is_none() {
        apt::install(&["qemu-user"], "")?;
    }
    let emulator = find("qemu-aarch64").context("Debian's qemu-user has no qemu-aarch64")?;

    let folder = tempfile::tempdir()?;
    for program in [COORDINATOR, WORKER, CLIENT] {
        let package = out.join(deb::file(program, architecture));
        ensure!(package.exists(), "{} is not there: leave out --no-build", package.display());
        text(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder.path()))?;
    }
    let script = folder.path().join("binfmt.sh");
    fs::write(&script, BINFMT)?;
    let namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh"].map(OsString::from);
    // The C library that was linked against, from the cross compiler's packages.
    let libraries = Path::new("/usr").join(gnu(&build.triple));
    let programs = Programs {
        folder: folder.path().join("usr/bin"),
        starter: [&namespace[..], &[script.into(), emulator.into(), libraries.into()]].concat(),
        firmware: folder.path().join("usr/share/edgeprof/firmware"),
    };
    for program in [COORDINATOR, WORKER, CLIENT] {
        let said = text(programs.command(program).arg("--version"))
            .context("programs of other architectures start in a user namespace since Linux 6.7")?;
        ensure!(said.starts_with(program), "{program} calls itself {said}");
        show(&said);
    }

    let lab = Lab::start(programs, &[&["riscv32"]], |line| eprintln!("    {line}"))?;
    step("running a job");
    let model = root().join(MODEL);
    let mut job = lab.client();
    job.args(["run", "--progress", "none", "-b", "riscv32", "-m"]).arg(model).args(JOB);
    let table = text(&mut job)?;
    ensure!(table.contains(RIGHT), "the board did not compute what it should:\n{table}");
    show(&table);
    step(&format!("programs for {} ran a job", build.triple));
    Ok(())
}
