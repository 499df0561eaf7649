//! A job of the lab's client, submitted until it is taken.

use std::{collections::BTreeMap, sync::Arc};

use edgeprof_common::{
    Digest, JobId, Kv, Priority, Quant, TaskId,
    job::{Cell, JobSpec, ModelRef, Prompt},
};
use edgeprof_coordinator::{
    core::{Busy, Command},
    store::rows::{FirmwarePin, JobRow, TaskDef},
};
use edgeprof_proto::v1;
use edgeprof_scheduler::Requirement;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{coordinator::Coordinator, worker::KIND};

/// A job, and whether the coordinator has it.
#[derive(Debug)]
pub(crate) struct Submission {
    job: JobRow,
    pub(crate) tasks: Vec<Arc<TaskDef>>,
    answer: Option<oneshot::Receiver<Result<v1::Job, Busy>>>,
    pub(crate) taken: bool,
}

impl Submission {
    /// A job of so many tasks.
    pub(crate) fn new(job: JobId, tasks: u32, boards: &Requirement, firmware: Digest) -> Self {
        let defs = (0..tasks).map(|n| Arc::new(task(job, n, boards, firmware))).collect::<Vec<_>>();
        let spec = JobSpec {
            models: vec![model()],
            boards: vec![KIND.into()],
            each: false,
            prompts: Vec::new(),
            n_prompt: vec![4],
            n_gen: vec![1],
            n_depth: Vec::new(),
            quants: Vec::new(),
            kvs: Vec::new(),
            ctx: None,
            temperature: 0.0,
            seed: 0,
            repetitions: Some(1),
            warmup: None,
            firmware: None,
            suite: None,
            priority: Priority::Normal,
            labels: BTreeMap::new(),
            wait_for_board_ms: None,
        };
        let row = JobRow {
            id: job,
            spec,
            submitted_at: format!("{job}"),
            tasks: defs.iter().map(|def| def.id).collect(),
            first_seq: 0,
            trace: None,
            submitter: "net".into(),
            idempotency_key: Some(job.to_string()),
        };
        Self { job: row, tasks: defs, answer: None, taken: false }
    }

    /// Submits it, again under the same key where the coordinator went without an answer.
    pub(crate) fn push(&mut self, coordinator: &Coordinator) {
        if self.taken {
            return;
        }
        match self.answer.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Ok(taken)) => {
                taken.expect("there is room");
                self.taken = true;
            }
            Some(Err(TryRecvError::Empty)) => {}
            Some(Err(TryRecvError::Closed)) | None => {
                self.answer = coordinator.commands().and_then(|commands| {
                    let (reply, answer) = oneshot::channel();
                    let job = Box::new(self.job.clone());
                    let (tasks, ready) = (self.tasks.clone(), Vec::new());
                    let submit = Command::Submit { job, tasks, ready, forgotten: 0, reply };
                    commands.try_send(submit).ok().map(|()| answer)
                });
            }
        }
    }
}

fn task(job: JobId, number: u32, boards: &Requirement, firmware: Digest) -> TaskDef {
    TaskDef {
        id: TaskId::from_raw(u128::from(job.raw()) * 10_000 + u128::from(number)),
        job,
        cell: Cell {
            model: model(),
            quant: Quant::Native,
            kv: Kv::F16,
            prompt: Prompt::Synthetic(4),
            n_gen: 1,
            n_depth: 0,
            ctx: None,
            temperature: 0.0,
            seed: 0,
        },
        selector: KIND.into(),
        scenario: "any".into(),
        requirement: boards.clone(),
        repetitions: 1,
        warmup: 0,
        firmware: BTreeMap::from([(KIND.into(), FirmwarePin { file: firmware, loaded: firmware, size: 8 })])
            .into(),
        model: None,
        refusal: None,
    }
}

fn model() -> ModelRef {
    let name = "model.gguf".to_owned();
    ModelRef { digest: edgeprof_common::Digest::of(name.as_bytes()), name, tokenizer: None }
}
