//! Looking in.

use std::{collections::BTreeMap, time::Duration};

use edgeprof_common::{BoardHealth, BoardId, JobId, TaskId, Token, WorkerId};

use crate::{
    AttemptPhase, BoardRow, BoardView, HeldState, JobView, Now, Occupant, Scheduler, TaskView, WorkerView,
    boards::owns,
    placement::expected,
    queue::Spot,
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

    /// A prepared task's place in the queue, from 1: exact within its submitter, likely among submitters.
    #[must_use]
    pub fn position(&self, id: TaskId) -> Option<usize> {
        self.ahead(id).map(|ahead| ahead + 1)
    }

    fn ahead(&self, id: TaskId) -> Option<usize> {
        self.queue.ahead(id, self.estimates.usual().unwrap_or(1_000_000))
    }

    /// When a task is likely to have ended, from now; none where nothing is known. For a task that is late, zero.
    #[must_use]
    pub fn eta(&self, id: TaskId) -> Option<Duration> {
        let row = self.tasks.get(&id)?;
        if let Some(lease) = row.lease() {
            let attempt = self.attempts.get(lease.token)?;
            let starts = attempt.started_at.or_else(|| self.starts_at(attempt))?;
            return Some(starts.plus(Duration::from_micros(attempt.expected?)).since(self.now));
        }
        let (shape, spots) = self.queue.needs(id)?;
        let usual = self.estimates.usual()?;
        let serving = spots.iter().map(|spot| self.boards.serving_at(spot));
        let (boards, busy) = serving.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
        let run = |spot: &Spot| {
            let class = match spot {
                Spot::Class(class) => &self.boards.pool(*class)?.class,
                Spot::Board(board) => self.boards.class_of(board)?,
            };
            self.estimates.run(&shape.image.digest, &class.kind, row.work)
        };
        let own = spots.iter().filter_map(run).min().unwrap_or(usual);
        let before = usual.saturating_mul((self.ahead(id)? + busy) as u64).checked_div(boards as u64)?;
        Some(Duration::from_micros(before.saturating_add(own)))
    }

    /// The place in the order of submission that the next task gets.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// How many tasks wait: queued, prepared or not, and in backoff.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The last token issued for each board of a worker, for the handshake with it.
    #[must_use]
    pub fn issued(&self, worker: &WorkerId) -> BTreeMap<BoardId, Token> {
        let own = self.tokens.iter().filter(|(board, _)| owns(worker, board));
        own.map(|(board, token)| (board.clone(), *token)).collect()
    }

    /// The last token issued for each board, for the handshake with a worker whose name is not known.
    #[must_use]
    pub fn all_issued(&self) -> BTreeMap<BoardId, Token> {
        self.tokens.iter().map(|(board, token)| (board.clone(), *token)).collect()
    }

    /// What is kept of a board, whether its worker was heard in this life or not.
    #[must_use]
    pub fn kept(&self, board: &BoardId) -> Option<&BoardRow> {
        self.kept.get(board)
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
            draining: worker.drain.is_some() || self.drained.contains(id),
            attempts: self.attempts.count_on(id),
            boards: worker.boards.len(),
        })
    }

    /// Every board that is known, by worker and id.
    pub fn boards(&self) -> impl Iterator<Item = BoardView<'_>> {
        self.workers.iter().flat_map(|(id, worker)| worker.boards.values().map(|b| self.board(id, worker, b)))
    }

    fn board<'a>(&'a self, id: &'a WorkerId, worker: &'a Worker, board: &'a Board) -> BoardView<'a> {
        let key = &board.report.id;
        let ours = self.attempts.first_on(key).map(|attempt| Occupant {
            task: attempt.task,
            token: attempt.token,
            phase: attempt.phase,
        });
        let theirs = board.strangers.iter().next_back().map(|(token, holding)| Occupant {
            task: holding.task,
            token: *token,
            phase: match holding.state {
                HeldState::Staged => AttemptPhase::Staged,
                HeldState::Running | HeldState::Outbox => AttemptPhase::Running,
            },
        });
        let heard = matches!(worker.belief, Belief::Alive | Belief::Suspect);
        let set_aside = self.kept.get(key).is_some_and(|row| row.mark.is_some());
        let line = self.attempts.line(key);
        let busy_for = || Some(Duration::from_micros(expected(line?.free_at()?, self.now)));
        BoardView {
            report: &board.report,
            worker: id,
            health: if heard || set_aside { self.health_of(board) } else { BoardHealth::Unknown },
            occupant: ours.or(theirs),
            waiting: line.map_or(0, |line| line.len().saturating_sub(1)),
            busy_for: busy_for(),
            kept: self.kept.get(key),
        }
    }
}

fn heard(worker: &Worker) -> Option<Now> {
    (!matches!(worker.belief, Belief::Unheard { .. }) && worker.incarnation.is_some())
        .then(|| worker.detector.last())
}
