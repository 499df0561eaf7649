//! Figures of one run.

use edgeprof_common::run::{Counter, RunRecord, RunState, Sample, Verification};

/// Counts per prompt token, by the record's summary.
pub fn prefill_per_token(run: &RunRecord) -> Option<f64> {
    run.summary.get("prefill").map(|summary| summary.median)
}

/// Counts per generated token after the first, by the record's summary.
pub fn decode_per_token(run: &RunRecord) -> Option<f64> {
    run.summary.get("decode").map(|summary| summary.median)
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

/// How far the output was checked, for a column. An invalid run gets no tick: what is wrong with it may
/// be just that, and its reasons say so.
pub(super) fn check_word(run: &RunRecord) -> Option<String> {
    let tick = if run.state == RunState::Invalid { "" } else { " ✓" };
    run.workload.verification.map(|verification| match verification {
        Verification::Hash => format!("hash{tick}"),
        Verification::Tokens => format!("tokens{tick}"),
        Verification::None => "unchecked".to_owned(),
    })
}
