//! Who a peer is.

use std::fmt;

use crate::Role;

/// Who holds a certificate of the lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The lab's coordinator.
    Coordinator,
    /// The worker of this name; it speaks for no other.
    Worker(String),
    /// A person or a program.
    Client {
        /// Who.
        name: String,
        /// What they may do.
        role: Role,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coordinator"),
            Self::Worker(name) => write!(f, "worker {name}"),
            Self::Client { name, role } => write!(f, "{role} {name}"),
        }
    }
}
