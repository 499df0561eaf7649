//! Tasks that have not ended: what is known of them beyond the scheduler's row, and their stories.

use std::{sync::Arc, time::Duration};

use edgeprof_common::{AttemptNo, BoardId, TaskId};
use edgeprof_proto::v1;
use edgeprof_scheduler::Step;
use tokio::time::Instant;

use super::{Core, measure::Clocks};
use crate::{
    artifacts::Hold,
    clock,
    store::rows::{self, Prepared, StoryLine, TaskToStore, key},
};

/// Lines of one task's story that are kept: a task may be rejected and recalled any number of times.
const LINES: usize = 256;

/// Longest reason that a story keeps, in bytes.
const WHY: usize = 1000;

/// A line that no other write took along is stored after this.
const TELL: Duration = Duration::from_secs(1);

/// A task that has not ended.
#[derive(Debug)]
pub(super) struct Open {
    /// Artifacts that it needs.
    pub(super) hold: Hold,
    pub(super) prepared: Option<Arc<Prepared>>,
    pub(super) progress: Option<v1::Progress>,
    /// When its attempt started, in ms since 1970.
    pub(super) started_at: Option<u64>,
    /// Its attempt is of an earlier life, which may have seen it start and not have told.
    pub(super) inherited: bool,
    pub(super) clocks: Clocks,
    /// Without its submission, which its job knows.
    pub(super) story: Vec<StoryLine>,
}

/// A task's story, as far as it is not stored.
#[derive(Debug)]
pub struct Told {
    /// The task.
    pub task: TaskId,
    /// The cell's name within its job.
    pub scenario: String,
    /// When its job was submitted, RFC 3339.
    pub submitted_at: String,
    /// What happened then; absent where the task has ended, and the store has it.
    pub story: Option<Vec<StoryLine>>,
}

impl Core {
    /// Notes what happened to a task.
    pub(super) fn tell(
        &mut self,
        task: TaskId,
        attempt: AttemptNo,
        board: Option<BoardId>,
        what: Step,
        why: Option<String>,
    ) {
        let Some(open) = self.open.get_mut(&task) else { return };
        if what == Step::Submitted {
            return;
        }
        let known = |line: &StoryLine| line.what == what && line.attempt == attempt.0 && line.board == board;
        // A new life hears again what attempts of an earlier one are at.
        if matches!(what, Step::Accepted | Step::Started) && open.story.iter().any(known) {
            return;
        }
        if open.story.len() >= LINES {
            open.story.remove(0);
        }
        let why = why.map(|mut why| {
            let end = why.char_indices().map(|(at, _)| at).take_while(|at| *at <= WHY).last();
            if why.len() > WHY {
                why.truncate(end.unwrap_or_default());
            }
            why
        });
        open.story.push(StoryLine { at: clock::now_ms(), what, attempt: attempt.0, board, why });
        // That a task is prepared is no reason to write a row of it.
        if what != Step::Prepared {
            self.untold.entry(task).or_insert_with(Instant::now);
        }
    }

    /// Stores lines that wait for long.
    pub(super) fn tell_stories(&mut self) {
        let now = Instant::now();
        self.touch_untold(|since| now.duration_since(since) >= TELL);
    }

    /// The next transaction has the lines of these that wait since then.
    pub(super) fn touch_untold(&mut self, due: impl Fn(Instant) -> bool) {
        for (task, since) in &self.untold {
            if due(*since) {
                self.touched.entry(*task).or_default();
            }
        }
    }

    /// Puts the rows of changed tasks into the transaction. A task that has ended is closed with that.
    pub(super) fn put_tasks(&mut self) {
        for (id, row) in std::mem::take(&mut self.touched) {
            self.untold.remove(&id);
            let now = || self.scheduler.task(id).map(|task| Box::new(task.row.clone()));
            let (Some(row), Some(open)) = (row.or_else(now), self.open.get(&id)) else { continue };
            let started_at = open.started_at;
            let story = if row.state().is_terminal() {
                self.tell_spans(id, &open.story);
                self.open.remove(&id).map(|open| open.story).unwrap_or_default()
            } else {
                open.story.clone()
            };
            let standing = row.standing;
            self.transaction.put_later(key::task(id), move || {
                rows::encode(&TaskToStore { standing: &standing, started_at, story: &story })
            });
        }
    }

    pub(super) fn told(&self, task: TaskId) -> Option<Told> {
        let def = self.defs.get(&task)?;
        let submitted_at = self.jobs.get(&def.job)?.row.submitted_at.clone();
        let story = self.open.get(&task).map(|open| open.story.clone());
        Some(Told { task, scenario: def.scenario.clone(), submitted_at, story })
    }
}
