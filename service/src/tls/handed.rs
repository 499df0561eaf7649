//! Lists of what is revoked that are handed over, instead of being copied to a folder of the configuration.

use std::sync::{Arc, PoisonError};

use edgeprof_identity::{
    RevocationList,
    files::{self, FileError},
};
use tokio::sync::watch;

use super::{Keeper, Untrusted, keeper::stamps, loaded::Loaded};

/// What became of a list that was handed over, with the one that holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// It holds from now on.
    Taken(Arc<RevocationList>),
    /// The one at hand has its number.
    Known(Arc<RevocationList>),
    /// The one at hand is newer.
    Older(Arc<RevocationList>),
}

impl Handed {
    /// The list that holds now.
    pub fn holds(&self) -> &RevocationList {
        match self {
            Self::Taken(list) | Self::Known(list) | Self::Older(list) => list,
        }
    }
}

impl Keeper {
    /// What is revoked, if that is known; told anew when it changes.
    pub fn revoked(&self) -> watch::Receiver<Option<Arc<RevocationList>>> {
        self.revoked.subscribe()
    }

    /// Takes over a list of what is revoked, in its DER encoding, if it is newer than the one at hand, and keeps it.
    /// Writes to the disk.
    ///
    /// # Errors
    /// When it is none, is not of the lab's authority, revokes the own certificate, or cannot be kept.
    pub fn hand_over(&self, der: &[u8]) -> Result<Handed, Untrusted> {
        const HINT: &str = "take crl.pem from the folder of the lab's `edgeprof pki`";
        let list = RevocationList::read(der).map_err(|error| Untrusted::new(error.to_string(), HINT))?;
        let (list, number) = (Arc::new(list), |list: &RevocationList| list.number());
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.loaded.vouches(&list) {
            let what = format!("list {} of what is revoked is not of this lab's authority", list.number());
            return Err(Untrusted::new(what, HINT));
        }
        match files.loaded.revoked.clone() {
            Some(known) if number(&known) == number(&list) => {
                if known.revoked() == list.revoked() {
                    return Ok(Handed::Known(known));
                }
                // The authority's folder is an old copy, which does not know what was revoked since.
                return Err(Untrusted::new(
                    format!("another list of what is revoked has the number {} too", list.number()),
                    "publish from the folder in which `edgeprof pki revoke` was used last; or revoke one more there",
                ));
            }
            Some(known) if number(&known) > number(&list) => return Ok(Handed::Older(known)),
            _ => {}
        }
        let Some(path) = &self.paths.handed else {
            return Err(Untrusted::new(
                "this process keeps no list that is handed over",
                "copy it over crl.pem",
            ));
        };
        let authorities = files.loaded.authorities.clone();
        let loaded = Loaded::revoking(&self.paths, self.own, authorities, Some(list.clone()))?;
        loaded.check_own(self.own)?;
        files::write(path, list.der(), 0o644).map_err(|error| {
            FileError::new(path, error, "give its folder to the user of this process, and room")
        })?;
        files.stamps = stamps(&self.paths);
        self.renew(files, loaded);
        tracing::info!(
            number = list.number(),
            revoked = list.revoked().len(),
            "a newer list of what is revoked"
        );
        Ok(Handed::Taken(list))
    }
}
