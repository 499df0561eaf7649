//! Firmware images: one ELF a board kind, in target/firmware.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    build::{root, run, step, target},
    kinds::Kind,
    system::{DEBIAN_RUSTC, find, prepare, rustup_targets},
};

/// Folders that firmware is built from.
const SOURCES: [&str; 4] = ["firmware", "engine", "link", "boards"];

/// Builds the firmware of `kinds`, as far as something changed since it was built.
pub(crate) fn build(kinds: &[Kind]) -> Result<()> {
    ensure!(!kinds.is_empty(), "no such board kind; the catalogue is boards/kinds");
    prepare(kinds)?;
    let images = target().join("firmware");
    fs::create_dir_all(&images)?;
    let installed = rustup_targets();
    for kind in kinds {
        let compiler = Compiler::choose(kind, &installed)?;
        let stamp = stamp(kind, &compiler)?;
        let (image, stamp_file) =
            (images.join(format!("{}.elf", kind.name)), images.join(format!("{}.stamp", kind.name)));
        if image.exists() && fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
            step(&format!("firmware {} is up to date", kind.name));
            continue;
        }
        run(&format!("building firmware {}", kind.name), &mut compiler.command(kind))?;
        let built =
            build_folder().join(&kind.target).join(&kind.firmware.profile).join(&kind.firmware.package);
        fs::copy(&built, &image).with_context(|| format!("copying {}", built.display()))?;
        fs::write(stamp_file, stamp)?;
    }
    Ok(())
}

fn build_folder() -> PathBuf {
    target().join("firmware-build")
}

/// A compiler that has `core` for the board.
struct Compiler {
    /// Debian's, which builds `core` from source; else rustup's with the target installed.
    debian: bool,
    version: String,
    linker: PathBuf,
}

impl Compiler {
    fn choose(kind: &Kind, installed: &BTreeSet<String>) -> Result<Self> {
        let debian = !installed.contains(&kind.target);
        let rustc = if debian { DEBIAN_RUSTC } else { "rustc" };
        Ok(Self { debian, version: output(rustc, &["--version"])?, linker: linker()? })
    }

    fn command(&self, kind: &Kind) -> Command {
        let mut command = Command::new(if self.debian { "/usr/bin/cargo" } else { "cargo" });
        command
            .current_dir(root().join("firmware"))
            .args(["build", "--quiet", "--locked", "--target", &kind.target])
            .args(["--profile", &kind.firmware.profile])
            .args(["--package", &kind.firmware.package])
            .arg("--target-dir")
            .arg(build_folder())
            .env("EDGEPROF_KIND", &kind.name)
            .env(
                format!("CARGO_TARGET_{}_LINKER", kind.target.replace(['-', '.'], "_").to_uppercase()),
                &self.linker,
            );
        // Paths of this clone would make two clones' images differ: panic locations carry them.
        let remap = format!("--remap-path-prefix={}=/edgeprof", root().display());
        let home = std::env::var("CARGO_HOME")
            .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
            .unwrap_or_default();
        let flags = [remap, format!("--remap-path-prefix={home}=/cargo")];
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        if !kind.firmware.features.is_empty() {
            command.args(["--features", &kind.firmware.features.join(",")]);
        }
        if self.debian {
            command.arg("-Zbuild-std=core").env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
        }
        // The toolchain that runs this chore is not the one that builds firmware.
        for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTDOC", "RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_TARGET_DIR"]
        {
            command.env_remove(name);
        }
        command
    }
}

/// rustup's own linker, else Debian's.
fn linker() -> Result<PathBuf> {
    let sysroot = PathBuf::from(output("rustc", &["--print", "sysroot"])?);
    let host = output("rustc", &["-vV"])?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
    let bundled = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    if bundled.exists() {
        return Ok(bundled);
    }
    find("ld.lld").or_else(|| find("rust-lld")).context("no linker for boards; install Debian's package lld")
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let out = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    ensure!(out.status.success(), "{program} {}: {}", arguments.join(" "), out.status);
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Names everything that the image depends on.
fn stamp(kind: &Kind, compiler: &Compiler) -> Result<String> {
    let mut files = Vec::new();
    for folder in SOURCES {
        collect(&root().join(folder), &mut files)?;
    }
    files.push(root().join("Cargo.toml"));
    files.sort();
    let mut hasher = DefaultHasher::new();
    (&kind.name, &compiler.version, compiler.debian, root()).hash(&mut hasher);
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != "tests") {
                collect(&path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}
