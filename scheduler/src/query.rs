//! Looking in.

use std::collections::BTreeMap;

use edgeprof_common::{BoardHealth, BoardId, JobId, TaskId, Token, WorkerId};

use crate::{
    AttemptPhase, BoardView, HeldState, JobView, Now, Occupant, Phase, Scheduler, TaskView, WorkerView,
    queue::Rank,
    worker::{Belief, Board, Worker},
};

impl Scheduler {
    /// A task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<TaskView<'_>> {
        let row = self.tasks.get(&id)?;
        let attempt = row.lease().and_then(|lease| self.attempts.get(lease.token));
        Some(TaskView { row, attempt: attempt.map(|attempt| attempt.phase) })
    }

    /// The tasks of a job, by id.
    pub fn tasks_of(&self, job: JobId) -> impl Iterator<Item = TaskView<'_>> {
        let tasks = self.jobs.get(&job).into_iter().flat_map(|job| &job.tasks);
        tasks.filter_map(|id| self.task(*id))
    }

    /// A job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<JobView> {
        self.jobs.get(&id).map(crate::job::Job::view)
    }

    /// Every job, by id.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, JobView)> {
        self.jobs.iter().map(|(id, job)| (*id, job.view()))
    }

    /// A prepared task's place in the queue, from 1. Counts the queue: not for every row of a long table.
    #[must_use]
    pub fn position(&self, id: TaskId) -> Option<usize> {
        let row = self.tasks.get(&id)?;
        (row.phase == Phase::Queued && row.image.is_some()).then(|| self.queue.ahead(Rank::of(row)) + 1)
    }

    /// How many tasks wait: queued, prepared or not, and in backoff.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The last token issued for each board of a worker, for the handshake with it.
    #[must_use]
    pub fn issued(&self, worker: &WorkerId) -> BTreeMap<BoardId, Token> {
        let owned = |board: &BoardId| {
            let rest = board.as_str().strip_prefix(worker.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        self.tokens
            .iter()
            .filter(|(board, _)| owned(board))
            .map(|(board, token)| (board.clone(), *token))
            .collect()
    }

    /// Every worker that is known, by id.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView<'_>> {
        self.workers.iter().map(|(id, worker)| WorkerView {
            id,
            health: worker.health(),
            incarnation: worker.incarnation,
            session: worker.session,
            silent_for: heard(worker).map(|heard| self.now.since(heard)),
            contested: worker.contested_until.is_some(),
            draining: false,
            attempts: self.attempts.on_worker(id).count(),
            boards: worker.boards.len(),
        })
    }

    /// Every board that is known, by worker and id.
    pub fn boards(&self) -> impl Iterator<Item = BoardView<'_>> {
        self.workers.iter().flat_map(|(id, worker)| worker.boards.values().map(|b| self.board(id, worker, b)))
    }

    fn board<'a>(&'a self, id: &'a WorkerId, worker: &'a Worker, board: &'a Board) -> BoardView<'a> {
        let key = &board.report.id;
        let ours = self.attempts.on_board(key).map(|attempt| Occupant {
            task: attempt.task,
            token: attempt.token,
            phase: attempt.phase,
        });
        let theirs = board.held.iter().next_back().map(|(token, holding)| Occupant {
            task: holding.task,
            token: *token,
            phase: match holding.state {
                HeldState::Staged => AttemptPhase::Staged,
                HeldState::Running | HeldState::Outbox => AttemptPhase::Running,
            },
        });
        let heard = matches!(worker.belief, Belief::Alive | Belief::Suspect);
        BoardView {
            report: &board.report,
            worker: id,
            health: if heard { board.health() } else { BoardHealth::Unknown },
            occupant: ours.or(theirs),
            free: self.free.get(id).is_some_and(|free| free.contains(key)),
            waiting: 0,
            busy_for: None,
            kept: None,
        }
    }
}

fn heard(worker: &Worker) -> Option<Now> {
    (!matches!(worker.belief, Belief::Unheard { .. }) && worker.incarnation.is_some())
        .then(|| worker.detector.last())
}
