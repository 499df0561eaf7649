//! Certificates, keys and revocation lists as files. What cannot be used is told with its file and the way out.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use crate::{Certificate, RevocationList};

/// Largest file that is read: a list of a hundred thousand revoked certificates.
const LARGEST: u64 = 8 << 20;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {what}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
    /// The way out.
    pub hint: String,
}

impl FileError {
    /// What is wrong with a file, and the way out.
    pub fn new(path: &Path, what: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.to_string(), hint: hint.into() }
    }
}

/// A certificate with those between it and its authority, and its key.
#[derive(Debug)]
pub struct Credentials {
    /// What the first certificate says.
    pub certificate: Certificate,
    /// The chain, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// Reads a certificate and its key.
///
/// # Errors
/// When either cannot be read, is none, or the key can be read by others.
pub fn credentials(cert: &Path, key: &Path) -> Result<Credentials, FileError> {
    let chain = certificates(cert)?;
    let broken = |_| FileError::new(cert, "its first certificate cannot be read", renew());
    let first = chain.first().map(|der| Certificate::read(der)).transpose().map_err(broken)?;
    let Some(certificate) = first else {
        return Err(FileError::new(cert, "it holds no certificate", renew()));
    };
    Ok(Credentials { certificate, chain, key: private_key(key)? })
}

/// Reads all certificates of a PEM file; at least one.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(path)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| FileError::new(path, said(&error), renew()))?;
    if found.is_empty() {
        return Err(FileError::new(path, "it holds no PEM certificate", renew()));
    }
    Ok(found)
}

/// Reads a revocation list, PEM or DER.
///
/// # Errors
/// When the file cannot be read or is none.
pub fn revocations(path: &Path) -> Result<RevocationList, FileError> {
    revocation_list(&read(path)?)
        .map_err(|what| FileError::new(path, what, "copy crl.pem anew from the folder of `edgeprof pki`"))
}

/// A revocation list from the bytes of a file.
///
/// # Errors
/// What is wrong with it.
pub fn revocation_list(bytes: &[u8]) -> Result<RevocationList, String> {
    // DER begins with a sequence.
    if bytes.first() == Some(&0x30) {
        return RevocationList::read(bytes).map_err(|error| error.to_string());
    }
    let der = CertificateRevocationListDer::from_pem_slice(bytes).map_err(|error| said(&error).to_owned())?;
    RevocationList::read(&der).map_err(|error| error.to_string())
}

/// Writes a file that is whole or as it was, whatever happens.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Reads a private key that nobody else can read. A group may where root owns the file: that is how a daemon's
/// user is given a key that it cannot change.
///
/// # Errors
/// When it cannot be read, is none, or others can read it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let about = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let forbidden = if about.uid() == 0 { 0o037 } else { 0o077 };
    if about.mode() & forbidden != 0 {
        let what = format!("others can read this private key (mode {:04o})", about.mode() & 0o7777);
        return Err(FileError::new(path, what, format!("chmod 600 {}", path.display())));
    }
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| FileError::new(path, said(&error), renew()))
}

fn renew() -> String {
    "make it anew with `edgeprof pki renew NAME`, and copy the folder whole".into()
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let about = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if about.len() > LARGEST {
        return Err(FileError::new(path, format!("it is larger than {LARGEST} bytes"), "name another file"));
    }
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> FileError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "make it with `edgeprof pki issue`, and copy the folder here, or name another folder with --tls-dir"
        }
        io::ErrorKind::PermissionDenied => "give it to the user of this process with chown",
        _ => "name another file",
    };
    FileError::new(path, error, hint)
}

/// What the PEM parser says, without what is in the file: that may be a key.
fn said(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "it holds no such PEM section",
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no end: the file is cut off",
        _ => "it is no PEM file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        private_key(file(&key, 0o600).path()).unwrap();
        for mode in [0o644, 0o604, 0o620] {
            let file = file(&key, mode);
            let error = private_key(file.path()).unwrap_err();
            assert!(error.to_string().contains(&format!("mode {mode:04o}")), "{error}");
            assert_eq!(error.hint, format!("chmod 600 {}", file.path().display()));
        }
    }

    #[test]
    fn what_is_missing_cut_off_or_no_pem_is_named_and_nothing_of_it_is_told() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let secret: String = key.lines().nth(1).unwrap().chars().take(20).collect();
        let half: String = key.lines().take(2).map(|line| format!("{line}\n")).collect();
        for (text, word) in [(half.as_str(), "cut off"), ("hello", "no such PEM section")] {
            let error = private_key(file(text, 0o600).path()).unwrap_err();
            assert!(error.to_string().contains(word) && !error.to_string().contains(&secret), "{error}");
        }
        let error = certificates(Path::new("/nowhere/cert.pem")).unwrap_err();
        assert!(
            error.to_string().contains("/nowhere/cert.pem") && error.hint.contains("pki issue"),
            "{error:?}"
        );
        assert!(
            certificates(file(&key, 0o600).path()).unwrap_err().to_string().contains("no PEM certificate")
        );
    }
}
