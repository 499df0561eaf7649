//! Files and folders that are whole or as they were.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::error::PkiError;
pub(super) use crate::files::write;

/// A file to be written: name, content, mode.
pub(super) type Entry<'a> = (&'static str, &'a [u8], u32);

/// Puts a folder with these files at `path`, in place of one that holds files of these names only. Whoever looks
/// sees all old files or all new ones.
pub(super) fn replace(path: &Path, entries: &[Entry<'_>]) -> Result<(), PkiError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(PkiError::io(parent))?;
    if path.exists() {
        own(path, entries)?;
    }
    let fresh = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(PkiError::io(parent))?;
    for (name, bytes, mode) in entries {
        let file = fresh.path().join(name);
        write(&file, bytes, *mode).map_err(PkiError::io(&file))?;
    }
    swap(fresh.path(), path).map_err(PkiError::io(path))?;
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(PkiError::io(parent))
}

/// Moves `fresh` to `path`; what was there comes to be where `fresh` was.
fn swap(fresh: &Path, path: &Path) -> io::Result<()> {
    if !path.exists() {
        return fs::rename(fresh, path);
    }
    match renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(()),
        // A file system that cannot exchange: there is a moment without either.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            let old = fresh.with_extension("old");
            fs::rename(path, &old)?;
            fs::rename(fresh, path)?;
            fs::remove_dir_all(old)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn own(path: &Path, entries: &[Entry<'_>]) -> Result<(), PkiError> {
    for entry in fs::read_dir(path).map_err(PkiError::io(path))? {
        let name = entry.map_err(PkiError::io(path))?.file_name();
        if !entries.iter().any(|(known, ..)| name == *known) {
            let other = name.to_string_lossy().into_owned();
            return Err(PkiError::Foreign { path: path.to_owned(), other });
        }
    }
    Ok(())
}
