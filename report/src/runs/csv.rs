//! Runs as CSV: flat, a fixed set of columns, units in their names. New columns are added at the end.

use edgeprof_common::run::{RunRecord, StopReason, Verification};

use super::cell::{counter, counter_word, decode_per_token, prefill_per_token, state_word};
use crate::sheet::csv_line;

type Get = fn(&RunRecord) -> Option<String>;

macro_rules! columns {
    ($run:ident; $($name:literal => $value:expr),+ $(,)?) => {
        const COLUMNS: &[(&str, Get)] = &[$(($name, |$run| $value)),+];
    };
}

columns! { run;
    "run_id" => Some(run.run_id.to_string()),
    "job_id" => Some(run.job_id.to_string()),
    "task_id" => Some(run.task_id.to_string()),
    "attempt" => Some(run.attempt.0.to_string()),
    "state" => Some(state_word(run.state).to_owned()),
    "error_code" => run.error.as_ref().map(|e| e.code.clone()),
    "error_message" => run.error.as_ref().map(|e| e.message.clone()),
    "suite" => run.suite.clone(),
    "scenario" => Some(run.scenario.clone()),
    "labels" => Some(run.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(";")),
    "started_at" => run.started_at.clone(),
    "board_id" => run.board.as_ref().map(|b| b.id.to_string()),
    "board_kind" => run.board.as_ref().map(|b| b.kind.clone()),
    "board_cpu" => run.board.as_ref().map(|b| b.cpu.clone()),
    "board_isa" => run.board.as_ref().map(|b| b.isa.clone()),
    "board_clock_hz" => run.board.as_ref().and_then(|b| b.clock_hz).map(text),
    "worker" => run.board.as_ref().map(|b| b.worker.to_string()),
    "emulator" => run.environment.as_ref().and_then(|e| e.emulator.clone()),
    "emulator_version" => run.environment.as_ref().and_then(|e| e.version.clone()),
    "runtime_version" => run.runtime.as_ref().map(|r| r.version.clone()),
    "firmware_digest" => run.firmware.as_ref().map(|f| f.digest.to_string()),
    "firmware_version" => run.firmware.as_ref().map(|f| f.version.clone()),
    "model" => Some(run.model.name.clone()),
    "model_digest" => Some(run.model.digest.to_string()),
    "model_params" => run.model.params.map(text),
    "quant" => Some(run.model.quant.to_string()),
    "weight_bytes" => run.model.weight_bytes.map(text),
    "image_digest" => run.model.image_digest.map(text),
    "kv" => Some(run.model.kv.to_string()),
    "ctx_tokens" => run.model.ctx.map(text),
    "n_prompt_tokens" => run.workload.n_prompt.map(text),
    "n_gen_tokens" => run.workload.n_gen.map(text),
    "n_gen_max_tokens" => Some(text(run.workload.n_gen_max)),
    "n_depth_tokens" => Some(text(run.workload.n_depth)),
    "temperature" => Some(text(run.workload.temperature)),
    "seed" => Some(text(run.workload.seed)),
    "stop_reason" => run.workload.stop_reason.map(|reason| match reason {
        StopReason::Length => "length",
        StopReason::StopToken => "stop_token",
        StopReason::Context => "context",
        StopReason::Cancelled => "cancelled",
    }.to_owned()),
    "logits_hash" => run.workload.logits_hash.clone(),
    "verification" => run.workload.verification.map(|verification| match verification {
        Verification::Hash => "hash",
        Verification::Tokens => "tokens",
        Verification::None => "none",
    }.to_owned()),
    "provenance" => run.provenance.map(|p| format!("{p:?}").to_lowercase()),
    "counter" => counter(run).map(|c| counter_word(c).to_owned()),
    "repetitions" => (!run.samples.is_empty()).then(|| text(run.samples.len())),
    "load_counts" => run.counts.as_ref().map(|c| text(c.load)),
    "prefill_counts_per_token" => prefill_per_token(run).map(text),
    "decode_counts_per_token" => decode_per_token(run).map(text),
    "ttft_ns" => run.timing.as_ref().map(|t| text(t.ttft_ns)),
    "tpot_ns" => run.timing.as_ref().and_then(|t| t.tpot_ns).map(text),
    "prefill_tokens_per_second" => run.timing.as_ref().map(|t| text(t.prefill_tokens_per_second)),
    "decode_tokens_per_second" => run.timing.as_ref().and_then(|t| t.decode_tokens_per_second).map(text),
    "estimated_decode_tokens_per_second_low" => run.estimate.as_ref().map(|e| text(e.decode_tokens_per_second.low)),
    "estimated_decode_tokens_per_second_high" => run.estimate.as_ref().map(|e| text(e.decode_tokens_per_second.high)),
    "estimated_cycles_per_token_low" => run.estimate.as_ref().map(|e| text(e.cycles.low)),
    "estimated_cycles_per_token_high" => run.estimate.as_ref().map(|e| text(e.cycles.high)),
    "estimate_model" => run.estimate.as_ref().map(|e| e.model.clone()),
    "estimate_calibration" => run.estimate.as_ref().map(|e| e.calibration.clone()),
    "arena_bytes" => run.memory.as_ref().map(|m| text(m.arena)),
    "kv_cache_bytes" => run.memory.as_ref().map(|m| text(m.kv_cache)),
    "stack_high_water_bytes" => run.memory.as_ref().and_then(|m| m.stack_high_water).map(text),
    "static_ram_bytes" => run.memory.as_ref().and_then(|m| m.static_ram).map(text),
    "flash_code_bytes" => run.memory.as_ref().and_then(|m| m.flash_code).map(text),
    "flash_weights_bytes" => run.memory.as_ref().map(|m| text(m.flash_weights)),
    "output_text" => run.workload.output_text.clone(),
}

fn text(value: impl ToString) -> String {
    value.to_string()
}

/// The names of the columns, one line.
pub fn csv_header() -> String {
    csv_line(COLUMNS.iter().map(|(name, _)| (*name).to_owned()))
}

/// Runs as CSV with a header.
pub fn csv(runs: &[RunRecord]) -> String {
    let mut out = csv_header();
    for run in runs {
        out += &csv_line(COLUMNS.iter().map(|(_, get)| get(run).unwrap_or_default()));
    }
    out
}
