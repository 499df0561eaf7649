//! The task machine: every way from one state to the next, each a function.

use edgeprof_common::{AttemptNo, BoardId, ErrorClass, JobId, TaskError, TaskId};

use crate::{
    Closed, Effects, Image, LeaseRef, NewTask, Notice, Now, Order, Past, Phase, Scheduler, TaskRow, Verdict,
    Write, alarms::Alarm, attempt::Attempt,
};

/// What the loss of an attempt costs its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// Nothing: it is the coordinator's or the lab's doing.
    Nothing,
    /// One of its attempts.
    Attempt,
    /// The same, and a proven death of a process that had started it.
    Death,
}

impl Scheduler {
    pub(crate) fn submit(&mut self, fx: &mut Effects, tasks: Vec<NewTask>) {
        for new in tasks {
            if self.tasks.contains_key(&new.id) {
                continue;
            }
            let id = new.id;
            let row = TaskRow {
                id,
                job: new.job,
                priority: new.priority,
                seq: self.next_seq,
                front: false,
                requirement: new.requirement,
                image: new.image,
                submitter: new.submitter,
                work: new.work,
                cleared: std::collections::BTreeSet::new(),
                phase: Phase::Queued,
                attempt: AttemptNo(0),
                failures: 0,
                spent: 0,
                deaths: 0,
                past: Vec::new(),
                error: None,
            };
            self.next_seq += 1;
            self.jobs.entry(row.job).or_default().add(&row);
            self.tasks.insert(id, row);
            self.enter(fx, id, Phase::Queued, None);
        }
    }

    pub(crate) fn ready(&mut self, id: TaskId, image: Image) {
        let Some(row) = self.tasks.get_mut(&id) else { return };
        if row.image.is_some() || row.phase != Phase::Queued {
            return;
        }
        row.image = Some(image);
        self.touched.insert(id);
        self.dirty |= self.queue.insert(row);
    }

    pub(crate) fn prepare_failed(&mut self, fx: &mut Effects, id: TaskId, error: TaskError) {
        let waits = self.tasks.get(&id).is_some_and(|row| row.image.is_none() && row.phase == Phase::Queued);
        if waits {
            self.finish(fx, id, Verdict::Failed(error), None);
        }
    }

    pub(crate) fn backoff_over(&mut self, fx: &mut Effects, id: TaskId) {
        self.leave(id);
        self.enter(fx, id, Phase::Queued, None);
    }

    pub(crate) fn cancel_job(&mut self, fx: &mut Effects, job: JobId) {
        let tasks = self.jobs.get(&job).map(|job| job.tasks.clone()).unwrap_or_default();
        for task in tasks {
            self.cancel(fx, task);
        }
    }

    pub(crate) fn cancel(&mut self, fx: &mut Effects, id: TaskId) {
        let Some(row) = self.tasks.get(&id) else { return };
        if row.state().is_terminal() {
            return;
        }
        let by =
            row.lease().map(|lease| LeaseRef { token: lease.token, task: id, board: lease.board.clone() });
        let by = by.map(|lease| (row.attempt, lease));
        self.finish(fx, id, Verdict::Cancelled, by);
    }

    /// Drops an ended job from memory.
    pub(crate) fn forget(&mut self, id: JobId) {
        if self.jobs.get(&id).is_some_and(crate::job::Job::over) {
            for task in self.jobs.remove(&id).into_iter().flat_map(|job| job.tasks) {
                self.tasks.remove(&task);
            }
        }
    }

    /// The attempt never began: the task waits as before.
    pub(crate) fn reject(&mut self, fx: &mut Effects, attempt: &Attempt) {
        self.settle(fx, attempt);
        self.enter(fx, attempt.task, Phase::Queued, Some(attempt.board.clone()));
    }

    /// The attempt is given up; a result of it may still come.
    pub(crate) fn lose(&mut self, fx: &mut Effects, attempt: &Attempt, charge: Charge, error: TaskError) {
        self.settle(fx, attempt);
        let (max_attempts, max_deaths) = (self.config.max_attempts, self.config.max_deaths);
        let Some(row) = self.tasks.get_mut(&attempt.task) else { return };
        row.past.push(past(attempt, Closed::Lost));
        row.spent += u32::from(charge != Charge::Nothing);
        row.deaths += u32::from(charge == Charge::Death);
        row.front = true;
        row.error = Some(error.clone());
        let (spent, deaths) = (row.spent, row.deaths);
        let by = Some((attempt.number, attempt.lease()));
        if deaths >= max_deaths {
            let what =
                format!("{deaths} worker processes died while they ran it; the last: {}", error.message);
            let error = lab_error("workers_died", what)
                .with_hint("look at the workers' logs before it is submitted again");
            self.finish(fx, attempt.task, Verdict::Exhausted(error), by);
        } else if spent >= max_attempts {
            self.finish(fx, attempt.task, Verdict::Failed(error), by);
        } else {
            self.enter(fx, attempt.task, Phase::Queued, Some(attempt.board.clone()));
        }
    }

    /// The attempt reported an error.
    pub(crate) fn fail(&mut self, fx: &mut Effects, attempt: &Attempt, error: TaskError) {
        self.settle(fx, attempt);
        let Some(row) = self.tasks.get_mut(&attempt.task) else { return };
        row.past.push(past(attempt, Closed::Failed));
        row.spent += 1;
        row.failures += 1;
        row.error = Some(error.clone());
        let retry = error.class.retryable()
            && row.failures < self.config.max_failures
            && row.spent < self.config.max_attempts;
        if retry {
            let doubled = 1_u32.checked_shl(row.failures - 1).unwrap_or(u32::MAX);
            let wait = self.config.backoff.saturating_mul(doubled).min(self.config.backoff_max);
            self.enter(fx, attempt.task, Phase::Backoff { wait }, Some(attempt.board.clone()));
        } else {
            let by = Some((attempt.number, attempt.lease()));
            self.finish(fx, attempt.task, Verdict::Failed(error), by);
        }
    }

    /// The task ends, once and for all.
    pub(crate) fn finish(
        &mut self,
        fx: &mut Effects,
        id: TaskId,
        verdict: Verdict,
        by: Option<(AttemptNo, LeaseRef)>,
    ) {
        self.leave(id);
        let Some(row) = self.tasks.get_mut(&id) else { return };
        let (closed, phase) = match &verdict {
            Verdict::Succeeded => (Closed::Superseded, Phase::Succeeded),
            Verdict::Failed(_) => (Closed::Superseded, Phase::Failed),
            Verdict::Cancelled => (Closed::Cancelled, Phase::Cancelled),
            Verdict::Exhausted(_) => (Closed::Superseded, Phase::Exhausted),
        };
        match &verdict {
            Verdict::Failed(error) | Verdict::Exhausted(error) => row.error = Some(error.clone()),
            Verdict::Succeeded => row.error = None,
            Verdict::Cancelled => {}
        }
        let open = row.lease().map(|lease| lease.token).and_then(|token| self.attempts.get(token)).cloned();
        if let Some(attempt) = &open {
            row.past.push(past(attempt, closed));
        }
        let job = row.job;
        let (attempt, lease) = by.map_or((AttemptNo(0), None), |(attempt, lease)| (attempt, Some(lease)));
        let board = lease.as_ref().map(|lease| lease.board.clone());
        fx.writes.push(Write::RecordRun { task: id, job, attempt, lease, verdict });
        if let Some(job) = self.jobs.get_mut(&job) {
            job.ended(phase.state());
        }
        self.enter(fx, id, phase, board);
        if let Some(attempt) = open {
            self.linger(fx, &attempt, closed);
        }
        self.announce(fx, job);
    }

    /// The task has moved on: tell the attempt, and keep its board until the worker shows that it ended.
    fn linger(&mut self, fx: &mut Effects, attempt: &Attempt, closed: Closed) {
        let job = self.tasks.get(&attempt.task).map(|row| row.job);
        if let Some(job) = job.and_then(|job| self.jobs.get_mut(&job)).filter(|_| closed == Closed::Cancelled)
        {
            job.lingering += 1;
        }
        let answer_by = self.now.plus(self.config.cancel_answer);
        if let Some(attempt) = self.attempts.get_mut(attempt.token) {
            attempt.closed = Some(closed);
            attempt.answer_by = Some(answer_by);
        }
        self.alarms.set(Alarm::Attempt(attempt.token), Some(answer_by));
        self.order(fx, &attempt.worker, Order::Cancel { lease: attempt.lease() });
    }

    /// The attempt occupies its board no longer.
    pub(crate) fn settle(&mut self, fx: &mut Effects, attempt: &Attempt) {
        self.alarms.set(Alarm::Attempt(attempt.token), None);
        self.attempts.remove(attempt.token);
        self.dirty = true;
        self.refresh(&attempt.worker);
        if attempt.closed != Some(Closed::Cancelled) {
            return;
        }
        let Some(id) = self.tasks.get(&attempt.task).map(|row| row.job) else { return };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.lingering -= 1;
        }
        self.announce(fx, id);
    }

    fn announce(&self, fx: &mut Effects, id: JobId) {
        if let Some(job) = self.jobs.get(&id).filter(|job| job.over()) {
            fx.notices.push(Notice::Job { job: id, state: job.view().state });
        }
    }

    /// Takes a task out of whatever it waits in. Its row must be as it was when it began to wait.
    pub(crate) fn leave(&mut self, id: TaskId) {
        let Some(row) = self.tasks.get(&id) else { return };
        match row.phase {
            Phase::Queued => {
                self.waiting -= 1;
                self.queue.remove(row);
                // It may have kept a worker from others.
                self.dirty |= row.deaths > 0;
            }
            Phase::Backoff { .. } => {
                self.waiting -= 1;
                self.alarms.set(Alarm::Task(id), None);
            }
            _ => {}
        }
    }

    /// Puts a task that waits in nothing into a state.
    pub(crate) fn enter(&mut self, fx: &mut Effects, id: TaskId, phase: Phase, board: Option<BoardId>) {
        let Some(row) = self.tasks.get_mut(&id) else { return };
        row.phase = phase;
        match row.phase {
            Phase::Queued => {
                self.waiting += 1;
                self.dirty |= self.queue.insert(row);
            }
            Phase::Backoff { wait } => {
                self.waiting += 1;
                self.alarms.set(Alarm::Task(id), Some(self.now.plus(wait)));
            }
            _ => {}
        }
        self.touched.insert(id);
        fx.notices.push(Notice::Task {
            task: id,
            job: row.job,
            state: row.state(),
            attempt: row.attempt,
            board,
            error: row.error.clone(),
        });
    }
}

/// An error of the lab, not of the task.
pub(crate) fn lab_error(code: &str, message: impl Into<String>) -> TaskError {
    TaskError::new(ErrorClass::Infrastructure, code, message)
}

/// When an attempt that is accepted now has taken too long.
pub(crate) fn deadline(now: Now, config: &crate::Config, _row: &TaskRow) -> Now {
    now.plus(config.deadline_min)
}

fn past(attempt: &Attempt, closed: Closed) -> Past {
    Past { attempt: attempt.number, token: attempt.token, board: attempt.board.clone(), closed }
}
