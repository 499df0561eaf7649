//! Archives for systems that have no Debian packages: the same files, in a folder that runs where it lies.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Build, PROGRAMS, cross, text, version};
use crate::build::{root, step};

/// Folders and files of the repository that come along.
const SHIPPED: [&str; 4] = ["LICENSE", "README.md", "deploy", "docs"];

/// `edgeprof-VERSION-TRIPLE.tar.gz`.
pub(crate) fn build(build: &Build, out: &Path, date: &str) -> Result<PathBuf> {
    let name = format!("edgeprof-{}-{}", version(), build.triple);
    let archive = out.join(format!("{name}.tar.gz"));
    step(&format!("packing {}", super::name(&archive)));
    let folder = tempfile::tempdir()?;
    let whole = folder.path().join(&name);
    let bin = whole.join("bin");
    fs::create_dir_all(&bin)?;
    for program in PROGRAMS {
        let to = bin.join(program.name);
        let from = build.folder().join(program.name);
        fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        text(Command::new(cross::strip(build)).arg(&to))?;
        copy(&build.parts().join(program.name), &whole.join("share"))?;
    }
    // The coordinator looks for images in the folder beside that of its program.
    copy(&build.parts().join("firmware"), &whole.join("firmware"))?;
    for part in SHIPPED {
        let from = root().join(part);
        if from.exists() {
            copy(&from, &whole.join(part))?;
        }
    }
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime"])
        .arg(format!("@{date}"))
        .args(["--use-compress-program", "gzip -9n", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(folder.path())
        .arg(&name);
    text(&mut tar)?;
    Ok(archive)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    }
    Ok(())
}
