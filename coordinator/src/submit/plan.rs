//! Cells times boards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edgeprof_boards::catalogue;
use edgeprof_common::{
    Digest, ErrorClass, JobId, TaskError, TaskId,
    job::{Cell, JobSpec, MAX_CELLS, Prompt},
};
use edgeprof_model::{Format, Header, image_weight_bytes};
use edgeprof_scheduler::Term;

use super::{Present, Refusal, Target, fit, resolve};
use crate::{
    clock,
    preparing::child::model_quant,
    store::rows::{FirmwarePin, ModelFacts, SharedParts, TaskDef},
};

/// Emulated boards give the same count on every run; measured ones scatter.
const EMULATED: (u32, u32) = (1, 0);
const MEASURED: (u32, u32) = (5, 1);

/// What was looked at before.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Boards that are there.
    pub boards: &'a [Present],
    /// The header of every model, or why it has none.
    pub headers: BTreeMap<Digest, Result<Arc<Header>, TaskError>>,
    /// The firmware of every kind that was asked for, or why it has none.
    pub firmware: BTreeMap<String, Result<FirmwarePin, TaskError>>,
}

/// The kinds of all boards that a job names.
///
/// # Errors
/// When a selector names nothing.
pub fn kinds(spec: &JobSpec, boards: &[Present]) -> Result<BTreeSet<String>, Refusal> {
    let wait = spec.wait_for_board_ms.is_some();
    let mut kinds = BTreeSet::new();
    for selector in &spec.boards {
        for target in resolve(selector, spec.each, wait, boards)? {
            kinds.extend(target.kinds);
        }
    }
    Ok(kinds)
}

/// The tasks of a job, in the order of its cells. A cell that cannot run carries its refusal.
///
/// # Errors
/// When a selector names nothing, or no cell can run.
pub fn plan(job: JobId, spec: &JobSpec, facts: &Facts<'_>) -> Result<Vec<Arc<TaskDef>>, Refusal> {
    let wait = spec.wait_for_board_ms.is_some();
    let mut targets = Vec::new();
    for selector in &spec.boards {
        targets.append(&mut resolve(selector, spec.each, wait, facts.boards)?);
    }
    let cells = spec.cells();
    let count = cells.len().saturating_mul(targets.len());
    if count > MAX_CELLS {
        return Err(Refusal::invalid(
            format!("the job has {count} cells, more than {MAX_CELLS}"),
            "split the job, or name fewer boards",
        ));
    }
    let several = spec.models.len() > 1;
    let places = cells.iter().flat_map(|cell| targets.iter().map(move |target| (cell, target)));
    let mut shared = SharedParts::default();
    let tasks: Vec<_> = TaskId::of_job(clock::now_ms())
        .zip(places)
        .map(|(id, (cell, target))| {
            let mut task = task(id, job, spec, cell, target, several, facts);
            shared.share(&mut task);
            Arc::new(task)
        })
        .collect();
    match tasks.iter().find_map(|task| task.refusal.clone()) {
        Some(first) if tasks.iter().all(|task| task.refusal.is_some()) => Err(first.into()),
        _ => Ok(tasks),
    }
}

fn task(
    id: TaskId,
    job: JobId,
    spec: &JobSpec,
    cell: &Cell,
    target: &Target,
    several: bool,
    facts: &Facts<'_>,
) -> TaskDef {
    let header = facts.headers.get(&cell.model.digest).and_then(|header| header.as_ref().ok());
    let (firmware, refusal) = match able(cell, target, facts) {
        Ok(firmware) => (firmware, None),
        Err(error) => (BTreeMap::new(), Some(error)),
    };
    let emulated =
        target.kinds.iter().all(|kind| catalogue().get(kind).is_some_and(|kind| kind.emulator.is_some()));
    let (repetitions, warmup) = if emulated { EMULATED } else { MEASURED };
    let mut requirement = target.requirement.clone();
    if refusal.is_none() && firmware.len() < target.kinds.len() {
        requirement = requirement.and(Term::Kinds(firmware.keys().cloned().collect()));
    }
    TaskDef {
        id,
        job,
        cell: cell.clone(),
        selector: target.selector.clone(),
        scenario: scenario(spec, cell, several),
        requirement,
        repetitions: spec.repetitions.unwrap_or(repetitions),
        warmup: spec.warmup.unwrap_or(warmup),
        firmware: firmware.into(),
        model: header.map(|header| ModelFacts {
            format: match header.format() {
                Format::Gguf(_) => "gguf".into(),
                Format::Llama2c => "llama2c".into(),
            },
            arch: header.arch().into(),
            params: header.params(),
            weight_bytes: image_weight_bytes(header, model_quant(cell.quant)),
        }),
        refusal,
    }
}

/// The kinds of a target on which a cell can run, with their firmware.
fn able(cell: &Cell, target: &Target, facts: &Facts<'_>) -> Result<BTreeMap<String, FirmwarePin>, TaskError> {
    let header = match facts.headers.get(&cell.model.digest) {
        Some(Ok(header)) => header,
        Some(Err(error)) => return Err(error.clone()),
        None => return Err(TaskError::new(ErrorClass::Request, "no_model", "the model file is not there")),
    };
    let mut firmware = BTreeMap::new();
    let mut reason = None;
    for name in &target.kinds {
        let fits = match catalogue().get(name) {
            Some(kind) => fit::check(header, cell, kind),
            None => Err(TaskError::new(
                ErrorClass::Request,
                "unknown_kind",
                format!("board kind {name} is not in this coordinator's catalogue"),
            )
            .with_hint("update the coordinator")),
        };
        let pin = fits.and_then(|()| match facts.firmware.get(name) {
            Some(pin) => pin.clone(),
            None => {
                Err(TaskError::new(ErrorClass::Request, "no_firmware", format!("no firmware for {name}")))
            }
        });
        match pin {
            Ok(pin) => {
                firmware.insert(name.clone(), pin);
            }
            Err(error) => reason = reason.or(Some(error)),
        }
    }
    match reason {
        Some(error) if firmware.is_empty() => Err(error),
        _ => Ok(firmware),
    }
}

/// A cell's name within its job.
fn scenario(spec: &JobSpec, cell: &Cell, several: bool) -> String {
    let prompt = match &cell.prompt {
        Prompt::Synthetic(n) => format!("p{n}"),
        Prompt::Text(_) if spec.prompts.len() == 1 => "prompt".into(),
        Prompt::Text(text) => {
            let place = spec.prompts.iter().position(|prompt| prompt == text).unwrap_or_default();
            format!("prompt{}", place + 1)
        }
    };
    let depth = if cell.n_depth > 0 { format!(" d{}", cell.n_depth) } else { String::new() };
    let model = if several { format!("{} ", cell.model.name) } else { String::new() };
    format!("{model}{} kv {} {prompt}{depth} n{}", cell.quant, cell.kv, cell.n_gen)
}
