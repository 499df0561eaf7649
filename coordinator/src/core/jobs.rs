//! Jobs: submitted, shown, watched.

use std::{sync::Arc, time::Duration};

use edgeprof_common::{Digest, JobId, JobState, TaskId, TaskState};
use edgeprof_proto::v1;
use edgeprof_scheduler::{Event, NewTask};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{Busy, COALESCE, Core, Dirty, Job, commit::Out};
use crate::store::rows::{self, JobRow, Prepared, TaskDef, key};

/// A job with more tasks than this is shown to watchers now and then, not at every change.
const SMALL: usize = 64;

/// Places in the queue that are counted for one job.
const POSITIONS: usize = 16;

impl Core {
    pub(super) fn submit(
        &mut self,
        mut row: JobRow,
        tasks: Vec<TaskDef>,
        ready: Vec<(Digest, Prepared)>,
        reply: oneshot::Sender<Result<v1::Job, Busy>>,
    ) {
        // The same key may have come twice at once.
        if let Some(id) = row.idempotency_key.as_ref().and_then(|key| self.keys.get(key)).copied()
            && let Some(job) = self.view(id, true)
        {
            return self.reply(reply, Ok(job));
        }
        if let Err(full) = self.scheduler.admits(tasks.len()) {
            return self.reply(reply, Err(full.into()));
        }
        let id = row.id;
        if let Some(key) = &row.idempotency_key {
            self.keys.insert(key.clone(), id);
        }
        for (of, prepared) in ready {
            self.remember(of, Arc::new(prepared));
        }
        row.first_seq = self.scheduler.next_seq();
        self.transaction.put(key::job(id), rows::encode(&row));
        let new = tasks.iter().map(|def| new_task(def, &row)).collect();
        for def in tasks {
            self.transaction.put(key::def(def.id), rows::encode(&def));
            let def = Arc::new(def);
            self.defs.insert(def.id, def.clone());
            self.open(&def);
        }
        self.order.push(id);
        let ids = row.tasks.clone();
        let job =
            Job { row, last_event: 0, failed: 0, watchers: None, dirty: Dirty::No, told: Instant::now() };
        self.jobs.insert(id, job);
        self.changed(id);
        self.step(Event::Submitted { tasks: new });
        let defs: Vec<_> = ids.iter().filter_map(|task| self.defs.get(task).cloned()).collect();
        for def in &defs {
            if let Some(error) = &def.refusal {
                self.step(Event::PrepareFailed { task: def.id, error: error.clone() });
            }
        }
        self.prepare(defs.into_iter().filter(|def| def.refusal.is_none()));
        tracing::info!(job = %id, tasks = ids.len(), "submitted");
        if let Some(job) = self.view(id, true) {
            self.reply(reply, Ok(job));
        }
    }

    /// A job as clients see it.
    pub(super) fn view(&self, id: JobId, with_tasks: bool) -> Option<v1::Job> {
        let job = self.jobs.get(&id)?;
        let state = self.scheduler.job(id)?;
        let open = state.state == JobState::Open;
        let tasks = if with_tasks {
            let mut counted = 0;
            job.row.tasks.iter().filter_map(|task| self.task_view(*task, &mut counted)).collect()
        } else {
            Vec::new()
        };
        Some(v1::Job {
            job_id: id.to_string(),
            state: state.state.to_string(),
            submitted_at: job.row.submitted_at.clone(),
            priority: job.row.spec.priority.to_string(),
            labels: job.row.spec.labels.clone().into_iter().collect(),
            tasks,
            tasks_total: clip(state.tasks),
            tasks_done: clip(state.ended),
            tasks_failed: clip(job.failed),
            submitter: job.row.submitter.clone(),
            queue_position: self.position(job).filter(|_| open),
            eta_ms: self.eta(job).filter(|_| open),
        })
    }

    /// Tasks ahead of the first of a job that waits for a board.
    fn position(&self, job: &Job) -> Option<u32> {
        let mut tasks = job.row.tasks.iter();
        let place = tasks.find_map(|task| self.scheduler.position(*task))?;
        Some(clip(place.saturating_sub(1)))
    }

    /// When the last task of a job is likely to end: one that runs, or the last of those that wait.
    fn eta(&self, job: &Job) -> Option<u64> {
        let mut waits = None;
        let mut longest = Duration::ZERO;
        for id in &job.row.tasks {
            match self.scheduler.task(*id)?.row.state() {
                TaskState::Leased => longest = longest.max(self.scheduler.eta(*id)?),
                TaskState::Queued | TaskState::Backoff => waits = Some(*id),
                _ => {}
            }
        }
        if let Some(last) = waits {
            longest = longest.max(self.scheduler.eta(last)?);
        }
        Some(millis(longest))
    }

    fn task_view(&self, id: TaskId, counted: &mut usize) -> Option<v1::Task> {
        let (def, row) = (self.defs.get(&id)?, self.scheduler.task(id)?.row);
        let state = row.state();
        let board = row.lease().map(|lease| &lease.board).or(row.past.last().map(|past| &past.board));
        let (mut queue_position, mut eta_ms) = (None, None);
        if state == TaskState::Queued && *counted < POSITIONS {
            *counted += 1;
            queue_position = self.scheduler.position(id).map(|place| clip(place.saturating_sub(1)));
            eta_ms = self.scheduler.eta(id).map(millis);
        } else if state == TaskState::Leased {
            eta_ms = self.scheduler.eta(id).map(millis);
        }
        let unprepared = state == TaskState::Queued && row.image.is_none();
        let preparing = unprepared.then(|| v1::Progress { phase: "prepare".into(), done: 0, total: 0 });
        Some(v1::Task {
            task_id: id.to_string(),
            state: state.to_string(),
            scenario: def.scenario.clone(),
            board_selector: def.selector.clone(),
            board: board.map(ToString::to_string),
            attempts: row.attempt.0,
            queue_position,
            progress: self.open.get(&id).and_then(|open| open.progress.clone()).or(preparing),
            error: row.error.as_ref().map(error),
            eta_ms,
        })
    }

    pub(super) fn watch(&mut self, id: JobId) -> Option<watch::Receiver<Arc<v1::JobUpdate>>> {
        let known = self.jobs.get(&id)?.watchers.as_ref().map(watch::Sender::subscribe);
        if known.is_some() {
            return known;
        }
        let update = self.update(id)?;
        let (sender, receiver) = watch::channel(Arc::new(update));
        self.jobs.get_mut(&id)?.watchers = Some(sender);
        Some(receiver)
    }

    fn update(&self, id: JobId) -> Option<v1::JobUpdate> {
        let sequence = self.jobs.get(&id)?.last_event;
        Some(v1::JobUpdate { sequence, job: self.view(id, true) })
    }

    /// Remembers that watchers have something to learn.
    pub(super) fn mark(&mut self, id: JobId, how: Dirty) {
        if let Some(job) = self.jobs.get_mut(&id)
            && job.watchers.is_some()
        {
            job.dirty = job.dirty.max(how);
            self.dirty.insert(id);
        }
    }

    /// Tells watchers what changed: at once where that is cheap, else now and then.
    pub(super) fn tell_watchers(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let now = Instant::now();
        let due = |job: &Job| {
            let at_once = job.dirty == Dirty::Change && job.row.tasks.len() <= SMALL;
            at_once || job.dirty == Dirty::End || now.duration_since(job.told) >= pause(job.row.tasks.len())
        };
        let ready = self.dirty.iter().filter(|id| self.jobs.get(id).is_some_and(due));
        let ready: Vec<_> = ready.copied().collect();
        for id in ready {
            self.dirty.remove(&id);
            let update = self.update(id);
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            (job.dirty, job.told) = (Dirty::No, now);
            if job.watchers.as_ref().is_some_and(|watchers| watchers.receiver_count() == 0) {
                job.watchers = None;
            }
            if let (Some(watchers), Some(update)) = (job.watchers.clone(), update) {
                self.outs.push(Out::Tell(Box::new(move || drop(watchers.send_replace(Arc::new(update))))));
            }
        }
    }
}

/// A task's error as a message.
pub(super) fn error(error: &edgeprof_common::TaskError) -> v1::Error {
    use edgeprof_common::ErrorClass;
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

/// Between two pictures of a job with so many tasks: a twentieth of what it costs to make, send and read one.
pub(super) fn pause(tasks: usize) -> Duration {
    COALESCE.max(Duration::from_micros(100) * u32::try_from(tasks).unwrap_or(u32::MAX))
}

/// A task as the scheduler takes it.
pub(super) fn new_task(def: &TaskDef, job: &JobRow) -> NewTask {
    NewTask {
        id: def.id,
        job: def.job,
        priority: job.spec.priority,
        requirement: def.requirement.clone(),
        image: None,
        submitter: job.submitter.clone(),
        work: def.work(),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn clip(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
