//! A job as the sum of its tasks.

use std::collections::BTreeSet;

use edgeprof_common::{JobState, TaskId, TaskState};

use crate::{JobView, TaskRow};

#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    pub(crate) tasks: BTreeSet<TaskId>,
    ended: usize,
    failed: usize,
    cancelled: usize,
    /// Attempts of cancelled tasks that still occupy a board.
    pub(crate) lingering: usize,
}

impl Job {
    /// Counts a task in, as it is.
    pub(crate) fn add(&mut self, row: &TaskRow) {
        self.tasks.insert(row.id);
        self.ended(row.state());
    }

    /// Counts a task's end.
    pub(crate) fn ended(&mut self, state: TaskState) {
        self.ended += usize::from(state.is_terminal());
        self.failed += usize::from(matches!(state, TaskState::Failed | TaskState::Exhausted));
        self.cancelled += usize::from(state == TaskState::Cancelled);
    }

    pub(crate) fn view(&self) -> JobView {
        let state = if self.ended < self.tasks.len() {
            JobState::Open
        } else if self.cancelled > 0 && self.lingering > 0 {
            JobState::Cancelling
        } else if self.cancelled > 0 {
            JobState::Cancelled
        } else if self.failed > 0 {
            JobState::Failed
        } else {
            JobState::Succeeded
        };
        JobView { state, tasks: self.tasks.len(), ended: self.ended }
    }

    /// Whether it never changes again.
    pub(crate) fn over(&self) -> bool {
        !matches!(self.view().state, JobState::Open | JobState::Cancelling)
    }
}
