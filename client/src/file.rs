//! Local files: looked at before anything is sent.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use edgeprof_common::{Digest, job::ModelRef};
use edgeprof_model::{Format, Header, Model, ModelError, inspect};
use sha2::{Digest as _, Sha256};

use crate::ClientError;

/// A local file that a job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl LocalFile {
    /// Reads `path` once for its digest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self, ClientError> {
        let hash = || -> io::Result<(Digest, u64)> {
            let mut file = File::open(path)?;
            let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
            loop {
                let n = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
            Ok((Digest::from_bytes(hasher.finalize().into()), size))
        };
        let (digest, size) = hash().map_err(|source| ClientError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), digest, size })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name without the folder.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Of its bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its length in bytes when it was read.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How a job names it.
    pub fn as_model(&self, tokenizer: Option<&Self>) -> ModelRef {
        ModelRef { name: self.name(), digest: self.digest, tokenizer: tokenizer.map(Self::digest) }
    }
}

/// Checks that every model can be run, and says of each whether it needs the tokenizer file.
///
/// # Errors
/// The first model that cannot be read or run, one that lacks its tokenizer, or a tokenizer that none needs.
pub fn check_models(models: &[PathBuf], tokenizer: Option<&Path>) -> Result<Vec<bool>, ClientError> {
    let needs = models.iter().map(|path| check(path, tokenizer)).collect::<Result<Vec<_>, _>>()?;
    match tokenizer {
        Some(path) if !needs.contains(&true) => Err(ClientError::Model {
            path: path.to_owned(),
            message: "no model of this job needs a tokenizer file".into(),
            hint: Some("leave --tokenizer out: GGUF files carry their own".into()),
        }),
        _ => Ok(needs),
    }
}

fn check(path: &Path, tokenizer: Option<&Path>) -> Result<bool, ClientError> {
    let named = |error: ModelError| match error {
        ModelError::Io { path, source } => ClientError::File { path, source },
        error => {
            let hint = Some(error.hint());
            let about = match (&error, tokenizer) {
                (
                    ModelError::VocabMismatch { .. } | ModelError::Truncated { format: "tokenizer.bin", .. },
                    Some(t),
                )
                | (ModelError::Invalid { format: "tokenizer.bin", .. }, Some(t)) => t,
                _ => path,
            };
            ClientError::Model { path: about.to_owned(), message: error.to_string(), hint }
        }
    };
    let header = Header::open(path).map_err(named)?;
    if header.format() == Format::Llama2c {
        // Small by nature; the tokenizer can only be judged beside the model's vocabulary.
        Model::open(path, tokenizer).map_err(named)?;
        return Ok(true);
    }
    let found = inspect(path).map_err(named)?;
    match found.reason {
        Some(message) if !found.supported => {
            Err(ClientError::Model { path: path.to_owned(), message, hint: found.hint })
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn a_file_is_named_by_its_bytes() {
        let file = file(b"abc");
        let local = LocalFile::read(file.path()).unwrap();
        assert_eq!((local.digest(), local.size()), (Digest::of(b"abc"), 3));
        assert!(!local.name().contains('/'));
    }

    #[test]
    fn what_is_no_model_is_refused_with_its_name_and_a_way_out() {
        for bytes in [b"\x89PNG\r\n\x1a\n0000000000000000".as_slice(), b"GGUF\x03\0\0\0", b"", b"hello"] {
            let file = file(bytes);
            let error = check_models(&[file.path().to_owned()], None).unwrap_err();
            assert!(error.to_string().starts_with(&file.path().display().to_string()), "{error}");
            assert!(error.hint().is_some(), "{error}");
            assert!(!error.unreachable());
        }
        let error = check_models(&["/nowhere/m.gguf".into()], None).unwrap_err();
        assert!(error.to_string().contains("/nowhere/m.gguf"), "{error}");
    }
}
