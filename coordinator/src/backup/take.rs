//! `backup FILE`: asks the running coordinator, and keeps what it sends, whole or not at all.

use std::{fs, io, os::unix::net::UnixStream, path::Path};

use super::{
    Error, at,
    frames::{End, collect},
    socket,
};

/// Writes a backup of the coordinator that runs on `data` to `file`; durable on return. Gives its size in bytes.
///
/// # Errors
/// When none runs there, it fails, or the file cannot be written or is there already.
pub fn take(data: &Path, file: &Path) -> Result<u64, Error> {
    if file.exists() {
        return Err(Error::Exists(file.to_owned()));
    }
    let not_running = |source| Error::NotRunning { data: data.to_owned(), source };
    let stream = UnixStream::connect(socket(data)).map_err(not_running)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A temporary file is its owner's alone: what is in a lab's store is not everybody's.
    let mut written = tempfile::NamedTempFile::new_in(folder).map_err(at(folder))?;
    let bytes = match collect(stream, &mut written).map_err(Error::Broken)? {
        End::Whole(bytes) => bytes,
        End::Failed(reason) => return Err(Error::Refused(reason)),
    };
    written.as_file().sync_all().map_err(at(file))?;
    written.persist_noclobber(file).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(file.to_owned()),
        _ => at(file)(error.error),
    })?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
    Ok(bytes)
}
