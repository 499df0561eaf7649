//! What a task needs of a board.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edgeprof_common::{BoardId, Digest};
use serde::{Deserialize, Serialize};

/// A condition on a board that does not depend on the model's size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// Is one of these boards.
    Boards(BTreeSet<BoardId>),
    /// Is of one of these kinds.
    Kinds(BTreeSet<String>),
    /// Has a label with this value.
    Label {
        /// The label's name.
        key: String,
        /// Its value.
        value: String,
    },
}

impl Term {
    /// Whether a board meets it; without an id, whether one could that is so named.
    pub(crate) fn meets(&self, id: Option<&BoardId>, kind: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Boards(boards) => id.is_none_or(|id| boards.contains(id)),
            Self::Kinds(kinds) => kinds.contains(kind),
            Self::Label { key, value } => labels.get(key) == Some(value),
        }
    }
}

/// Conditions that must all hold; none means any board. Tasks that ask for the same share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requirement(Arc<[Term]>);

impl Requirement {
    /// All of these.
    #[must_use]
    pub fn all(terms: impl IntoIterator<Item = Term>) -> Self {
        Self(terms.into_iter().collect())
    }

    /// The same, and this too.
    #[must_use]
    pub fn and(&self, term: Term) -> Self {
        Self::all(self.terms().iter().cloned().chain([term]))
    }

    /// The conditions.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.0
    }

    /// Exactly this board.
    #[must_use]
    pub fn board(id: BoardId) -> Self {
        Self::all([Term::Boards(BTreeSet::from([id]))])
    }

    /// Any board of this kind.
    #[must_use]
    pub fn kind(kind: impl Into<String>) -> Self {
        Self::all([Term::Kinds(BTreeSet::from([kind.into()]))])
    }

    /// Any board with this label.
    #[must_use]
    pub fn label(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::all([Term::Label { key: key.into(), value: value.into() }])
    }

    /// Whether a board meets every condition.
    #[must_use]
    pub fn meets(&self, id: &BoardId, kind: &str, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| term.meets(Some(id), kind, labels))
    }
}

/// A task's board image, once it is prepared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Image {
    /// The artifact; a board that has it loaded is preferred.
    pub digest: Digest,
    /// Size of the image, which must fit the board's model region.
    pub model_bytes: u64,
    /// Arena that the engine needs, which must fit the board's arena region.
    pub arena_bytes: u64,
}
