//! Rows as messages for clients. What is shown of a job that has ended is made here alone, so that it is the same
//! whether the loop still has the job or only the store.

use std::time::Duration;

use edgeprof_common::{ErrorClass, TaskError};
use edgeprof_proto::v1;
use edgeprof_scheduler::Standing;

use crate::store::rows::{EndedJob, TaskDef};

/// A job that has ended.
pub(crate) fn job(job: EndedJob, tasks: Vec<v1::Task>) -> v1::Job {
    v1::Job {
        job_id: job.id.to_string(),
        state: job.state.to_string(),
        submitted_at: job.submitted_at,
        priority: job.priority.to_string(),
        labels: job.labels.into_iter().collect(),
        tasks,
        tasks_total: clip(job.tasks),
        tasks_done: clip(job.tasks),
        tasks_failed: clip(job.failed),
        submitter: job.submitter,
        queue_position: None,
        eta_ms: None,
    }
}

/// A task, without what only the loop knows of one that goes on.
pub(crate) fn task(def: &TaskDef, standing: &Standing) -> v1::Task {
    let board = standing.lease().map(|lease| &lease.board).or(standing.past.last().map(|past| &past.board));
    v1::Task {
        task_id: def.id.to_string(),
        state: standing.state().to_string(),
        scenario: def.scenario.clone(),
        board_selector: def.selector.clone(),
        board: board.map(ToString::to_string),
        attempts: standing.attempt.0,
        queue_position: None,
        progress: None,
        error: standing.error.as_ref().map(error),
        eta_ms: None,
    }
}

/// A task's error.
fn error(error: &TaskError) -> v1::Error {
    let class = match error.class {
        ErrorClass::Infrastructure => "infrastructure",
        ErrorClass::Model => "model",
        ErrorClass::Request => "request",
    };
    v1::Error {
        class: class.into(),
        code: error.code.clone(),
        message: error.message.clone(),
        hint: error.hint.clone(),
    }
}

/// A span, as far as its field has room.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A count, as far as its field has room.
pub(crate) fn clip(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
