//! The folder of a private lab: locked while it is in use, removed afterwards. One that a killed process
//! left behind is removed by the next.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg, OFlag};
use tempfile::TempDir;

const PREFIX: &str = "edgeprof-local-";
const LOCK: &str = "lock";

/// A folder for one run. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Folder {
    folder: TempDir,
    _lock: Flock<File>,
}

impl Folder {
    /// A new one in `parent`.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        let private = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix(PREFIX).permissions(private).tempdir_in(parent)?;
        // Locked before it has its name: a lock file that others see is free only if its owner is gone.
        let unnamed = folder.path().join("lock.new");
        let file = OpenOptions::new().write(true).create_new(true).open(&unnamed)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        fs::rename(&unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes it.
    pub(crate) fn remove(self) -> io::Result<()> {
        self.folder.close()
    }
}

/// Removes the folders in `parent` that no process holds any more. What cannot be removed stays.
pub(crate) fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && let Some(_lock) = abandoned(&entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The lock of a folder whose owner is gone.
fn abandoned(folder: &Path) -> Option<Flock<File>> {
    // In a folder that everybody may write to, a link could lead elsewhere.
    if !fs::symlink_metadata(folder).ok()?.is_dir() {
        return None;
    }
    let path: PathBuf = folder.join(LOCK);
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().write(true).custom_flags(flags).open(&path).ok()?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    // Another process may have removed it since it was opened.
    let (held, named) = (lock.metadata().ok()?, fs::symlink_metadata(&path).ok()?);
    ((held.dev(), held.ino()) == (named.dev(), named.ino())).then_some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(parent).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_a_folder_whose_owner_is_gone_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let held = Folder::new(parent.path()).unwrap();
        // As SIGKILL leaves it: the lock goes with the process, the files stay.
        let Folder { folder, _lock } = Folder::new(parent.path()).unwrap();
        let left = folder.keep();
        fs::create_dir(left.join("data")).unwrap();
        fs::write(left.join("data/blob"), "x").unwrap();
        drop(_lock);
        // No lock, so nothing proves that nobody uses it.
        let unproven = parent.path().join(format!("{PREFIX}other"));
        fs::create_dir(&unproven).unwrap();
        // A link to something that looks abandoned.
        let elsewhere = parent.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join(LOCK), "").unwrap();
        let link = parent.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();

        sweep(parent.path());
        assert!(!left.exists());
        assert!(held.path().join(LOCK).exists() && unproven.exists());
        assert!(link.is_symlink() && elsewhere.join(LOCK).exists());
        held.remove().unwrap();
        assert_eq!(
            names(parent.path()),
            [format!("{PREFIX}link"), format!("{PREFIX}other"), "elsewhere".into()]
        );
    }

    #[test]
    fn a_folder_is_its_owners_alone_and_goes_when_dropped() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::new(parent.path()).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        drop(folder);
        assert!(names(parent.path()).is_empty());
    }
}
