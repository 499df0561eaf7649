//! The task machine: every way from one state to the next, each a function.

use edgeprof_common::{AttemptNo, BoardId, ErrorClass, JobId, TaskError, TaskId, Token};

use crate::{
    AttemptPhase, CANARY, Closed, Effects, Image, LeaseRef, NewTask, Notice, Past, Phase, Scheduler,
    Standing, Step, TaskRow, Verdict, Write, alarms::Alarm, attempt::Attempt,
};

/// Closed attempts of a task that are kept; those that are charged are fewer.
const PAST: usize = 32;

/// What the loss of an attempt costs its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// Nothing: it is the coordinator's or the lab's doing.
    Nothing,
    /// One of its attempts.
    Attempt,
    /// The same, and a proven death of a process that ran nothing else.
    Death,
    /// The same, where it ran something else too.
    SharedDeath,
}

impl Scheduler {
    pub(crate) fn submit(&mut self, fx: &mut Effects, tasks: Vec<NewTask>) {
        for new in tasks {
            if new.id == CANARY || self.tasks.contains_key(&new.id) {
                continue;
            }
            let id = new.id;
            let row = TaskRow::fresh(new, self.next_seq);
            self.next_seq += 1;
            self.jobs.entry(row.job).or_default().add(&row);
            self.tasks.insert(id, Box::new(row));
            self.story(fx, id, None, Step::Submitted, None);
            self.enter(fx, id, Phase::Queued, None);
        }
    }

    pub(crate) fn ready(&mut self, fx: &mut Effects, tasks: &[TaskId], image: &Image) {
        for &id in tasks {
            let Some(row) = self.tasks.get_mut(&id) else { continue };
            if row.standing.image.is_some() || row.standing.phase != Phase::Queued {
                continue;
            }
            row.standing.image = Some(image.clone());
            // It may outrank the task that a worker is kept for.
            self.alone_news |= row.standing.alone() || self.kept_for_alone.is_some();
            self.queue.insert(row, &self.boards, self.now);
            self.touched.insert(id);
            self.story(fx, id, None, Step::Prepared, None);
        }
        self.watch_ages();
    }

    pub(crate) fn prepare_failed(&mut self, fx: &mut Effects, id: TaskId, error: TaskError) {
        let waits = self
            .tasks
            .get(&id)
            .is_some_and(|row| row.standing.image.is_none() && row.standing.phase == Phase::Queued);
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

    fn cancel(&mut self, fx: &mut Effects, id: TaskId) {
        let Some(row) = self.tasks.get(&id) else { return };
        if row.state().is_terminal() {
            return;
        }
        let by =
            row.lease().map(|lease| LeaseRef { token: lease.token, task: id, board: lease.board.clone() });
        let by = by.map(|lease| (row.standing.attempt, lease));
        self.finish(fx, id, Verdict::Cancelled, by);
    }

    /// Drops an ended job from memory, unless an attempt of it is still to be heard of.
    pub(crate) fn forget(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.over()) else { return };
        if job.tasks.iter().any(|task| self.occupies(*task)) {
            return;
        }
        for task in self.jobs.remove(&id).into_iter().flat_map(|job| job.tasks) {
            self.tasks.swap_remove(&task);
        }
    }

    /// Whether an attempt of a task that has ended is open: the last that it had.
    fn occupies(&self, id: TaskId) -> bool {
        let past = self.tasks.get(&id).and_then(|row| row.standing.past.last());
        let open = past.and_then(|past| self.attempts.get(past.token));
        open.is_some_and(|attempt| attempt.task == id)
    }

    /// Nothing runs under the attempt, and that is nobody's fault: the task waits as before.
    pub(crate) fn reject(&mut self, fx: &mut Effects, attempt: &Attempt, step: Step, why: &str) {
        self.settle(fx, attempt);
        let of = Some((attempt.number, &attempt.board));
        self.story(fx, attempt.task, of, step, Some(why.to_owned()).filter(|why| !why.is_empty()));
        self.enter(fx, attempt.task, Phase::Queued, Some(attempt.board.clone()));
    }

    /// The attempt is given up; a result of it may still come.
    pub(crate) fn lose(&mut self, fx: &mut Effects, attempt: &Attempt, charge: Charge, error: TaskError) {
        self.settle(fx, attempt);
        let (max_attempts, max_deaths) = (self.config.max_attempts, self.config.max_deaths);
        let Some(row) = self.tasks.get_mut(&attempt.task) else { return };
        let standing = &mut row.standing;
        keep_past(standing, attempt, Closed::Lost);
        standing.spent += u32::from(charge != Charge::Nothing);
        standing.deaths += u32::from(charge == Charge::Death);
        standing.shared_deaths += u32::from(charge == Charge::SharedDeath);
        standing.front = true;
        standing.error = Some(error.clone());
        let (spent, deaths) = (standing.spent, standing.deaths + standing.shared_deaths);
        let exhausted = standing.guilt() >= 2 * max_deaths;
        let of = Some((attempt.number, &attempt.board));
        self.story(fx, attempt.task, of, Step::Lost, Some(error.message.clone()));
        let by = Some((attempt.number, attempt.lease()));
        if exhausted {
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
        let standing = &mut row.standing;
        keep_past(standing, attempt, Closed::Failed);
        standing.spent += 1;
        standing.failures += 1;
        standing.error = Some(error.clone());
        let retry = error.class.retryable()
            && standing.failures < self.config.max_failures
            && standing.spent < self.config.max_attempts;
        let failures = standing.failures;
        let of = Some((attempt.number, &attempt.board));
        self.story(fx, attempt.task, of, Step::Failed, Some(error.message.clone()));
        if retry {
            let doubled = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
            let wait = self.config.backoff.saturating_mul(doubled).min(self.config.backoff_max);
            self.story(fx, attempt.task, None, Step::Backoff, Some(format!("{} s", wait.as_secs_f64())));
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
        let (job, standing) = (row.job, &mut row.standing);
        let (closed, phase) = match &verdict {
            Verdict::Succeeded => (Closed::Superseded, Phase::Succeeded),
            Verdict::Failed(_) => (Closed::Superseded, Phase::Failed),
            Verdict::Cancelled => (Closed::Cancelled, Phase::Cancelled),
            Verdict::Exhausted(_) => (Closed::Superseded, Phase::Exhausted),
        };
        // No board is looked for any more.
        standing.image = None;
        match &verdict {
            Verdict::Failed(error) | Verdict::Exhausted(error) => standing.error = Some(error.clone()),
            Verdict::Succeeded => standing.error = None,
            Verdict::Cancelled => {}
        }
        let open =
            standing.lease().map(|lease| lease.token).and_then(|token| self.attempts.get(token)).cloned();
        if let Some(attempt) = &open {
            keep_past(standing, attempt, closed);
        }
        let (attempt, lease) = by.map_or((AttemptNo(0), None), |(attempt, lease)| (attempt, Some(lease)));
        let board = lease.as_ref().map(|lease| lease.board.clone());
        let (step, why) = match &verdict {
            Verdict::Succeeded => (Step::Succeeded, None),
            Verdict::Cancelled => (Step::Cancelled, None),
            Verdict::Failed(error) | Verdict::Exhausted(error) => (Step::Ended, Some(error.message.clone())),
        };
        self.story(fx, id, board.as_ref().map(|board| (attempt, board)), step, why);
        fx.writes.push(Write::RecordRun { task: id, job, attempt, lease, verdict });
        if let Some(job) = self.jobs.get_mut(&job) {
            job.ended(phase.state());
        }
        self.queue.forget(id);
        self.moved.remove(&id);
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
        if let Some(attempt) = self.attempts.get_mut(attempt.token) {
            attempt.closed = Some(closed);
        }
        self.stop(fx, attempt.token);
    }

    /// The attempt occupies its board no longer: the next in line is in work.
    pub(crate) fn settle(&mut self, fx: &mut Effects, attempt: &Attempt) {
        self.alarms.set(Alarm::Attempt(attempt.token), None);
        let board_time = self.board_time(attempt);
        let Some(mut gone) = self.attempts.remove(attempt.token, self.now) else { return };
        if let Some(shape) = gone.waits_as {
            self.queue.unstage(shape, gone.token);
        }
        if let Some(charged) = gone.charged.take() {
            let unknown = if gone.phase == AttemptPhase::Running { charged.cost() } else { 0 };
            self.queue.correct(charged, board_time.unwrap_or(unknown));
        }
        if gone.started_at.is_some() {
            let now = self.now;
            if let Some(board) = self.board_mut(&gone.worker, &gone.board) {
                board.ended_at = Some(now);
            }
        }
        self.called_for(gone.token);
        if let Some(next) = self.attempts.first_on(&gone.board).map(|next| next.token) {
            self.promote(next);
        }
        if gone.alone {
            self.refresh(&gone.worker);
        } else {
            self.refresh_board(&gone.worker, &gone.board);
        }
        if attempt.closed != Some(Closed::Cancelled) {
            return;
        }
        let Some(id) = self.tasks.get(&attempt.task).map(|row| row.job) else { return };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.lingering -= 1;
        }
        self.announce(fx, id);
    }

    /// The attempt waits behind none any more.
    fn promote(&mut self, token: Token) {
        let shape = self.attempts.get_mut(token).and_then(|attempt| attempt.waits_as.take());
        if let Some(shape) = shape {
            self.queue.unstage(shape, token);
        }
        self.time_in_work(token);
    }

    fn announce(&self, fx: &mut Effects, id: JobId) {
        if let Some(job) = self.jobs.get(&id).filter(|job| job.over()) {
            fx.notices.push(Notice::Job { job: id, state: job.view().state });
        }
    }

    /// Takes a task out of whatever it waits in. Its row must be as it was when it began to wait.
    pub(crate) fn leave(&mut self, id: TaskId) {
        let Some(row) = self.tasks.get(&id) else { return };
        match row.standing.phase {
            Phase::Queued => {
                self.waiting -= 1;
                // It may have kept a worker from others.
                self.alone_news |= row.standing.alone();
                self.queue.remove(id);
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
        row.standing.phase = phase;
        match row.standing.phase {
            Phase::Queued => {
                self.waiting += 1;
                self.alone_news |= row.standing.alone() || self.kept_for_alone.is_some();
                self.queue.insert(row, &self.boards, self.now);
            }
            Phase::Backoff { wait } => {
                self.waiting += 1;
                self.alarms.set(Alarm::Task(id), Some(self.now.plus(wait)));
            }
            _ => {}
        }
        self.touched.insert(id);
        let queued = row.standing.phase == Phase::Queued;
        fx.notices.push(Notice::Task {
            task: id,
            job: row.job,
            state: row.state(),
            attempt: row.standing.attempt,
            board,
            error: row.standing.error.clone(),
        });
        if queued {
            self.watch_ages();
        }
    }

    /// A line of a task's story. A canary has none.
    pub(crate) fn story(
        &self,
        fx: &mut Effects,
        task: TaskId,
        of: Option<(AttemptNo, &BoardId)>,
        what: Step,
        why: Option<String>,
    ) {
        let Some(job) = self.tasks.get(&task).map(|row| row.job) else { return };
        let (attempt, board) =
            of.map_or((AttemptNo(0), None), |(attempt, board)| (attempt, Some(board.clone())));
        fx.notices.push(Notice::Story { task, job, attempt, board, what, why });
    }
}

/// An error of the lab, not of the task.
pub(crate) fn lab_error(code: &str, message: impl Into<String>) -> TaskError {
    TaskError::new(ErrorClass::Infrastructure, code, message)
}

/// Keeps a closed attempt, so that a late result is known; of very many the oldest are forgotten.
fn keep_past(standing: &mut Standing, attempt: &Attempt, closed: Closed) {
    if standing.past.len() >= PAST {
        standing.past.remove(0);
    }
    standing.past.push(Past {
        attempt: attempt.number,
        token: attempt.token,
        board: attempt.board.clone(),
        closed,
    });
}
