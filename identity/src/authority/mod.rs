//! The lab's certificate authority: a folder.
//!
//! `ca.pem`, `ca.key` (0600), `index.toml` with all that was issued, `crl.pem` with what of it is revoked, and
//! `issued/worker-host-1/` and so on, each as it is copied to its host: `cert.pem`, `key.pem`, `ca.pem`, `crl.pem`.
//! A certificate is in the index before it is anywhere else, so that there is none that cannot be revoked.

mod disk;
mod error;
mod index;
#[cfg(test)]
mod tests;

use std::{
    fmt, fs,
    fs::{File, OpenOptions},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use edgeprof_common::Identity;
use nix::fcntl::{Flock, FlockArg};
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, SerialNumber};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use error::PkiError;
pub use index::{Issued, Reason, Standing};

use crate::{
    Certificate, Serial,
    files::{self, FileError},
    names, profile,
};

/// A certificate that is wanted.
#[derive(Clone, Debug)]
pub struct Order {
    /// For whom.
    pub identity: Identity,
    /// For how long, where the usual time is not right.
    pub lifetime: Option<Duration>,
    /// Even if there is a good one.
    pub again: bool,
    /// A folder that it is written to as well.
    pub out: Option<PathBuf>,
}

/// An authority, for as long as it is locked.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    until: OffsetDateTime,
    issued: Vec<Issued>,
    _lock: Flock<File>,
}

impl fmt::Debug for Authority {
    /// Without its key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes one for the lab of this name.
    ///
    /// # Errors
    /// When there is one already, or the folder cannot be written.
    pub fn init(folder: &Path, lab: &str, now: OffsetDateTime) -> Result<Self, PkiError> {
        names::check(lab)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(PkiError::io(folder))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(PkiError::io(folder))?;
        let lock = lock(folder)?;
        if ["ca.pem", "ca.key", "index.toml"].iter().any(|name| folder.join(name).exists()) {
            return Err(PkiError::Exists(folder.to_owned()));
        }
        let key = KeyPair::generate()?;
        let params = profile::authority(lab, &Serial::random()?, now);
        let pem = params.self_signed(&key)?.pem();
        let secret = folder.join("ca.key");
        disk::write(&secret, key.serialize_pem().as_bytes(), 0o600).map_err(PkiError::io(&secret))?;
        let until = params.not_after;
        let authority = Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
            pem,
            until,
            issued: Vec::new(),
            _lock: lock,
        };
        index::write(&authority.file("index.toml"), &[])?;
        authority.write_revocations(now)?;
        let path = authority.file("ca.pem");
        disk::write(&path, authority.pem.as_bytes(), 0o644).map_err(PkiError::io(&path))?;
        Ok(authority)
    }

    /// Opens the one that is there. While another process has it, this waits.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open(folder: &Path) -> Result<Self, PkiError> {
        let path = folder.join("ca.pem");
        if !path.exists() {
            return Err(PkiError::Absent(folder.to_owned()));
        }
        let lock = lock(folder)?;
        let pem = fs::read_to_string(&path).map_err(PkiError::io(&path))?;
        let secret = folder.join("ca.key");
        let restore = "restore it from a backup of the folder";
        if !secret.exists() {
            let lost = "restore it from a backup of the folder: without it nothing can be issued or revoked";
            return Err(FileError::new(&secret, "the authority's key is not there", lost).into());
        }
        files::private_key(&secret)?;
        let key = fs::read_to_string(&secret).map_err(PkiError::io(&secret))?;
        let key = KeyPair::from_pem(&key).map_err(|_| FileError::new(&secret, "it is no key", restore))?;
        let certificates = files::certificates(&path)?;
        let damaged = || FileError::new(&path, "it is no certificate of an authority", restore);
        let der = certificates.first().ok_or_else(damaged)?;
        let until = Certificate::read(der).map_err(|_| damaged())?.not_after;
        if !belongs(&key, der) {
            return Err(FileError::new(&secret, "it is not the key of ca.pem beside it", restore).into());
        }
        let issuer = Issuer::from_ca_cert_der(der, key).map_err(|_| damaged())?;
        let issued = index::read(&folder.join("index.toml"))?;
        Ok(Self { folder: folder.to_owned(), issuer, pem, until, issued, _lock: lock })
    }

    /// Its own certificate, which everybody of the lab trusts.
    pub fn certificate(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The list of what is revoked.
    pub fn revocations(&self) -> PathBuf {
        self.file("crl.pem")
    }

    /// The folder of an identity's last certificate, as it is copied to its host.
    pub fn folder_of(&self, identity: &Identity) -> PathBuf {
        self.file("issued").join(names::path(identity).replacen('/', "-", 1))
    }

    /// All that was issued, the oldest first.
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// When the identity has a good one, its name cannot be in a certificate, or files cannot be written.
    pub fn issue(&mut self, order: &Order, now: OffsetDateTime) -> Result<Issued, PkiError> {
        let identity = &order.identity;
        match identity {
            Identity::Coordinator => {}
            Identity::Worker(name) | Identity::Client { name, .. } => names::check(name)?,
        }
        let name = names::path(identity);
        let alive = self.of(&name).find(|one| one.standing(now) == Standing::Good);
        if let Some(alive) = alive.filter(|_| !order.again) {
            let (serial, until) = (alive.serial.to_string(), alive.until);
            return Err(PkiError::Alive { name, serial, until });
        }
        self.make(order, now)
    }

    /// Issues a certificate for the holder of an earlier one, with a key of its own. The earlier one stays good
    /// until it expires, so that there is time to bring the new one to its host.
    ///
    /// # Errors
    /// When there is no such holder, its last certificate was revoked, or files cannot be written.
    pub fn renew(
        &mut self,
        name: &str,
        lifetime: Option<Duration>,
        out: Option<PathBuf>,
        now: OffsetDateTime,
    ) -> Result<Issued, PkiError> {
        let name = self.resolve(name)?;
        let Some(last) = self.of(&name).last() else { return Err(PkiError::Unknown(name)) };
        if last.revoked.is_some() {
            return Err(PkiError::Revoked(Box::new(last.identity.clone())));
        }
        let identity = last.identity.clone();
        self.make(&Order { identity, lifetime, again: true, out }, now)
    }

    /// Revokes the certificate of this serial, or all of this holder that are in force.
    ///
    /// # Errors
    /// When there is none, or files cannot be written.
    pub fn revoke(
        &mut self,
        which: &str,
        reason: Reason,
        now: OffsetDateTime,
    ) -> Result<Vec<Issued>, PkiError> {
        let serial =
            Serial::parse(which).filter(|serial| self.issued.iter().any(|one| one.serial == *serial));
        let name = if serial.is_some() { which.to_owned() } else { self.resolve(which)? };
        let meant = |one: &Issued| match &serial {
            Some(serial) => one.serial == *serial,
            None => names::path(&one.identity) == name,
        };
        let mut revoked = Vec::new();
        for one in &mut self.issued {
            if meant(one) && one.standing(now) == Standing::Good {
                one.revoked = Some((now, reason));
                revoked.push(one.clone());
            }
        }
        if revoked.is_empty() {
            return Err(PkiError::Over(name));
        }
        index::write(&self.file("index.toml"), &self.issued)?;
        self.write_revocations(now)?;
        Ok(revoked)
    }

    fn make(&mut self, order: &Order, now: OffsetDateTime) -> Result<Issued, PkiError> {
        let identity = &order.identity;
        if now >= self.until {
            return Err(PkiError::Expired { path: self.folder.clone(), at: self.until });
        }
        let lifetime = order.lifetime.unwrap_or_else(|| profile::lifetime(identity));
        if !lifetime.is_positive() {
            return Err(PkiError::NoTime);
        }
        let until = now.checked_add(lifetime).map_or(self.until, |until| until.min(self.until));
        let (key, serial) = (KeyPair::generate()?, Serial::random()?);
        let params = profile::leaf(identity, &serial, now - profile::SKEW, until)?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        let issued =
            Issued { identity: identity.clone(), serial, from: now - profile::SKEW, until, revoked: None };
        self.issued.push(issued.clone());
        index::write(&self.file("index.toml"), &self.issued)?;
        let list = self.file("crl.pem");
        let list = fs::read(&list).map_err(PkiError::io(&list))?;
        let key = key.serialize_pem();
        let entries: [disk::Entry<'_>; 4] = [
            ("cert.pem", cert.as_bytes(), 0o644),
            ("key.pem", key.as_bytes(), 0o600),
            ("ca.pem", self.pem.as_bytes(), 0o644),
            ("crl.pem", &list, 0o644),
        ];
        for folder in [Some(self.folder_of(identity)), order.out.clone()].into_iter().flatten() {
            disk::replace(&folder, &entries)?;
        }
        Ok(issued)
    }

    /// The holder that is meant by `host-1`, `worker/host-1` or `coordinator`.
    fn resolve(&self, given: &str) -> Result<String, PkiError> {
        let mut of: Vec<String> = self.issued.iter().map(|one| names::path(&one.identity)).collect();
        of.sort();
        of.dedup();
        of.retain(|path| path == given || path.split_once('/').is_some_and(|(_, name)| name == given));
        match of.as_slice() {
            [] => Err(PkiError::Unknown(given.to_owned())),
            [one] => Ok(one.clone()),
            _ => Err(PkiError::Ambiguous { name: given.to_owned(), of }),
        }
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Issued> {
        self.issued.iter().filter(move |one| names::path(&one.identity) == name)
    }

    /// The list, and a copy in every folder that goes to a host.
    fn write_revocations(&self, now: OffsetDateTime) -> Result<(), PkiError> {
        let all: Vec<_> = self.issued.iter().filter_map(Issued::revocation).collect();
        let list = CertificateRevocationListParams {
            this_update: now,
            // The lab has no place where a newer one is fetched from: it is copied when there is one.
            next_update: self.until.max(now + Duration::days(1)),
            crl_number: SerialNumber::from(all.len() as u64 + 1),
            issuing_distribution_point: None,
            revoked_certs: all,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = list.signed_by(&self.issuer)?.pem()?;
        let path = self.file("crl.pem");
        disk::write(&path, pem.as_bytes(), 0o644).map_err(PkiError::io(&path))?;
        for folder in fs::read_dir(self.file("issued")).into_iter().flatten().flatten() {
            let copy = folder.path().join("crl.pem");
            if copy.exists() {
                disk::write(&copy, pem.as_bytes(), 0o644).map_err(PkiError::io(&copy))?;
            }
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn lock(folder: &Path) -> Result<Flock<File>, PkiError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(PkiError::io(&path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| PkiError::io(&path)(errno.into()))
}

fn belongs(key: &KeyPair, der: &[u8]) -> bool {
    X509Certificate::from_der(der)
        .is_ok_and(|(_, parsed)| parsed.public_key().subject_public_key.data == key.public_key_raw())
}
