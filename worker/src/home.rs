//! The data folder: locked by one process, and the place of the worker's name.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use edgeprof_common::WorkerId;
use nix::fcntl::{Flock, FlockArg};

use crate::disk;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process has it.
    #[error("data folder {} is in use by another worker{}; stop that one, or name another folder with --data", path.display(), holder.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who has it, where the lock file tells.
        holder: Option<String>,
    },
    /// Not readable or not writable.
    #[error(
        "cannot use data folder {}: {source}; make it writable for this user and make room in it, or name \
         another with --data", path.display()
    )]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kept name is not one.
    #[error("the kept worker name in {} is damaged: {text:?}; name the worker with --name", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

/// The data folder, for as long as it is locked.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Home {
    /// Makes the folder where it is missing, and locks it.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let wrong = |source| HomeError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(wrong)?;
        for folder in ["blobs", "outbox"] {
            fs::create_dir_all(path.join(folder)).map_err(wrong)?;
        }
        let lock = path.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock)
            .map_err(wrong)?;
        let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == nix::errno::Errno::EWOULDBLOCK {
                let holder = fs::read_to_string(&lock).ok().map(|text| text.trim().to_owned());
                HomeError::InUse { path: path.to_owned(), holder: holder.filter(|text| !text.is_empty()) }
            } else {
                wrong(errno.into())
            }
        })?;
        // In place: a rename would leave the lock on a file that is gone.
        fs::write(&lock, format!("{}\n", std::process::id())).map_err(wrong)?;
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o750));
        Ok(Self { path: path.to_owned(), _lock: locked })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The worker's name: as configured, else as kept, else made and kept.
    ///
    /// # Errors
    /// When the kept name is damaged, or a new one cannot be kept.
    pub fn worker_id(&self, configured: Option<&WorkerId>) -> Result<WorkerId, HomeError> {
        if let Some(name) = configured {
            return Ok(name.clone());
        }
        let wrong = |source| HomeError::Io { path: self.path.clone(), source };
        let file = self.path.join("worker-id");
        match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| HomeError::Name { path: file, text }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = fresh_name();
                disk::write_durably(&file, format!("{name}\n").as_bytes()).map_err(wrong)?;
                Ok(name)
            }
            Err(error) => Err(wrong(error)),
        }
    }
}

fn fresh_name() -> WorkerId {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let host: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).take(40).collect();
    let host = if host.is_empty() { "worker" } else { &host };
    let mut suffix = [0; 2];
    getrandom::fill(&mut suffix).expect("the operating system's random source answers");
    format!("{host}-{:04x}", u16::from_le_bytes(suffix)).parse().expect("the characters were chosen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worker_on_the_same_folder_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let error = Home::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("in use by another worker") && error.contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(home);
        Home::open(folder.path()).unwrap();
    }

    #[test]
    fn the_name_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let name = home.worker_id(None).unwrap();
        assert_eq!(home.worker_id(None).unwrap(), name);
        let named = "bench-3".parse().unwrap();
        assert_eq!(home.worker_id(Some(&named)).unwrap(), named);
        fs::write(folder.path().join("worker-id"), "no good").unwrap();
        assert!(home.worker_id(None).unwrap_err().to_string().contains("no good"));
    }
}
