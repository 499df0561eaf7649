//! `restore FILE`: a data folder from a backup.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};

use edgeprof_common::{ClusterId, Digest, Epoch};

use super::{BLOBS, Error, STORE, at};
use crate::{
    artifacts::Artifacts,
    store::{Embedded, rows},
};

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Whose store it is.
    pub cluster: ClusterId,
    /// Of the coordinator's life that made the backup.
    pub epoch: Epoch,
    /// Artifacts that came with it.
    pub artifacts: u64,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, epoch, artifacts } = self;
        write!(
            f,
            "restored cluster {cluster} as of epoch {}, with {artifacts} artifacts; see that no other coordinator of \
             it runs, and start this one. Where a coordinator was started after the backup, workers have seen its later \
             epoch and turn this one away: its log then names the `adopt` command that they obey",
            epoch.0
        )
    }
}

/// Makes `data` what it was when the backup in `file` was taken; whole or not at all. The files are given to the
/// folder's owner.
///
/// # Errors
/// When the folder has anything in it, or the file is no backup that this version can use.
pub fn restore(file: &Path, data: &Path) -> Result<Restored, Error> {
    let archive = File::open(file).map_err(at(file))?;
    fs::create_dir_all(data).map_err(at(data))?;
    if fs::read_dir(data).map_err(at(data))?.next().is_some() {
        return Err(Error::NotEmpty(data.to_owned()));
    }
    let making = tempfile::Builder::new().prefix(".restoring").tempdir_in(data).map_err(at(data))?;
    let artifacts = unpack(archive, making.path())
        .map_err(|reason| Error::NotBackup { path: file.to_owned(), reason: reason.to_string() })?;
    let store = Embedded::open(&making.path().join(STORE))?;
    rows::known(&store)?;
    let owner = rows::owner(&store)?;
    drop(store);
    let (cluster, epoch) = owner.ok_or_else(|| Error::NotBackup {
        path: file.to_owned(),
        reason: "its store belongs to no cluster".into(),
    })?;
    let meta = fs::metadata(data).map_err(at(data))?;
    give(making.path(), meta.uid(), meta.gid()).map_err(at(data))?;
    // The store last: a folder without one is no coordinator's.
    for part in [BLOBS, STORE] {
        let from = making.path().join(part);
        fs::rename(&from, data.join(part)).map_err(at(&from))?;
    }
    File::open(data).and_then(|folder| folder.sync_all()).map_err(at(data))?;
    Ok(Restored { cluster, epoch, artifacts })
}

/// Unpacks the store and the artifacts, each of which has to have the digest that it is named by.
fn unpack(archive: impl Read, folder: &Path) -> io::Result<u64> {
    let artifacts = Artifacts::open(folder, u64::MAX)?;
    let mut archive = tar::Archive::new(archive);
    let (mut found, mut kept) = (false, 0);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let strange = || io::Error::other(format!("what is {} in it?", path.display()));
        if !entry.header().entry_type().is_file() {
            return Err(strange());
        }
        if path == Path::new(STORE) && !found {
            let mut file = File::create_new(folder.join(STORE))?;
            io::copy(&mut entry, &mut file)?;
            file.sync_all()?;
            found = true;
            continue;
        }
        let digest = digest(&path).ok_or_else(strange)?;
        let mut upload = artifacts.upload(digest, entry.size()).map_err(io::Error::other)?;
        let mut piece = vec![0; 64 << 10];
        loop {
            match entry.read(&mut piece)? {
                0 => break,
                n => upload.write(piece.get(..n).unwrap_or_default()).map_err(io::Error::other)?,
            }
        }
        upload.finish().map_err(io::Error::other)?;
        kept += 1;
    }
    if found { Ok(kept) } else { Err(io::Error::other("it has no store")) }
}

/// The artifact that a path in the archive names.
fn digest(path: &Path) -> Option<Digest> {
    let inside = path.strip_prefix(BLOBS).ok()?;
    let hex = inside.file_name()?.to_str()?;
    let digest: Digest = format!("sha256:{hex}").parse().ok()?;
    let folder = PathBuf::from(digest.hex().get(..2)?);
    (inside == folder.join(hex)).then_some(digest)
}

fn give(path: &Path, user: u32, group: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if (meta.uid(), meta.gid()) != (user, group) {
        chown(path, Some(user), Some(group))?;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}
