//! From what a client asks to tasks, or to a refusal that says what would work. Pure: files and boards
//! are looked at before.

mod fit;
mod plan;
mod selector;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use edgeprof_common::{BoardId, ErrorClass, TaskError};

pub use fit::{check as check_fit, check_prepared};
pub use plan::{Facts, kinds, plan};
pub use selector::{Target, resolve};

/// A board that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its id.
    pub id: BoardId,
    /// Its kind.
    pub kind: String,
    /// Its labels.
    pub labels: Arc<BTreeMap<String, String>>,
}

/// Why a submission is not taken at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It can never be done as written.
    #[error("{message}")]
    Invalid {
        /// What cannot be.
        message: String,
        /// The way out.
        hint: Option<String>,
    },
    /// There is no room for it now.
    #[error("{message}")]
    Busy {
        /// What is full.
        message: String,
    },
    /// It can be done once something is there.
    #[error("{message}")]
    Precondition {
        /// What is not there.
        message: String,
        /// The way out.
        hint: Option<String>,
    },
}

impl Refusal {
    /// One that no retry helps.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), hint: Some(hint.into()) }
    }

    /// One that something missing explains.
    pub fn precondition(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Precondition { message: message.into(), hint: Some(hint.into()) }
    }
}

impl From<TaskError> for Refusal {
    fn from(error: TaskError) -> Self {
        let TaskError { class, message, hint, .. } = error;
        match class {
            ErrorClass::Infrastructure => Self::Precondition { message, hint },
            ErrorClass::Model | ErrorClass::Request => Self::Invalid { message, hint },
        }
    }
}
