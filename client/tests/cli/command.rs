//! The command, and what it ended with.

use std::{
    net::SocketAddr,
    process::{Output, Stdio},
    time::Duration,
};

use edgeprof_common::{Digest, RunId, TaskId, run::RunRecord};
use tokio::process::{Child, Command};

use crate::fake::{Fake, JOB};

/// Ctrl-C.
pub(crate) fn interrupt(child: &Child) {
    let id = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGINT).unwrap();
}

/// A cell of an emulated board.
pub(crate) fn record(number: u128) -> RunRecord {
    let decode = 2_384_916u64;
    let per_token = serde_json::json!({"unit": "instructions/token", "direction": "lower", "n": 1,
        "median": decode, "mean": decode, "discarded_warmups": 0});
    serde_json::from_value(serde_json::json!({
        "schema": "edgeprof.run.v1",
        "run_id": RunId::from_raw(number), "job_id": JOB, "task_id": TaskId::from_raw(number),
        "attempt": 1, "scenario": "native kv f16 p5 n3", "started_at": "2026-01-01T00:00:00Z", "state": "ok",
        "provenance": "emulated",
        "board": {"id": "lab-1/mps2-an386-0", "kind": "mps2-an386", "cpu": "cortex-m4f", "isa": "armv7e-m+fp",
            "clock_hz": 25_000_000, "worker": "lab-1"},
        "environment": {"emulator": "qemu", "version": "7.2.0", "machine": "mps2-an386", "icount_shift": 6},
        "model": {"name": "tiny.bin", "digest": Digest::of(b"tiny"), "quant": "native", "weight_bytes": 20_000,
            "kv": "f16", "ctx": 8},
        "workload": {"n_prompt": 5, "n_gen": 3, "n_depth": 0, "n_gen_max": 3, "temperature": 0.0,
            "seed": u64::MAX, "output_tokens": [6, 7, 8], "output_text": " there was", "stop_reason": "length",
            "logits_hash": "0123456789abcdef", "verification": "hash"},
        "counts": {"counter": "instructions", "load": 1000, "prefill": [decode * 5], "prefill_tokens": [5],
            "decode": [decode, decode]},
        "samples": [{"counter": "instructions", "load": 1000, "prefill": [decode * 5], "prefill_tokens": [5],
            "decode": [decode, decode]}],
        "estimate": {"provenance": "estimated", "model": "cpi-bounds-cortex-m4-v1",
            "cycles": {"low": 2_384_916.0, "high": 5_246_815.2},
            "decode_tokens_per_second": {"low": 4.764_795_222_823_933, "high": 10.482_549_490_212_653},
            "calibration": "uncalibrated"},
        "memory": {"arena": 217_088, "kv_cache": 4096, "flash_weights": 20_480, "method": "arena high-water mark"},
        "summary": {"prefill": per_token, "decode": per_token}
    }))
    .unwrap()
}

pub(crate) fn fake(runs: impl IntoIterator<Item = RunRecord>) -> Fake {
    let fake = Fake::default();
    fake.state.lock().unwrap().runs.extend(runs);
    fake
}

pub(crate) fn command(address: Option<SocketAddr>, line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeprof"));
    command.args(line).stdin(Stdio::null()).env("HOME", "/nowhere").env_remove("XDG_CONFIG_HOME");
    for name in [
        "EDGEPROF_COORDINATOR",
        "EDGEPROF_PROGRESS",
        "EDGEPROF_SUBMITTER",
        "EDGEPROF_TOKEN",
        "EDGEPROF_TOKEN_FILE",
        "COLUMNS",
    ] {
        command.env_remove(name);
    }
    if let Some(address) = address {
        command.env("EDGEPROF_COORDINATOR", format!("http://{address}"));
    }
    command.kill_on_drop(true);
    command
}

pub(crate) async fn edgeprof(address: SocketAddr, line: &[&str]) -> Output {
    let running = command(Some(address), line).output();
    tokio::time::timeout(Duration::from_secs(60), running).await.expect("the command ends").unwrap()
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}
