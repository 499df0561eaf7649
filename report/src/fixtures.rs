//! Records to render in tests.

use edgeprof_common::{ErrorClass, RunId, TaskError, TaskId, run::RunRecord};

/// A cell of an emulated board that ran well.
pub(crate) fn emulated(number: u128, kind: &str, cpu: &str, decode: u64) -> RunRecord {
    serde_json::from_value(serde_json::json!({
        "schema": "edgeprof.run.v1",
        "run_id": RunId::from_raw(number), "job_id": "j0000000000001", "task_id": TaskId::from_raw(number),
        "attempt": 1, "scenario": "q8_0 kv i8 p5 n4", "started_at": "2026-01-01T00:00:00Z", "state": "ok",
        "provenance": "emulated",
        "board": {"id": format!("lab-1/{kind}-0"), "kind": kind, "cpu": cpu, "isa": "armv7e-m+fp",
            "clock_hz": 25_000_000, "worker": "lab-1"},
        "environment": {"emulator": "qemu", "version": "7.2.0", "machine": kind, "icount_shift": 6},
        "runtime": {"name": "edgeprof-engine", "version": "0.1.0", "threads": 1},
        "firmware": {"digest": format!("sha256:{}", "0".repeat(64)), "version": "0.1.0"},
        "model": {"name": "stories260K.bin", "digest": format!("sha256:{}", "1".repeat(64)), "format": "llama2.c",
            "arch": "llama", "params": 260_032, "quant": "q8_0", "weight_bytes": 281_600, "kv": "i8", "ctx": 9},
        "workload": {"n_prompt": 5, "n_gen": 4, "n_depth": 0, "n_gen_max": 4, "temperature": 0.0, "seed": 0,
            "prompt_tokens": [1, 2, 3, 4, 5], "output_tokens": [5, 6, 7, 8],
            "output_text": ", there was a little girl", "stop_reason": "length",
            "logits_hash": "0123456789abcdef", "verification": "hash"},
        "counts": {"counter": "instructions", "load": 1000, "prefill": [decode * 5 - 40], "prefill_tokens": [5],
            "decode": [decode - 7, decode, decode + 9]},
        "samples": [{"counter": "instructions", "load": 1000, "prefill": [decode * 5 - 40], "prefill_tokens": [5],
            "decode": [decode - 7, decode, decode + 9]}],
        "estimate": {"provenance": "estimated", "model": format!("cpi-bounds-{cpu}-v1"),
            "cycles": {"low": decode as f64, "high": decode as f64 * 2.2},
            "decode_tokens_per_second": {"low": 25e6 / (decode as f64 * 2.2), "high": 25e6 / decode as f64},
            "calibration": "uncalibrated"},
        "memory": {"arena": 217_088, "kv_cache": 4096, "flash_weights": 282_000, "method": "arena high-water mark"},
        "summary": {"prefill": summary((decode * 5 - 40) as f64 / 5.0), "decode": summary(decode as f64 + 2.0 / 3.0)}
    }))
    .expect("the fixture is a record")
}

/// What one repetition is summed up to.
fn summary(value: f64) -> serde_json::Value {
    serde_json::json!({"unit": "instructions/token", "direction": "lower", "n": 1, "median": value, "mean": value,
        "discarded_warmups": 0})
}

/// A cell that fits on no board of its selector.
pub(crate) fn refused(number: u128) -> RunRecord {
    let mut run = emulated(number, "microbit", "cortex-m0", 1_000_000);
    run.state = edgeprof_common::run::RunState::Refused;
    run.error = Some(
        TaskError::new(
            ErrorClass::Model,
            "does_not_fit",
            "needs 281,600 bytes of flash, microbit has 196,608",
        )
        .with_hint("try --quant q4_0"),
    );
    run.attempt = edgeprof_common::AttemptNo(0);
    (run.board, run.environment, run.runtime, run.firmware, run.provenance) = (None, None, None, None, None);
    (run.counts, run.estimate, run.memory, run.started_at) = (None, None, None, None);
    run.samples.clear();
    run.summary.clear();
    run.workload.prompt_tokens.clear();
    run.workload.output_tokens.clear();
    (run.workload.n_prompt, run.workload.n_gen, run.workload.output_text) = (None, None, None);
    (run.workload.stop_reason, run.workload.logits_hash, run.workload.verification) = (None, None, None);
    run
}

/// A cell whose board hung.
pub(crate) fn failed(number: u128) -> RunRecord {
    let mut run = emulated(number, "riscv32", "rv32imafc", 2_635_089);
    run.state = edgeprof_common::run::RunState::Failed;
    run.error = Some(
        TaskError::new(ErrorClass::Infrastructure, "board_hung", "the board sent nothing for 30 s\u{1b}[2J")
            .with_hint("edgeprof boards shows whether it came back"),
    );
    (run.counts, run.estimate, run.memory) = (None, None, None);
    run.samples.clear();
    run.summary.clear();
    run.workload.output_tokens.clear();
    (run.workload.n_gen, run.workload.output_text) = (None, None);
    (run.workload.stop_reason, run.workload.logits_hash, run.workload.verification) = (None, None, None);
    run
}
