//! The version of the session protocol between coordinator and worker, and what two of them agree on.

use std::fmt;

/// Peers of different majors do not understand each other. A minor adds what a peer of the one before can do without,
/// so that a lab is upgraded host by host: peers one minor apart speak the lower of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Rises when an old peer could misunderstand.
    pub major: u32,
    /// Rises with every addition.
    pub minor: u32,
}

/// What this build speaks. 1.1: greetings name the minor; those of 1.0 have none, which reads as 0.
pub const SESSION: Version = Version { major: 1, minor: 1 };

/// Two peers that cannot speak with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it speaks session protocol {peer}, this is {own}; the same major and at most one minor apart are understood: \
     upgrade edgeprof {}",
    if peer < own { "there" } else { "here" }
)]
pub struct Mismatch {
    /// This one.
    pub own: Version,
    /// The other.
    pub peer: Version,
}

impl Version {
    /// What this one and a peer speak with each other.
    ///
    /// # Errors
    /// When their majors differ or their minors are more than one apart.
    pub fn agree(self, peer: Self) -> Result<Self, Mismatch> {
        if self.major == peer.major && self.minor.abs_diff(peer.minor) <= 1 {
            return Ok(self.min(peer));
        }
        Err(Mismatch { own: self, peer })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_one_minor_apart_speak_the_lower_and_others_are_told_who_has_to_be_upgraded() {
        let version = |major, minor| Version { major, minor };
        let own = version(3, 4);
        for (peer, agreed) in [
            (version(3, 4), Ok(version(3, 4))),
            (version(3, 3), Ok(version(3, 3))),
            (version(3, 5), Ok(version(3, 4))),
            (version(3, 2), Err("upgrade edgeprof there")),
            (version(3, 6), Err("upgrade edgeprof here")),
            (version(2, 4), Err("upgrade edgeprof there")),
            (version(4, 0), Err("upgrade edgeprof here")),
            (version(0, 0), Err("speaks session protocol 0.0, this is 3.4")),
            (version(3, u32::MAX), Err("here")),
        ] {
            match (own.agree(peer), agreed) {
                (Ok(spoken), Ok(agreed)) => assert_eq!(spoken, agreed, "{peer}"),
                (Err(mismatch), Err(words)) => assert!(mismatch.to_string().contains(words), "{mismatch}"),
                (outcome, _) => panic!("{peer}: {outcome:?}"),
            }
            // Both sides come to the same end.
            assert_eq!(own.agree(peer).ok(), peer.agree(own).ok());
        }
    }
}
