//! Fuzzing with libFuzzer, on the compiler that builds everything else: its coverage comes from an LLVM
//! pass that stable rustc has, so that neither cargo-fuzz nor a nightly is needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    build::{self, cargo, root, step, target},
    system::find,
};

/// What cargo-fuzz gives the compiler, without its sanitizers: the code under test is safe Rust, and its
/// panics are what is looked for.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Seconds of a smoke run, each target.
const SMOKE: u32 = 60;

/// Longest input: parsers of larger files have their own tests with real sizes.
const LONGEST: u32 = 65_536;

/// Seconds that one input may take.
const PATIENCE: u32 = 20;

/// Runs targets one after the other: each for a minute with `smoke`, else for as long as it takes to find
/// something.
pub(crate) fn run(smoke: bool, names: &[String]) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are: {}", all.join(", "));
    }
    let chosen: Vec<&String> = all.iter().filter(|name| names.is_empty() || names.contains(name)).collect();
    ensure!(find("c++").is_some(), "libFuzzer needs a C++ compiler, for example: apt-get install g++");
    let folder = build(&chosen)?;
    let mut broken = Vec::new();
    for name in chosen {
        if !fuzz(&folder.join(name), name, smoke)? {
            broken.push(name.as_str());
        }
    }
    ensure!(broken.is_empty(), "inputs were found that break: {}", broken.join(", "));
    Ok(())
}

/// Runs one input through its target.
pub(crate) fn replay(name: &str, input: &Path) -> Result<()> {
    let program = build(&[&name.to_owned()])?.join(name);
    build::run(name, Command::new(program).arg(input))
}

/// Writes the seeds of every target into the corpus.
pub(crate) fn seed() -> Result<()> {
    let mut command = cargo();
    command.env("UPDATE_CORPUS", "1").args(["test", "--quiet", "--package", "edgeprof-hostile", "the_seeds"]);
    build::run("seeds", &mut command)
}

fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/targets");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Builds fuzzers and returns their folder.
fn build(names: &[&String]) -> Result<PathBuf> {
    let host = host()?;
    let out = target().join("fuzz");
    let mut command = cargo();
    command.current_dir(root().join("fuzz")).env("CARGO_TARGET_DIR", &out).env("RUSTFLAGS", COVERAGE);
    // With a target named, build scripts and macros are left without coverage.
    command.args(["build", "--release", "--target", &host]);
    for name in names {
        command.args(["--bin", name]);
    }
    build::run("building the fuzzers (minutes the first time)", &mut command)?;
    Ok(out.join(host).join("release"))
}

fn host() -> Result<String> {
    let out = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names its host")?.to_owned())
}

/// Whether nothing was found.
fn fuzz(program: &Path, name: &str, smoke: bool) -> Result<bool> {
    let kept = root().join("fuzz/corpus").join(name);
    // What widens the coverage is gathered here, not in the repository.
    let gathered = target().join("fuzz/gathered").join(name);
    let found = target().join("fuzz/found").join(name);
    for folder in [&kept, &gathered, &found] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let before = files(&found)?;
    let mut command = Command::new(program);
    command.arg(&gathered).arg(&kept);
    command.arg(format!("-artifact_prefix={}/", found.display()));
    command.args([format!("-max_len={LONGEST}"), format!("-timeout={PATIENCE}")]);
    command.args(["-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0", "-print_funcs=0"]);
    if smoke {
        command.arg(format!("-max_total_time={SMOKE}"));
    }
    step(&format!("fuzzing {name}"));
    let status = command.status().with_context(|| program.display().to_string())?;
    if status.success() {
        return Ok(true);
    }
    for path in files(&found)?.into_iter().filter(|path| !before.contains(path)) {
        let Some(file) = path.file_name() else { continue };
        let into = kept.join(file);
        fs::copy(&path, &into).with_context(|| into.display().to_string())?;
        let shown = into.strip_prefix(root()).unwrap_or(&into).display();
        eprintln!("    it is kept as {shown}; again with: cargo xtask fuzz --replay {shown} {name}");
    }
    Ok(false)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}
