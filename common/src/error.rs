//! Errors of an attempt: what they are blamed on decides whether a retry can help.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an error is blamed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Link, board, emulator or host: another board may succeed.
    Infrastructure,
    /// The model or its workload: it would fail the same way elsewhere.
    Model,
    /// The request itself: it names something that is not there or cannot be.
    Request,
}

impl ErrorClass {
    /// Whether running the same task again elsewhere can help.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Infrastructure)
    }
}

/// Why an attempt or a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
#[serde(deny_unknown_fields)]
pub struct TaskError {
    /// What it is blamed on.
    pub class: ErrorClass,
    /// Stable word for programs, such as `board_hung`.
    pub code: String,
    /// What happened, for a person; lower case, no full stop.
    pub message: String,
    /// The way out, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl TaskError {
    /// An error without a hint.
    pub fn new(class: ErrorClass, code: &str, message: impl Into<String>) -> Self {
        Self { class, code: code.to_owned(), message: message.into(), hint: None }
    }

    /// The same with the way out.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
