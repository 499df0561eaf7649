//! The fence: which coordinator may command this worker.
//!
//! A worker is claimed by the first cluster that greets it. Within that cluster the highest epoch
//! wins, and an epoch belongs to the one coordinator life whose nonce came with it first.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use edgeprof_common::{ClusterId, Epoch, Nonce, WorkerId};
use edgeprof_proto::{
    SESSION,
    session::{Mismatch, Version},
};
use edgeprof_service::status::{self, DOUBLED, FENCED, with_claim, with_reason};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};

use crate::disk;

/// Who commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The cluster that claimed the worker.
    pub cluster: ClusterId,
    /// Its highest epoch seen.
    pub epoch: Epoch,
    /// The life that the epoch belongs to.
    pub nonce: Nonce,
}

/// Why a coordinator is turned away.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It speaks another session protocol.
    #[error("this worker does not understand that coordinator: {0}")]
    Protocol(#[from] Mismatch),
    /// It belongs to another lab.
    #[error("this worker belongs to site {own:?}, not to {offered:?}")]
    Site {
        /// Here.
        own: String,
        /// There.
        offered: String,
    },
    /// It looks for another worker.
    #[error("this is worker {own}, not {offered}")]
    Worker {
        /// Here.
        own: WorkerId,
        /// Who was to be here.
        offered: String,
    },
    /// Another cluster has this worker.
    #[error("this worker was claimed by cluster {own} at epoch {epoch}, not by {offered}")]
    Cluster {
        /// The claimant.
        own: ClusterId,
        /// Its highest epoch.
        epoch: u64,
        /// Who came now.
        offered: ClusterId,
    },
    /// A newer life of the coordinator was here.
    #[error("epoch {offered} is fenced: this worker has seen epoch {seen} of cluster {cluster}")]
    Epoch {
        /// The cluster.
        cluster: ClusterId,
        /// The highest.
        seen: u64,
        /// Who came now.
        offered: u64,
    },
    /// Two coordinator lives claim one epoch.
    #[error("epoch {epoch} of cluster {cluster} belongs to another coordinator life ({seen}, not {offered})")]
    Nonce {
        /// The cluster.
        cluster: ClusterId,
        /// The epoch.
        epoch: u64,
        /// Who had it first.
        seen: Nonce,
        /// Who came now.
        offered: Nonce,
    },
}

impl Refusal {
    /// As the coordinator gets it, with the claim that holds: the coordinator knows its folder, and names the
    /// command by which it takes this worker over.
    pub fn status(&self, held: Option<&Claim>) -> Status {
        let status = match self {
            Self::Epoch { .. } => with_reason(Code::FailedPrecondition, self.to_string(), FENCED),
            Self::Nonce { .. } => with_reason(Code::FailedPrecondition, self.to_string(), DOUBLED),
            _ => Status::failed_precondition(self.to_string()),
        };
        match held {
            Some(held) => with_claim(status, status::Claim { cluster: held.cluster, epoch: held.epoch.0 }),
            None => status,
        }
    }
}

/// What a coordinator says of itself.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Its session protocol.
    pub protocol: Version,
    /// Its site.
    pub site: String,
    /// Its claim.
    pub claim: Claim,
}

/// The claim that holds after `greeting`.
///
/// # Errors
/// When the coordinator must be turned away.
pub fn admit(held: Option<&Claim>, site: &str, greeting: &Greeting) -> Result<Claim, Refusal> {
    let Greeting { protocol, site: offered_site, claim: offered } = greeting;
    SESSION.agree(*protocol)?;
    if offered_site != site {
        return Err(Refusal::Site { own: site.to_owned(), offered: offered_site.clone() });
    }
    let Some(held) = held else {
        return Ok(*offered);
    };
    if held.cluster != offered.cluster {
        return Err(Refusal::Cluster { own: held.cluster, epoch: held.epoch.0, offered: offered.cluster });
    }
    if offered.epoch < held.epoch {
        return Err(Refusal::Epoch { cluster: held.cluster, seen: held.epoch.0, offered: offered.epoch.0 });
    }
    if offered.epoch == held.epoch && offered.nonce != held.nonce {
        return Err(Refusal::Nonce {
            cluster: held.cluster,
            epoch: held.epoch.0,
            seen: held.nonce,
            offered: offered.nonce,
        });
    }
    Ok(*offered)
}

/// Why the kept claim cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// Not readable or not writable.
    #[error("cannot keep the fence in {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not ours. Starting without it would let an old coordinator in.
    #[error("the fence in {} is damaged: {source}; restore it, or remove it to let any cluster claim this worker", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The claim on disk.
#[derive(Debug)]
pub struct Fence {
    file: PathBuf,
    claim: Option<Claim>,
}

impl Fence {
    /// Reads the claim kept in `folder`, if there is one.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn open(folder: &Path) -> Result<Self, FenceError> {
        let file = folder.join("fence.json");
        let claim = match fs::read(&file) {
            Ok(bytes) => Some(
                serde_json::from_slice(&bytes)
                    .map_err(|source| FenceError::Damaged { path: file.clone(), source })?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(FenceError::Io { path: file, source }),
        };
        Ok(Self { file, claim })
    }

    /// The claim that holds.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// Takes a new claim. Durable once this returns.
    ///
    /// # Errors
    /// When it cannot be written: then it does not hold.
    pub fn keep(&mut self, claim: Claim) -> Result<(), FenceError> {
        if self.claim == Some(claim) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&claim).expect("a claim is JSON");
        disk::write_durably(&self.file, &bytes)
            .map_err(|source| FenceError::Io { path: self.file.clone(), source })?;
        self.claim = Some(claim);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(cluster: u64, epoch: u64, nonce: u64) -> Claim {
        Claim { cluster: ClusterId::from_raw(cluster), epoch: Epoch(epoch), nonce: Nonce::from_raw(nonce) }
    }

    #[test]
    fn the_highest_epoch_of_the_first_cluster_commands() {
        let held = claim(1, 5, 50);
        let newer = |by| Version { minor: SESSION.minor + by, ..SESSION };
        for (name, held, protocol, site, offered, refused) in [
            ("first claim", None, SESSION, "lab", claim(9, 1, 1), None),
            ("same life again", Some(held), SESSION, "lab", held, None),
            ("next epoch", Some(held), SESSION, "lab", claim(1, 6, 60), None),
            ("next epoch of the same nonce", Some(held), SESSION, "lab", claim(1, 6, 50), None),
            ("older epoch", Some(held), SESSION, "lab", claim(1, 4, 40), Some("epoch 4 is fenced")),
            ("older epoch, same nonce", Some(held), SESSION, "lab", claim(1, 4, 50), Some("epoch 5")),
            (
                "same epoch, other life",
                Some(held),
                SESSION,
                "lab",
                claim(1, 5, 51),
                Some("another coordinator life"),
            ),
            ("other cluster", Some(held), SESSION, "lab", claim(2, 9, 90), Some("claimed by cluster")),
            ("other site", Some(held), SESSION, "barn", claim(1, 6, 60), Some("site \"lab\"")),
            ("a minor later", Some(held), newer(1), "lab", claim(1, 6, 60), None),
            ("two minors later", Some(held), newer(2), "lab", claim(1, 6, 60), Some("upgrade edgeprof here")),
            (
                "other protocol",
                Some(held),
                Version { major: 2, minor: 0 },
                "lab",
                claim(1, 6, 60),
                Some("protocol 2"),
            ),
            (
                "other protocol, unclaimed",
                None,
                Version { major: 0, minor: 0 },
                "lab",
                claim(1, 6, 60),
                Some("protocol 0"),
            ),
        ] {
            let greeting = Greeting { protocol, site: site.to_owned(), claim: offered };
            match (admit(held.as_ref(), "lab", &greeting), refused) {
                (Ok(now), None) => assert_eq!(now, offered, "{name}"),
                (Err(refusal), Some(word)) => {
                    assert!(refusal.to_string().contains(word), "{name}: {refusal}")
                }
                (outcome, _) => panic!("{name}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_says_whom_the_worker_obeys_and_what_kind_of_refusal_it_is() {
        let held = claim(1, 9, 90);
        for (offered, kind) in
            [(claim(2, 1, 1), None), (claim(1, 3, 30), Some(FENCED)), (claim(1, 9, 91), Some(DOUBLED))]
        {
            let greeting = Greeting { protocol: SESSION, site: "lab".into(), claim: offered };
            let status = admit(Some(&held), "lab", &greeting).unwrap_err().status(Some(&held));
            let named = status::claim(&status).unwrap();
            assert_eq!((named.cluster, named.epoch), (held.cluster, 9));
            assert_eq!(status::reason(&status), kind);
        }
    }

    #[test]
    fn the_claim_survives_and_damage_is_not_taken_for_absence() {
        let folder = tempfile::tempdir().unwrap();
        let mut fence = Fence::open(folder.path()).unwrap();
        assert_eq!(fence.claim(), None);
        fence.keep(claim(1, 2, 3)).unwrap();
        assert_eq!(Fence::open(folder.path()).unwrap().claim(), Some(&claim(1, 2, 3)));
        fs::write(folder.path().join("fence.json"), "{").unwrap();
        assert!(Fence::open(folder.path()).unwrap_err().to_string().contains("damaged"));
    }
}
