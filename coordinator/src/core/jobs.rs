//! Jobs: submitted, shown, watched.

use std::{cell::Cell, sync::Arc, time::Duration};

use edgeprof_common::{Digest, JobId, JobState, TaskId, TaskState};
use edgeprof_proto::v1;
use edgeprof_scheduler::{Event, NewTask};
use edgeprof_service::telemetry::trace;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{Busy, COALESCE, Core, Dirty, Failed, Job, Known, Outlook, PULSE, commit::Out};
use crate::{
    ended,
    shown::{self, clip, millis},
    store::rows::{self, EndedJob, JobRow, Prepared, TaskDef, key},
};

/// A job with more tasks than this is shown to watchers now and then, not at every change.
const SMALL: usize = 64;

/// Tasks of a job that are told to the scheduler at once.
const CHUNK: usize = 1024;

/// A look at a task to tell when its job ends is paid with so much time until the next: it stays a hundredth.
const LOOK: Duration = Duration::from_micros(300);

/// Places in the queue that are counted for one job.
const POSITIONS: usize = 16;

/// A job, and who waits for an answer.
pub(super) type Submitted = (JobId, oneshot::Sender<Result<v1::Job, Busy>>);

impl Core {
    pub(super) fn submit(
        &mut self,
        mut row: JobRow,
        tasks: Vec<Arc<TaskDef>>,
        ready: Vec<(Digest, Prepared)>,
        forgotten: u64,
        reply: oneshot::Sender<Result<v1::Job, Busy>>,
    ) {
        // The same key may have come twice at once.
        if let Some(key) = row.idempotency_key.clone() {
            let known = match self.known(&key) {
                Some(known) => Some(known),
                None if forgotten == self.ended.forgotten() => None,
                None => match ended::of_key(&*self.parts.store, &key) {
                    Ok(known) => known,
                    Err(error) => return self.failed = Some(Failed::Store(Arc::new(error))),
                },
            };
            if let Some((job, first)) = known {
                let same = first.spec == row.spec;
                return self.reply(reply, if same { Ok(job) } else { Err(Busy::Other(first.id)) });
            }
        }
        if let Err(full) = self.scheduler.admits(tasks.len()) {
            return self.reply(reply, Err(full.into()));
        }
        if let Err(over) = self.within_quota(&row.submitter, tasks.len()) {
            return self.reply(reply, Err(over.into()));
        }
        let id = row.id;
        if let Some(key) = &row.idempotency_key {
            self.keys.insert(key.clone(), id);
            self.transaction.put(key::key(key), rows::encode(&id));
        }
        for (of, prepared) in ready {
            self.remember(of, Arc::new(prepared));
        }
        row.first_seq = self.scheduler.next_seq();
        self.transaction.put(key::job(id), rows::encode(&row));
        self.transaction.put(key::open(id), rows::encode(&true));
        for def in &tasks {
            let row = def.clone();
            self.transaction.put_later(key::def(def.id), move || rows::encode(&*row));
            self.defs.insert(def.id, def.clone());
            self.open(def);
        }
        self.order.insert(row.first_seq, id);
        let job = Job {
            row,
            last_event: 0,
            failed: 0,
            watchers: None,
            dirty: Dirty::No,
            told: Instant::now(),
            outlook: Cell::default(),
        };
        self.jobs.insert(id, job);
        self.changed(id);
        // Not all of a large job at once in yet another form.
        for some in tasks.chunks(CHUNK) {
            let Some(job) = self.jobs.get(&id) else { break };
            let new = some.iter().map(|def| new_task(def, &job.row)).collect();
            self.step(Event::Submitted { tasks: new });
        }
        for def in &tasks {
            if let Some(error) = &def.refusal {
                self.step(Event::PrepareFailed { task: def.id, error: error.clone() });
            }
        }
        self.prepare(tasks.into_iter().filter(|def| def.refusal.is_none()));
        self.submitted.push((id, reply));
    }

    /// Answers who submitted jobs with the commands at hand.
    pub(super) fn tell_submitters(&mut self) {
        for (id, reply) in std::mem::take(&mut self.submitted) {
            let Some(row) = self.jobs.get(&id).map(|job| &job.row) else { continue };
            let trace = row.trace.as_deref().and_then(trace::from_text);
            tracing::info!(job = %id, tasks = row.tasks.len(),
                trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())), "submitted");
            if let Some(job) = self.view(id, true) {
                self.reply(reply, Ok(job));
            }
        }
    }

    /// A job as clients see it.
    pub(super) fn view(&self, id: JobId, with_tasks: bool) -> Option<v1::Job> {
        let job = self.jobs.get(&id)?;
        let state = self.scheduler.job(id)?;
        let tasks = if with_tasks {
            let mut counted = 0;
            job.row.tasks.iter().filter_map(|task| self.task_view(*task, &mut counted)).collect()
        } else {
            Vec::new()
        };
        let now = Instant::now();
        let outlook = (state.state == JobState::Open).then(|| self.outlook(job, now));
        let so_far = EndedJob::of(&job.row, state.state, job.failed, job.last_event);
        Some(v1::Job {
            tasks_done: clip(state.ended),
            queue_position: outlook.and_then(|outlook| outlook.position),
            eta_ms: outlook.and_then(|outlook| outlook.ends).map(|ends| millis(ends.duration_since(now))),
            ..shown::job(so_far, tasks)
        })
    }

    /// The job that a client's key made, and what was asked for it.
    pub(super) fn known(&self, key: &str) -> Option<Known> {
        let id = *self.keys.get(key)?;
        Some((self.view(id, true)?, self.jobs.get(&id)?.row.clone()))
    }

    /// Tasks ahead of the first of a job that waits for a board.
    fn position(&self, job: &Job) -> Option<u32> {
        let mut tasks = job.row.tasks.iter();
        let place = tasks.find_map(|task| self.scheduler.position(*task))?;
        Some(clip(place.saturating_sub(1)))
    }

    /// What is to be expected of a job. All tasks of a large one are looked at now and then, however often it is shown.
    fn outlook(&self, job: &Job, now: Instant) -> Outlook {
        if let Some(outlook) = job.outlook.get()
            && job.row.tasks.len() > SMALL
            && now.duration_since(outlook.at) < PULSE.max(LOOK * clip(job.row.tasks.len()))
        {
            return outlook;
        }
        let ends = self.time_left(job).and_then(|left| now.checked_add(left));
        let outlook = Outlook { at: now, position: self.position(job), ends };
        job.outlook.set(Some(outlook));
        outlook
    }

    /// Until the last task of a job is likely to have ended: one that runs, or the last of those that wait.
    fn time_left(&self, job: &Job) -> Option<Duration> {
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
        Some(longest)
    }

    fn task_view(&self, id: TaskId, counted: &mut usize) -> Option<v1::Task> {
        let (def, row) = (self.defs.get(&id)?, self.scheduler.task(id)?.row);
        let state = row.state();
        let (mut queue_position, mut eta_ms) = (None, None);
        if state == TaskState::Queued && *counted < POSITIONS {
            *counted += 1;
            queue_position = self.scheduler.position(id).map(|place| clip(place.saturating_sub(1)));
            eta_ms = self.scheduler.eta(id).map(millis);
        } else if state == TaskState::Leased {
            eta_ms = self.scheduler.eta(id).map(millis);
        }
        let unprepared = state == TaskState::Queued && row.standing.image.is_none();
        let preparing = unprepared.then(|| v1::Progress { phase: "prepare".into(), done: 0, total: 0 });
        let progress = self.open.get(&id).and_then(|open| open.progress.clone()).or(preparing);
        Some(v1::Task { queue_position, progress, eta_ms, ..shown::task(def, &row.standing) })
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
