//! What is installed: archives and Debian packages, for this machine's architecture and others.

mod archive;
mod check;
mod cross;
mod deb;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    build::{cargo, root, run as run_command, step, target},
    firmware, kinds,
};

/// A package and the program in it.
pub(crate) struct Program {
    /// Of the workspace.
    package: &'static str,
    /// The file, and the name of its Debian package.
    name: &'static str,
}

const PROGRAMS: [Program; 3] = [
    Program { package: "edgeprof-coordinator", name: "edgeprof-coordinator" },
    Program { package: "edgeprof-worker", name: "edgeprof-worker" },
    Program { package: "edgeprof-client", name: "edgeprof" },
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What it is to run on, as rustc names it; repeatable; this machine if none is named
    #[arg(long = "target", value_name = "TRIPLE")]
    targets: Vec<String>,
    /// Where archives, packages and their checksums go; target/dist if not named
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take the firmware images from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
    /// Then run jobs with what was built: packages of this machine's architecture installed in clean Debians, as root;
    /// others under an emulator
    #[arg(long)]
    check: bool,
    /// Check what was built before
    #[arg(long, requires = "check")]
    no_build: bool,
}

/// A build for one architecture.
pub(crate) struct Build {
    /// As rustc names it.
    triple: String,
    /// Whether it is another than this machine's.
    cross: bool,
}

impl Build {
    /// Where cargo puts the programs.
    fn folder(&self) -> PathBuf {
        let folder = if self.cross { target().join(&self.triple) } else { target() };
        folder.join("release")
    }

    /// What was made for the packages beside the programs.
    fn parts(&self) -> PathBuf {
        self.folder().join("package")
    }

    fn programs(&self) -> Result<()> {
        let mut command = if self.cross { cross::cargo(&self.triple)? } else { cargo() };
        command.args(["build", "--release", "--locked", "--bins"]);
        for program in PROGRAMS {
            command.args(["--package", program.package]);
        }
        if self.cross {
            command.args(["--target", &self.triple]);
        }
        run_command(&format!("building for {}", self.triple), &mut command)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let out = match &arguments.out {
        Some(out) => env::current_dir()?.join(out),
        None => target().join("dist"),
    };
    let builds = builds(&arguments.targets)?;
    if !arguments.no_build {
        fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
        let images = match &arguments.firmware {
            Some(folder) => env::current_dir()?.join(folder),
            None => {
                firmware::build(&kinds::load()?)?;
                target().join("firmware")
            }
        };
        build(&builds, &images, &out)?;
    }
    if arguments.check {
        check::run(&builds, &out)?;
    }
    Ok(())
}

fn builds(targets: &[String]) -> Result<Vec<Build>> {
    let host = host()?;
    if targets.is_empty() {
        return Ok(vec![Build { triple: host, cross: false }]);
    }
    let build = |triple: &String| {
        ensure!(
            deb::architecture(triple).is_some(),
            "unknown target {triple:?}; known: {}",
            deb::ARCHITECTURES.map(|(triple, _)| triple).join(", ")
        );
        Ok(Build { triple: triple.clone(), cross: *triple != host })
    };
    targets.iter().map(build).collect()
}

fn host() -> Result<String> {
    let said = text(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it runs on")?.to_owned())
}

fn build(builds: &[Build], images: &Path, out: &Path) -> Result<()> {
    // Packages of one commit are the same whoever builds them, dates included.
    let date = text(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"]))?;
    // Pages and completions are the same on every architecture; this machine's programs write them.
    let manual = Build { triple: host()?, cross: false };
    manual.programs()?;
    let mut made = Vec::new();
    for build in builds {
        if build.cross {
            build.programs()?;
        }
        parts(build, &manual, images)?;
        for program in PROGRAMS {
            made.push(deb::build(&program, build, out, date.trim())?);
        }
        made.push(archive::build(build, out, date.trim())?);
    }
    sums(out)?;
    step(&format!("in {}:", out.display()));
    for file in made {
        let size = fs::metadata(&file)?.len() / 1024;
        eprintln!("    {} {size} KiB", name(&file));
    }
    Ok(())
}

/// Manual pages, completions and firmware, where the packages' lists of files expect them.
fn parts(build: &Build, host: &Build, images: &Path) -> Result<()> {
    let parts = build.parts();
    if parts.exists() {
        fs::remove_dir_all(&parts)?;
    }
    for program in PROGRAMS {
        let folder = parts.join(program.name);
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(host.folder().join(program.name));
        text(command.arg("manual").arg(&folder))?;
    }
    let firmware = parts.join("firmware");
    fs::create_dir_all(&firmware)?;
    for kind in kinds::load()? {
        let file = format!("{}.elf", kind.name);
        let from = images.join(&file);
        fs::copy(&from, firmware.join(&file)).with_context(|| format!("copying {}", from.display()))?;
    }
    Ok(())
}

/// SHA256SUMS of all that lies there, also of what was made before for another target, as `sha256sum -c` reads it.
fn sums(out: &Path) -> Result<()> {
    const SUMS: &str = "SHA256SUMS";
    let mut files = Vec::new();
    for file in fs::read_dir(out)? {
        let file = file?;
        if file.file_type()?.is_file() && file.file_name() != SUMS {
            files.push(file.file_name());
        }
    }
    files.sort();
    fs::write(out.join(SUMS), text(Command::new("sha256sum").current_dir(out).args(files))?)?;
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a command prints.
fn text(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !out.status.success() {
        bail!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
