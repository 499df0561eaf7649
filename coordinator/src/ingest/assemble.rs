//! One record.

use std::collections::BTreeMap;

use edgeprof_analytics::record::{decode, representative, scatter, summaries};
use edgeprof_boards::{Estimate as Basis, Kind, catalogue};
use edgeprof_common::{
    AttemptNo, ErrorClass, RunId, TaskError,
    job::Prompt,
    run::{
        Board, Counter, Estimate, Model, Provenance, Range, RunRecord, RunState, Runtime, SCHEMA, Sample,
        Timing, Verification, Workload,
    },
};
use edgeprof_scheduler::BoardReport;

use super::Measured;
use crate::{
    preparing::Vocabulary,
    store::rows::{JobRow, Prepared, TaskDef},
};

/// Measured repetitions that scatter more than this are unsteady.
const SCATTER: f64 = 0.05;

/// What a record is of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The job.
    pub job: &'a JobRow,
    /// The task.
    pub task: &'a TaskDef,
    /// What was sent to the worker, if it came to that.
    pub prepared: Option<&'a Prepared>,
    /// The model's tokens as text.
    pub vocabulary: Option<&'a Vocabulary>,
    /// The attempt that ended it.
    pub attempt: AttemptNo,
    /// RFC 3339.
    pub started_at: Option<&'a str>,
    /// Where it ran.
    pub board: Option<&'a Board>,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended<'a> {
    /// With a measurement.
    Measured(&'a Measured),
    /// With an error.
    Failed(&'a TaskError),
    /// By a person's word.
    Cancelled,
}

/// A board as records name it.
pub fn seen(report: &BoardReport, worker: &edgeprof_common::WorkerId) -> Board {
    let kind = catalogue().get(&report.kind);
    Board {
        id: report.id.clone(),
        uid: report.uid.clone(),
        kind: report.kind.clone(),
        cpu: kind.map(|kind| kind.cpu.clone()).unwrap_or_default(),
        isa: kind.map(|kind| kind.isa.clone()).unwrap_or_default(),
        clock_hz: kind.map(|kind| kind.clock_hz),
        worker: worker.clone(),
        labels: (*report.labels).clone(),
    }
}

/// Puts a record together.
pub fn assemble(subject: &Subject<'_>, ended: Ended<'_>) -> RunRecord {
    let Subject { job, task, .. } = subject;
    let mut record = RunRecord {
        schema: SCHEMA.into(),
        run_id: RunId::from(task.id),
        job_id: job.id,
        task_id: task.id,
        attempt: subject.attempt,
        labels: job.spec.labels.clone(),
        suite: job.spec.suite.clone(),
        scenario: task.scenario.clone(),
        started_at: subject.started_at.map(str::to_owned),
        state: RunState::Ok,
        reasons: Vec::new(),
        error: None,
        provenance: None,
        board: subject.board.cloned(),
        environment: None,
        runtime: None,
        firmware: None,
        model: model(subject),
        workload: workload(subject),
        counts: None,
        samples: Vec::new(),
        timing: None,
        estimate: None,
        memory: None,
        summary: BTreeMap::new(),
    };
    match ended {
        Ended::Measured(measured) => fill(&mut record, subject, measured),
        Ended::Cancelled => record.state = RunState::Cancelled,
        Ended::Failed(error) => {
            // What no board was asked to do was refused; it did not fail.
            let untried = subject.attempt.0 == 0 && error.class == ErrorClass::Request;
            let refused = task.refusal.is_some() || untried;
            record.state = if refused { RunState::Refused } else { RunState::Failed };
            record.reasons.push(error.message.clone());
            record.error = Some(error.clone());
        }
    }
    record
}

fn model(subject: &Subject<'_>) -> Model {
    let TaskDef { cell, model: facts, .. } = subject.task;
    Model {
        name: cell.model.name.clone(),
        digest: cell.model.digest,
        format: facts.as_ref().map(|facts| facts.format.clone()),
        arch: facts.as_ref().map(|facts| facts.arch.clone()),
        params: facts.as_ref().map(|facts| facts.params),
        quant: cell.quant,
        weight_bytes: facts.as_ref().map(|facts| facts.weight_bytes),
        image_digest: subject.prepared.map(|prepared| prepared.image.image),
        kv: cell.kv,
        ctx: subject.prepared.map(|prepared| prepared.ctx).or(cell.ctx),
    }
}

fn workload(subject: &Subject<'_>) -> Workload {
    let cell = &subject.task.cell;
    let prompt = subject
        .prepared
        .map(|prepared| prepared.tokens.get(cell.n_depth as usize..).unwrap_or_default().to_vec());
    let length = match (&prompt, &cell.prompt) {
        (Some(tokens), _) => u32::try_from(tokens.len()).ok(),
        (None, Prompt::Synthetic(n)) => Some(*n),
        (None, Prompt::Text(_)) => None,
    };
    Workload {
        n_prompt: length,
        n_gen: None,
        n_depth: cell.n_depth,
        n_gen_max: cell.n_gen,
        temperature: cell.temperature,
        seed: cell.seed,
        prompt_tokens: prompt.unwrap_or_default(),
        output_tokens: Vec::new(),
        output_text: None,
        stop_reason: None,
        logits_hash: None,
        verification: None,
    }
}

fn fill(record: &mut RunRecord, subject: &Subject<'_>, measured: &Measured) {
    let tokens = &measured.output_tokens;
    record.workload.n_gen = u32::try_from(tokens.len()).ok();
    record.workload.output_tokens.clone_from(tokens);
    let before = subject.prepared.and_then(|prepared| prepared.tokens.last().copied());
    record.workload.output_text = subject.vocabulary.map(|vocabulary| vocabulary.text(before, tokens));
    record.workload.stop_reason = Some(measured.stop_reason);
    record.workload.logits_hash.clone_from(&measured.logits_hash);

    record.provenance = measured.provenance;
    record.environment.clone_from(&measured.environment);
    record.runtime = measured.provenance.map(|_| Runtime {
        name: "edgeprof-engine".into(),
        version: measured.engine_version.clone(),
        threads: 1,
    });
    record.firmware.clone_from(&measured.firmware);
    record.memory.clone_from(&measured.memory);
    if let (Some(board), Some(uid)) = (&mut record.board, &measured.uid) {
        board.uid = Some(uid.clone());
    }
    record.samples.clone_from(&measured.samples);
    record.counts = representative(&measured.samples).and_then(|at| measured.samples.get(at).cloned());

    let kind = record.board.as_ref().and_then(|board| catalogue().get(&board.kind));
    let clock = record.board.as_ref().and_then(|board| board.clock_hz);
    let timings: Vec<Timing> = match measured.provenance {
        Some(Provenance::Measured) => {
            measured.samples.iter().filter_map(|sample| timing(sample, clock)).collect()
        }
        // Host time and derived time are not the device's own.
        Some(Provenance::Emulated | Provenance::Estimated) | None => Vec::new(),
    };
    record.timing = match (&record.counts, measured.provenance) {
        (Some(sample), Some(Provenance::Measured)) => timing(sample, clock),
        _ => None,
    };
    record.summary = summaries(&measured.samples, &timings, measured.discarded_warmups);
    if let (Some(kind), Some(Provenance::Emulated)) = (kind, measured.provenance) {
        record.estimate = estimate(kind, record.counts.as_ref());
    }
    judge(record, subject, measured);
}

/// Whether the figures can be used.
fn judge(record: &mut RunRecord, subject: &Subject<'_>, measured: &Measured) {
    let mut invalid = measured.reasons.clone();
    let kind = record.board.as_ref().map(|board| board.kind.as_str());
    if let (Some(pin), Some(ran)) =
        (kind.and_then(|kind| subject.task.firmware.get(kind)), &measured.firmware)
        && pin.loaded != ran.digest
    {
        invalid.push(format!("the board ran firmware {}, the task is for {}", ran.digest, pin.loaded));
    }
    let (verification, mismatch) = verify(subject, measured);
    record.workload.verification = Some(verification);
    invalid.extend(mismatch);
    let mut unsteady = Vec::new();
    match measured.provenance {
        Some(Provenance::Emulated) => {
            if measured.samples.windows(2).any(|pair| pair[0] != pair[1]) {
                unsteady.push("repetitions on an emulated board gave different counts".to_owned());
            }
        }
        Some(Provenance::Measured | Provenance::Estimated) | None => {
            if let Some(ratio) = scatter(&measured.samples).filter(|ratio| *ratio > SCATTER) {
                unsteady.push(format!("repetitions scatter by {:.1} %", 100.0 * ratio));
            }
        }
    }
    record.state = match (invalid.is_empty(), unsteady.is_empty()) {
        (false, _) => RunState::Invalid,
        (true, false) => RunState::Unsteady,
        (true, true) => RunState::Ok,
    };
    record.reasons = invalid;
    record.reasons.append(&mut unsteady);
}

/// Compares with what the same engine gives on the host.
fn verify(subject: &Subject<'_>, measured: &Measured) -> (Verification, Option<String>) {
    let reference = subject.prepared.and_then(|prepared| prepared.reference.as_ref());
    // Where nothing was computed there is nothing to compare.
    let Some(reference) = reference.filter(|_| measured.provenance.is_some()) else {
        return (Verification::None, None);
    };
    let tokens = (measured.output_tokens != reference.tokens).then(|| {
        let at = measured.output_tokens.iter().zip(&reference.tokens).take_while(|(a, b)| a == b).count();
        format!("generated token {} differs from what the same engine gives on the host", at + 1)
    });
    match &measured.logits_hash {
        Some(hash) => {
            let hashes = (*hash != reference.logits_hash)
                .then(|| format!("logits hash {hash}, on the host {}", reference.logits_hash));
            (Verification::Hash, tokens.or(hashes))
        }
        None => (Verification::Tokens, tokens),
    }
}

/// Speeds by the device's own clock.
fn timing(sample: &Sample, clock_hz: Option<u64>) -> Option<Timing> {
    let ns_per_count = match sample.counter {
        Counter::Ns => 1.0,
        Counter::Cycles => 1e9 / clock_hz.filter(|hz| *hz > 0)? as f64,
        Counter::Instructions => return None,
    };
    let ns = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>() * ns_per_count;
    let (fill, generate) = (ns(&sample.prefill), ns(&sample.decode));
    let prompt: u64 = sample.prefill_tokens.iter().map(|n| u64::from(*n)).sum();
    let generated = sample.decode.len() as f64;
    let decoded = generated > 0.0 && generate > 0.0;
    (fill > 0.0).then(|| Timing {
        ttft_ns: fill.round() as u64,
        tpot_ns: decoded.then(|| (generate / generated).round() as u64),
        prefill_tokens_per_second: prompt as f64 * 1e9 / fill,
        decode_tokens_per_second: decoded.then(|| generated * 1e9 / generate),
    })
}

fn estimate(kind: &Kind, sample: Option<&Sample>) -> Option<Estimate> {
    let sample = sample.filter(|sample| sample.counter == Counter::Instructions)?;
    let basis = Basis::from_instructions(kind, decode(sample)?.round() as u64)?;
    let range = |range: edgeprof_boards::Range| Range { low: range.low, high: range.high };
    Some(Estimate {
        provenance: Provenance::Estimated,
        model: basis.model.to_owned(),
        cycles: range(basis.cycles),
        decode_tokens_per_second: range(basis.tokens_per_second),
        calibration: "uncalibrated".into(),
    })
}
