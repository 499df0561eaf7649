//! The published JSON Schema of a run record is the one that the types have.
//!
//! After a change of `edgeprof_common::run` write it anew with
//! `UPDATE_SCHEMA=1 cargo test -p edgeprof-common --test schema`.

use std::{fs, path::PathBuf};

use edgeprof_common::run::{RunRecord, SCHEMA, json_schema};
use serde_json::{Value, json};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schema/edgeprof.run.v1.json")
}

/// The schema of the types, stricter in two things that serde cannot say: an absent field is absent,
/// never null, and the schema's name is itself.
fn current() -> Value {
    let mut schema = without_null(serde_json::to_value(json_schema()).unwrap());
    schema["title"] = SCHEMA.into();
    schema["properties"]["schema"]["const"] = SCHEMA.into();
    schema
}

fn without_null(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut out = serde_json::Map::new();
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("type", Value::Array(mut types)) => {
                        types.retain(|word| word != "null");
                        let alone = if types.len() == 1 { types.remove(0) } else { Value::Array(types) };
                        out.insert(key, alone);
                    }
                    ("anyOf", Value::Array(mut ways)) => {
                        ways.retain(|way| way["type"] != "null");
                        match <[Value; 1]>::try_from(ways) {
                            Ok([Value::Object(only)]) => out.extend(only),
                            Ok([other]) => drop(out.insert(key, Value::Array(vec![other]))),
                            Err(ways) => drop(out.insert(key, Value::Array(ways))),
                        }
                    }
                    (_, value) => drop(out.insert(key, without_null(value))),
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_null).collect()),
        other => other,
    }
}

/// Every field that there is.
fn whole() -> Value {
    let digest = |c: &str| format!("sha256:{}", c.repeat(64));
    let sample = json!({"counter": "instructions", "load": 1000, "prefill": [11_924_580u64], "prefill_tokens": [5],
        "decode": [2_384_916u64, u64::MAX]});
    json!({
        "schema": "edgeprof.run.v1",
        "run_id": "r00000000000000000000000001", "job_id": "j0000000000001",
        "task_id": "t00000000000000000000000001", "attempt": 1, "labels": {"branch": "main"}, "suite": "quick",
        "scenario": "q8_0 kv i8 p5 n3", "started_at": "2026-01-01T00:00:00Z", "state": "invalid",
        "reasons": ["the logits differ from the host's"],
        "error": {"class": "infrastructure", "code": "wrong_hash", "message": "m", "hint": "h"},
        "provenance": "emulated",
        "board": {"id": "lab-1/mps2-an386-0", "uid": "0001", "kind": "mps2-an386", "cpu": "cortex-m4f",
            "isa": "armv7e-m+fp", "clock_hz": 25_000_000, "worker": "lab-1", "labels": {"site": "attic"}},
        "environment": {"emulator": "qemu", "version": "7.2.0", "machine": "mps2-an386", "icount_shift": 6},
        "runtime": {"name": "edgeprof-engine", "version": "0.1.0", "threads": 1},
        "firmware": {"digest": digest("0"), "version": "0.1.0", "compiler": "rustc 1.95.0"},
        "model": {"name": "stories260K.bin", "digest": digest("1"), "format": "llama2.c", "arch": "llama",
            "params": 260_032, "quant": "q8_0", "weight_bytes": 281_600, "image_digest": digest("2"), "kv": "i8",
            "ctx": 8},
        "workload": {"n_prompt": 5, "n_gen": 3, "n_depth": 0, "n_gen_max": 3, "temperature": 0.0, "seed": u64::MAX,
            "prompt_tokens": [1, 2, 3, 4, 5], "output_tokens": [6, 7, 8], "output_text": " there was",
            "stop_reason": "length", "logits_hash": "0123456789abcdef", "verification": "hash"},
        "counts": sample, "samples": [sample],
        "timing": {"ttft_ns": 1, "tpot_ns": 2, "prefill_tokens_per_second": 3.5, "decode_tokens_per_second": 4.5},
        "estimate": {"provenance": "estimated", "model": "cpi-bounds-cortex-m4-v1",
            "cycles": {"low": 1.0, "high": 2.0}, "decode_tokens_per_second": {"low": 4.8, "high": 10.5},
            "calibration": "uncalibrated"},
        "memory": {"arena": 217_088, "kv_cache": 4096, "stack_high_water": 3000, "static_ram": 9000,
            "flash_code": 60_000, "flash_weights": 282_000, "method": "arena high-water mark"},
        "summary": {"decode": {"unit": "instructions/token", "direction": "lower", "n": 2, "median": 1.0,
            "mean": 1.5, "sd": 0.5, "ci95": {"low": 1.0, "high": 2.0}, "p90": 2.0, "discarded_warmups": 0}}
    })
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::create_dir_all(path().parent().unwrap()).unwrap();
        fs::write(path(), serde_json::to_string_pretty(&current()).unwrap() + "\n").unwrap();
    }
    let committed: Value = serde_json::from_str(&fs::read_to_string(path()).unwrap()).unwrap();
    assert_eq!(
        committed,
        current(),
        "run: UPDATE_SCHEMA=1 cargo test -p edgeprof-common --test schema; a field that goes or changes its \
         meaning takes a new schema name"
    );
}

#[test]
fn a_whole_record_and_a_bare_one_are_valid() {
    let validator = jsonschema::validator_for(&current()).unwrap();
    let record: RunRecord = serde_json::from_value(whole()).unwrap();
    // Nothing of the example is lost on the way through the types: it has every field under its name.
    assert_eq!(serde_json::to_value(&record).unwrap()["estimate"], whole()["estimate"]);
    validator.validate(&serde_json::to_value(&record).unwrap()).unwrap();
    validator.validate(&whole()).unwrap();

    let mut bare = whole();
    for absent in [
        "labels",
        "suite",
        "started_at",
        "reasons",
        "error",
        "provenance",
        "board",
        "environment",
        "runtime",
        "firmware",
        "counts",
        "samples",
        "timing",
        "estimate",
        "memory",
        "summary",
    ] {
        bare.as_object_mut().unwrap().remove(absent).unwrap();
    }
    validator.validate(&bare).unwrap();
    let text = serde_json::to_string(&serde_json::from_value::<RunRecord>(bare).unwrap()).unwrap();
    assert!(!text.contains("null"), "{text}");
}

#[test]
fn what_the_schema_does_not_name_is_refused() {
    let validator = jsonschema::validator_for(&current()).unwrap();
    let with = |pointer: &str, key: &str, value: Value| {
        let mut record = whole();
        record.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(key.into(), value);
        record
    };
    for wrong in [
        with("", "speed", json!(1)),
        with("/board", "voltage", json!(3.3)),
        with("/summary/decode", "stddev", json!(1.0)),
        with("", "state", json!("splendid")),
        with("/workload", "n_gen_max", json!("three")),
        with("/model", "kv", json!("q8_0")),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
        assert!(serde_json::from_value::<RunRecord>(wrong).is_err());
    }
    for null in ["suite", "board", "timing"] {
        assert!(!validator.is_valid(&with("", null, Value::Null)), "{null}");
    }
    assert!(!validator.is_valid(&with("", "schema", json!("edgeprof.run.v2"))));
    let mut missing = whole();
    missing.as_object_mut().unwrap().remove("task_id");
    assert!(!validator.is_valid(&missing));
}
