//! Figures of one run.

use edgeprof_common::run::{Counter, RunRecord, RunState, Sample, Verification};

use crate::number;

/// Counts per prompt token: the record's own summary, else the median over the repetitions. Absent where
/// nothing was counted.
pub fn prefill_per_token(run: &RunRecord) -> Option<f64> {
    if let Some(summary) = run.summary.get("prefill") {
        return Some(summary.median);
    }
    let of = |sample: &Sample| {
        let tokens: u64 = sample.prefill_tokens.iter().map(|n| u64::from(*n)).sum();
        let counted: f64 = sample.prefill.iter().map(|n| *n as f64).sum();
        (tokens > 0).then(|| counted / tokens as f64)
    };
    number::median(&mut samples(run).iter().filter_map(of).collect::<Vec<_>>())
}

/// Counts per generated token after the first: the record's own summary, else the median over the tokens,
/// then over the repetitions.
/// Absent where fewer than two tokens were generated.
pub fn decode_per_token(run: &RunRecord) -> Option<f64> {
    if let Some(summary) = run.summary.get("decode") {
        return Some(summary.median);
    }
    let of =
        |sample: &Sample| number::median(&mut sample.decode.iter().map(|n| *n as f64).collect::<Vec<_>>());
    number::median(&mut samples(run).iter().filter_map(of).collect::<Vec<_>>())
}

/// Every repetition, or the one that a record without them has.
fn samples(run: &RunRecord) -> &[Sample] {
    if run.samples.is_empty() { run.counts.as_slice() } else { &run.samples }
}

/// The unit of a count, for a column of figures.
pub(super) const fn unit(counter: Counter) -> &'static str {
    match counter {
        Counter::Instructions => "instr/token",
        Counter::Cycles => "cycles/token",
        Counter::Ns => "ns/token",
    }
}

pub(super) fn counter(run: &RunRecord) -> Option<Counter> {
    samples(run).first().map(|sample| sample.counter)
}

pub(super) const fn counter_word(counter: Counter) -> &'static str {
    match counter {
        Counter::Instructions => "instructions",
        Counter::Cycles => "cycles",
        Counter::Ns => "ns",
    }
}

pub(super) const fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Ok => "ok",
        RunState::Unsteady => "unsteady",
        RunState::Invalid => "invalid",
        RunState::Failed => "failed",
        RunState::Refused => "refused",
        RunState::Cancelled => "cancelled",
    }
}

/// How far the output was checked, for a column.
pub(super) fn check_word(run: &RunRecord) -> Option<String> {
    run.workload.verification.map(|verification| {
        match verification {
            Verification::Hash => "hash ✓",
            Verification::Tokens => "tokens ✓",
            Verification::None => "unchecked",
        }
        .to_owned()
    })
}
