//! Which tasks are being made ready, by which child.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use edgeprof_boards::catalogue;
use edgeprof_common::{Digest, ErrorClass, Quant, TaskError, TaskId};
use edgeprof_scheduler::{Event, Image};
use tokio::{sync::mpsc, time::Instant};

use super::{Command, Core, measure::Clocks, tasks::Open};
use crate::{
    artifacts::{Artifacts, Hold},
    preparing::{Outcome, Ready, Request, Workload},
    store::rows::{self, ImageRow, Prepared, TaskDef, key},
    submit::{self, Present},
};

/// Children at once.
const CHILDREN: usize = 2;

/// Workloads of one child, so that the first tasks of a large job do not wait for its last.
const WORKLOADS: usize = 32;

/// Prepared workloads that are kept in memory beside those of open tasks.
const WORKLOADS_KEPT: usize = 1024;

/// Workloads of one model in one quantization.
#[derive(Debug)]
struct Group {
    model: Digest,
    tokenizer: Option<Digest>,
    quant: Quant,
    /// Each with the tasks that want it.
    workloads: Vec<(Workload, Vec<TaskId>)>,
    /// Its image, until its tasks have it.
    hold: Option<Hold>,
}

impl Group {
    /// What its image is known by: with it a vocabulary is kept, which another tokenizer file changes.
    fn key(&self) -> (Digest, Quant) {
        let source = match &self.tokenizer {
            None => self.model,
            Some(tokenizer) => Digest::of_parts([&self.model.as_bytes()[..], tokenizer.as_bytes()]),
        };
        (source, self.quant)
    }
}

/// What prepared workloads are known by, over all jobs: the image follows from it. Of tasks that have the same in
/// a row it is computed once.
#[derive(Debug, Default)]
pub(crate) struct Keys(Option<(Source, Workload, Digest)>);

/// Model, tokenizer file, and quantization.
type Source = (Digest, Option<Digest>, Quant);

impl Keys {
    /// The key of a task's workload.
    pub(crate) fn of(&mut self, def: &TaskDef) -> Digest {
        let model = &def.cell.model;
        let source = (model.digest, model.tokenizer, def.cell.quant);
        let workload = Workload::of(&def.cell);
        match &self.0 {
            Some((s, w, key)) if *s == source && *w == workload => *key,
            _ => {
                let tokenizer = model.tokenizer.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default();
                let (quant, text) = (def.cell.quant.to_string(), rows::encode(&workload));
                let parts = [&model.digest.as_bytes()[..], &tokenizer, quant.as_bytes(), &text];
                self.0.insert((source, workload, Digest::of_parts(parts))).2
            }
        }
    }
}

/// What waits and what is under way.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Group>,
    running: HashMap<u64, Group>,
    next: u64,
}

/// A prepared task that has no board yet.
#[derive(Debug)]
pub(super) struct Awaiting {
    task: TaskId,
    image: Image,
    until: Instant,
}

/// Prepared tasks on their way to the scheduler, by image.
#[derive(Debug, Default)]
pub(super) struct Placing(Vec<(Image, Vec<TaskId>)>);

impl Placing {
    fn add(&mut self, task: TaskId, image: Image) {
        match self.0.last_mut().filter(|(last, _)| *last == image) {
            Some((_, tasks)) => tasks.push(task),
            None => self.0.push((image, vec![task])),
        }
    }
}

impl Core {
    /// Places tasks whose workload was prepared before, and queues the others to be made ready.
    pub(super) fn prepare(&mut self, tasks: impl Iterator<Item = Arc<TaskDef>>) {
        let mut unknown = Vec::new();
        let (mut keys, mut looked_up, mut placing) = (Keys::default(), HashMap::new(), Placing::default());
        for def in tasks {
            let of = keys.of(&def);
            let prepared = looked_up.entry(of).or_insert_with(|| {
                let prepared = self.workloads.get(&of).cloned();
                prepared.filter(|prepared| self.is_built(&prepared.image))
            });
            match prepared.clone() {
                Some(prepared) => self.ready(&def, prepared, &mut placing),
                None => unknown.push(def),
            }
        }
        self.place(placing);
        self.queue_preparing(unknown);
        self.start_preparing();
    }

    pub(super) fn queue_preparing(&mut self, tasks: impl IntoIterator<Item = Arc<TaskDef>>) {
        let mut groups: Vec<Group> = Vec::new();
        for def in tasks {
            let (model, workload) = (&def.cell.model, Workload::of(&def.cell));
            let same = groups.iter_mut().filter(|group| {
                (group.model, group.tokenizer, group.quant) == (model.digest, model.tokenizer, def.cell.quant)
            });
            let mut same: Vec<_> = same.collect();
            let known = same.iter_mut().flat_map(|group| &mut group.workloads).find(|(w, _)| *w == workload);
            if let Some((_, tasks)) = known {
                tasks.push(def.id);
                continue;
            }
            match same.last_mut().filter(|group| group.workloads.len() < WORKLOADS) {
                Some(group) => group.workloads.push((workload, vec![def.id])),
                None => groups.push(Group {
                    model: model.digest,
                    tokenizer: model.tokenizer,
                    quant: def.cell.quant,
                    workloads: vec![(workload, vec![def.id])],
                    hold: None,
                }),
            }
        }
        self.preparing.waiting.extend(groups);
    }

    /// Starts children as far as there is room.
    pub(super) fn start_preparing(&mut self) {
        while self.preparing.running.len() < CHILDREN {
            // An image is built once: whoever needs one that is being built waits for it.
            let free = self.preparing.waiting.iter().position(|group| {
                let built = self.built(group).is_some();
                let same = |other: &Group| other.key() == group.key();
                built || !self.preparing.running.values().any(same)
            });
            let Some(mut group) = free.and_then(|at| self.preparing.waiting.remove(at)) else { return };
            for (_, tasks) in &mut group.workloads {
                tasks.retain(|task| {
                    self.scheduler.task(*task).is_some_and(|task| !task.row.state().is_terminal())
                });
            }
            group.workloads.retain(|(_, tasks)| !tasks.is_empty());
            if group.workloads.is_empty() {
                continue;
            }
            let id = self.preparing.next;
            self.preparing.next += 1;
            let request = Request {
                model: group.model,
                tokenizer: group.tokenizer,
                quant: group.quant,
                image: self.built(&group),
                workloads: group.workloads.iter().map(|(workload, _)| workload.clone()).collect(),
            };
            group.hold = request.image.map(|row| self.artifacts().hold([row.image, row.vocabulary]));
            self.preparing.running.insert(id, group);
            let (preparer, commands) = (self.parts.preparer.clone(), self.parts.commands.clone());
            let stop = self.parts.tasks.stop_token();
            self.parts.tasks.spawn(async move {
                let (answers, mut outcomes) = mpsc::channel(4);
                let forward = async {
                    while let Some(outcome) = outcomes.recv().await {
                        if commands.send(Command::Prepared(id, outcome)).await.is_err() {
                            return;
                        }
                    }
                };
                let run = preparer.run(request, answers);
                tokio::select! {
                    () = async { tokio::join!(run, forward); } => {}
                    () = stop.cancelled() => return,
                }
                let _ = commands.send(Command::PrepareEnded(id)).await;
            });
        }
    }

    fn artifacts(&self) -> &Artifacts {
        &self.parts.artifacts
    }

    /// The image of a group, if it was built and not evicted since.
    fn built(&self, group: &Group) -> Option<ImageRow> {
        self.images.get(&group.key()).copied().filter(|row| self.is_built(row))
    }

    /// Whether image and vocabulary are here.
    pub(super) fn is_built(&self, row: &ImageRow) -> bool {
        [row.image, row.vocabulary].iter().all(|digest| self.artifacts().size(digest).is_some())
    }

    /// Keeps what a task needs until it has ended.
    pub(super) fn open(&mut self, def: &TaskDef) {
        let model = &def.cell.model;
        let firmware = def.firmware.values().map(|pin| pin.file);
        let needs = [Some(model.digest), model.tokenizer].into_iter().flatten().chain(firmware);
        let hold = self.artifacts().hold(needs);
        let open = Open {
            hold,
            prepared: None,
            progress: None,
            started_at: None,
            inherited: false,
            clocks: Clocks::default(),
            story: Vec::new(),
        };
        self.open.insert(def.id, open);
    }

    /// Keeps a prepared workload for tasks to come.
    pub(super) fn remember(&mut self, of: Digest, prepared: Arc<Prepared>) {
        if self.workloads.len() >= WORKLOADS_KEPT {
            self.workloads.clear();
        }
        self.load_vocabulary(prepared.image.vocabulary);
        self.workloads.insert(of, prepared);
    }

    pub(super) fn prepared(&mut self, id: u64, outcome: Outcome) {
        let Some(group) = self.preparing.running.get_mut(&id) else { return };
        match outcome {
            Outcome::Image(row, vocabulary) => {
                let at = group.key();
                group.hold = Some(self.parts.artifacts.hold([row.image, row.vocabulary]));
                if self.images.insert(at, row) != Some(row) {
                    tracing::info!(model = %group.model, quant = %group.quant, image = %row.image, bytes = row.size, "board image");
                    self.transaction.put(key::image(at.0, at.1), rows::encode(&row));
                }
                self.vocabularies.insert(row.vocabulary, vocabulary);
                self.start_preparing();
            }
            Outcome::Workload(index, outcome) => {
                let tasks = group.workloads.get_mut(index).map(|(_, tasks)| std::mem::take(tasks));
                let image = self.images.get(&group.key()).copied();
                let tasks = tasks.unwrap_or_default();
                match (outcome, image) {
                    (Ok(ready), Some(image)) => self.all_ready(&tasks, ready, image),
                    (Err(error), _) => {
                        for task in tasks {
                            self.step(Event::PrepareFailed { task, error: error.clone() });
                        }
                    }
                    (Ok(_), None) => {}
                }
            }
            Outcome::Broken(error) => self.fail_rest(id, &error),
        }
    }

    pub(super) fn prepare_ended(&mut self, id: u64) {
        let what = "preparing ended without an answer";
        self.fail_rest(id, &TaskError::new(ErrorClass::Infrastructure, "prepare_failed", what));
        self.preparing.running.remove(&id);
        self.start_preparing();
    }

    fn fail_rest(&mut self, id: u64, error: &TaskError) {
        let Some(group) = self.preparing.running.get_mut(&id) else { return };
        let tasks: Vec<_> = group.workloads.iter_mut().flat_map(|(_, tasks)| std::mem::take(tasks)).collect();
        for task in tasks {
            self.step(Event::PrepareFailed { task, error: error.clone() });
        }
    }

    /// All of these have the same workload.
    fn all_ready(&mut self, tasks: &[TaskId], ready: Ready, image: ImageRow) {
        let Ready { tokens, stop_tokens, ctx, arena_bytes, reference } = ready;
        let prepared = Arc::new(Prepared { image, tokens, stop_tokens, ctx, arena_bytes, reference });
        let defs: Vec<_> = tasks.iter().filter_map(|task| self.defs.get(task).cloned()).collect();
        if let Some(def) = defs.first() {
            let of = Keys::default().of(def);
            self.transaction.put(key::prep(of), rows::encode(&*prepared));
            self.remember(of, prepared.clone());
        }
        let mut placing = Placing::default();
        for def in defs {
            self.ready(&def, prepared.clone(), &mut placing);
        }
        self.place(placing);
    }

    /// A task's workload is prepared: only now is known how long its prompt is.
    fn ready(&mut self, def: &TaskDef, prepared: Arc<Prepared>, placing: &mut Placing) {
        let fits = |kind: &String| {
            let kind = catalogue().get(kind)?;
            let tokens = prepared.tokens.len();
            Some(submit::check_prepared(&def.cell.model.name, tokens, prepared.arena_bytes, kind))
        };
        let mut verdicts: Vec<_> = def.firmware.keys().filter_map(fits).collect();
        if !verdicts.iter().any(Result::is_ok)
            && let Some(Err(error)) = verdicts.pop()
        {
            return self.step(Event::PrepareFailed { task: def.id, error });
        }
        self.prepared_for(def.id, prepared, placing);
    }

    /// Gives a task what it was prepared with, and keeps that until the task has ended.
    pub(super) fn equip(&mut self, task: TaskId, prepared: Arc<Prepared>) {
        if let Some(open) = self.open.get_mut(&task) {
            open.hold.extend([prepared.image.image, prepared.image.vocabulary]);
            open.prepared = Some(prepared);
        }
    }

    /// Gives a task what it was prepared with, to be placed unless its board is waited for.
    pub(super) fn prepared_for(&mut self, task: TaskId, prepared: Arc<Prepared>, placing: &mut Placing) {
        let image = Image {
            digest: prepared.image.image,
            model_bytes: prepared.image.size,
            arena_bytes: prepared.arena_bytes,
        };
        self.equip(task, prepared);
        let wait = self.defs.get(&task).and_then(|def| self.jobs.get(&def.job)?.row.spec.wait_for_board_ms);
        let present = wait.map(|_| self.present()).unwrap_or_default();
        match wait {
            Some(millis) if !self.has_board(task, &present) => {
                let until = Instant::now() + Duration::from_millis(millis.min(1 << 40));
                self.awaiting.push_back(Awaiting { task, image, until });
            }
            _ => placing.add(task, image),
        }
    }

    /// Hands prepared tasks to the scheduler: all of an image at once.
    pub(super) fn place(&mut self, placing: Placing) {
        for (image, tasks) in placing.0 {
            self.step(Event::Ready { tasks, image });
        }
    }

    fn has_board(&self, task: TaskId, present: &[Present]) -> bool {
        let Some(def) = self.defs.get(&task) else { return false };
        present.iter().any(|board| def.requirement.meets(&board.id, &board.kind, &board.labels))
    }

    /// Looks again at tasks whose boards were not there.
    pub(super) fn end_waiting(&mut self) {
        if self.awaiting.is_empty() {
            return;
        }
        let present = self.present();
        for waiting in std::mem::take(&mut self.awaiting) {
            if self.has_board(waiting.task, &present) {
                self.step(Event::Ready { tasks: vec![waiting.task], image: waiting.image });
            } else if waiting.until <= Instant::now() {
                let error = TaskError::new(ErrorClass::Request, "no_board", "no such board came in time")
                    .with_hint("start a worker with such a board, or wait longer");
                self.step(Event::PrepareFailed { task: waiting.task, error });
            } else if self.scheduler.task(waiting.task).is_some_and(|task| !task.row.state().is_terminal()) {
                self.awaiting.push_back(waiting);
            }
        }
    }
}
