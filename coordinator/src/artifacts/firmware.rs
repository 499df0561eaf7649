//! Where firmware images come from: `<kind>.elf` in the first folder that has it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use edgeprof_common::Digest;
use edgeprof_service::firmware;

use super::{Artifacts, NotFirmware, UploadError, check_core, loaded_digest};
use crate::store::rows::FirmwarePin;

/// Larger than any image of a board with code in flash.
const LIMIT: u64 = 64 << 20;

/// Why a kind's firmware could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// In none of the folders.
    #[error("there is no firmware {kind}.elf; looked in {}", list(.folders))]
    Missing {
        /// The board kind.
        kind: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// The artifact is not here.
    #[error("firmware {0} is not among the artifacts")]
    NoArtifact(Digest),
    /// It cannot be read.
    #[error("cannot read firmware {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("firmware {}: {source}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What it is.
        source: NotFirmware,
    },
    /// It cannot be kept.
    #[error(transparent)]
    Keep(#[from] UploadError),
}

impl FirmwareError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "name the folder that has it in EDGEPROF_FIRMWARE, or build it in a clone with `cargo xtask firmware`"
            }
            Self::NoArtifact(_) => "upload it first",
            _ => "give an ELF file that was built for this board kind",
        }
    }
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The folders, in the order in which they are searched.
#[derive(Clone, Debug, Default)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// `configured` first, then beside the program, then the system's.
    pub fn new(configured: &[PathBuf], exe: Option<&Path>) -> Self {
        Self(firmware::folders(configured, exe))
    }

    /// Finds the firmware of a kind and keeps it as an artifact.
    ///
    /// # Errors
    /// When there is none, or it is not one.
    pub fn import(&self, artifacts: &Artifacts, kind: &str) -> Result<FirmwarePin, FirmwareError> {
        let path = firmware::find(&self.0, kind)
            .ok_or_else(|| FirmwareError::Missing { kind: kind.into(), folders: self.0.clone() })?;
        let bytes = load(&path)?;
        let loaded =
            loaded_digest(&bytes).map_err(|source| FirmwareError::Bad { path: path.clone(), source })?;
        Ok(FirmwarePin { file: artifacts.keep(&bytes)?, loaded, size: bytes.len() as u64 })
    }
}

/// A firmware that a client uploaded, for boards of an instruction set.
///
/// # Errors
/// When it is not there, or is not one.
pub fn uploaded(artifacts: &Artifacts, file: Digest, isa: &str) -> Result<FirmwarePin, FirmwareError> {
    let path = artifacts.path(&file);
    if artifacts.size(&file).is_none() {
        return Err(FirmwareError::NoArtifact(file));
    }
    let bytes = load(&path)?;
    let loaded = check_core(&bytes, isa).and_then(|()| loaded_digest(&bytes));
    // The client knows it by its digest, not by its place here.
    let named = || file.to_string().into();
    let loaded = loaded.map_err(|source| FirmwareError::Bad { path: named(), source })?;
    Ok(FirmwarePin { file, loaded, size: bytes.len() as u64 })
}

fn load(path: &Path) -> Result<Vec<u8>, FirmwareError> {
    let read = |source| FirmwareError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(read)?.len() > LIMIT {
        let too_large = std::io::Error::other(format!("it is larger than {LIMIT} bytes"));
        return Err(read(too_large));
    }
    fs::read(path).map_err(read)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::artifacts::loaded::tests::elf;

    /// A folder that has firmware of one kind.
    pub(crate) fn folder_with(data: &Path, kind: &str) -> Folders {
        fs::write(data.join(format!("{kind}.elf")), elf(b"aaaa", b"")).unwrap();
        Folders(vec![data.to_owned()])
    }

    #[test]
    fn the_first_folder_that_has_it_wins() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path(), u64::MAX).unwrap();
        let (a, b) = (data.path().join("a"), data.path().join("b"));
        for (folder, code) in [(&a, b"aaaa"), (&b, b"bbbb")] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("riscv32.elf"), elf(code, b"")).unwrap();
        }
        let folders = Folders(vec![data.path().join("none"), b, a]);
        let pin = folders.import(&artifacts, "riscv32").unwrap();
        assert_eq!(artifacts.size(&pin.file), Some(pin.size));
        assert_eq!(pin.loaded, loaded_digest(&elf(b"bbbb", b"")).unwrap());
        let error = folders.import(&artifacts, "riscv64").unwrap_err().to_string();
        assert!(error.contains("riscv64.elf") && error.contains("none"), "{error}");
    }
}
