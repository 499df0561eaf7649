//! The gRPC contract: generated messages, clients and servers, and the bridge to the plain types.

mod codec;
pub mod session;

use serde::{Serialize, de::DeserializeOwned};

pub use codec::SmallBuffers;
pub use session::SESSION;

/// Package `edgeprof.v1`.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("edgeprof.v1");

    /// The encoded descriptor set, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgeprof.v1.bin"));
}

impl std::fmt::Debug for v1::IssueTokenResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssueTokenResponse").field("about", &self.about).finish_non_exhaustive()
    }
}

/// Bytes of a blob in one chunk message.
pub const CHUNK: usize = 64 * 1024;

/// A message that does not say what its plain type can say.
#[derive(Debug, thiserror::Error)]
#[error("malformed {what}: {source}")]
pub struct BridgeError {
    what: &'static str,
    source: serde_json::Error,
}

/// Turns a record into its other form, plain type to message or back: the fields have the same names,
/// and either side refuses a name that it lacks.
///
/// # Errors
/// When a value is outside the target's vocabulary; the error names the field.
pub fn bridge<T: DeserializeOwned>(what: &'static str, from: &impl Serialize) -> Result<T, BridgeError> {
    serde_json::to_value(from)
        .map(without_nulls)
        .and_then(serde_json::from_value)
        .map_err(|source| BridgeError { what, source })
}

/// An absent field is absent, never null.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use edgeprof_common::run::RunRecord;

    use super::*;

    fn whole_run() -> serde_json::Value {
        serde_json::json!({
            "schema": "edgeprof.run.v1",
            "run_id": "r00000000000000000000000001", "job_id": "j0000000000001", "task_id": "t00000000000000000000000001",
            "attempt": 1, "labels": {"branch": "main"}, "suite": "quick", "scenario": "q8_0 kv i8 p1 n2",
            "started_at": "2026-01-01T00:00:00Z", "state": "ok", "reasons": ["none"],
            "error": {"class": "model", "code": "c", "message": "m", "hint": "h"},
            "provenance": "emulated",
            "board": {"id": "w/b", "uid": "u", "kind": "k", "cpu": "c", "isa": "i", "clock_hz": 25_000_000u64, "worker": "w", "labels": {"a": "b"}},
            "environment": {"emulator": "qemu", "version": "7.2", "machine": "m", "icount_shift": 6},
            "runtime": {"name": "edgeprof-engine", "version": "0.1.0", "threads": 1},
            "firmware": {"digest": format!("sha256:{}", "0".repeat(64)), "version": "1", "compiler": "rustc"},
            "model": {"name": "m", "digest": format!("sha256:{}", "1".repeat(64)), "format": "gguf", "arch": "llama",
                "params": 1, "quant": "q8_0", "weight_bytes": 2, "image_digest": format!("sha256:{}", "2".repeat(64)),
                "kv": "i8", "ctx": 3},
            "workload": {"n_prompt": 1, "n_gen": 2, "n_depth": 0, "n_gen_max": 2, "temperature": 0.8, "seed": u64::MAX,
                "prompt_tokens": [1], "output_tokens": [5, 6], "output_text": "x", "stop_reason": "length",
                "logits_hash": "0123456789abcdef", "verification": "hash"},
            "counts": {"counter": "instructions", "load": 1, "prefill": [2], "prefill_tokens": [1], "decode": [3]},
            "samples": [{"counter": "instructions", "load": 1, "prefill": [2], "prefill_tokens": [1], "decode": [3]}],
            "timing": {"ttft_ns": 1, "tpot_ns": 2, "prefill_tokens_per_second": 3.0, "decode_tokens_per_second": 4.0},
            "estimate": {"provenance": "estimated", "model": "m", "cycles": {"low": 1.0, "high": 2.0},
                "decode_tokens_per_second": {"low": 1.0, "high": 2.0}, "calibration": "uncalibrated"},
            "memory": {"arena": 1, "kv_cache": 2, "stack_high_water": 3, "static_ram": 4, "flash_code": 5,
                "flash_weights": 6, "method": "m"},
            "summary": {"decode": {"unit": "instructions/token", "direction": "lower", "n": 2, "median": 1.0, "mean": 1.5,
                "sd": 0.5, "ci95": {"low": 1.0, "high": 2.0}, "p90": 2.0, "discarded_warmups": 0}}
        })
    }

    /// The gRPC message and the JSON are one schema: a whole record survives the way there and back.
    #[test]
    fn a_whole_run_crosses_the_wire_form_unchanged() {
        let record: RunRecord = serde_json::from_value(whole_run()).unwrap();
        let message: v1::Run = bridge("run", &record).unwrap();
        let back: RunRecord = bridge("run", &message).unwrap();
        assert_eq!(back, record);
    }

    /// A field that one side lacks would be refused by name.
    #[test]
    fn a_word_outside_the_vocabulary_is_refused() {
        let mut message: v1::Run =
            bridge("run", &serde_json::from_value::<RunRecord>(whole_run()).unwrap()).unwrap();
        message.state = "splendid".into();
        let error = bridge::<RunRecord>("run", &message).unwrap_err().to_string();
        assert!(error.contains("splendid"), "{error}");
    }
}
