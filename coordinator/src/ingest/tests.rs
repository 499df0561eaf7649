use std::collections::BTreeMap;

use edgeprof_common::{
    AttemptNo, Digest, ErrorClass, JobId, TaskError, TaskId,
    run::{Board, Provenance, RunRecord, RunState, StopReason, Verification, json_schema},
};
use edgeprof_proto::v1;
use edgeprof_scheduler::Requirement;

use super::*;
use crate::store::rows::{FirmwarePin, ImageRow, JobRow, ModelFacts, Prepared, Reference, TaskDef};

struct World {
    job: JobRow,
    task: TaskDef,
    prepared: Prepared,
    board: Board,
}

fn world() -> World {
    let spec: edgeprof_common::job::JobSpec = serde_json::from_value(serde_json::json!({
        "models": [{"name": "m.bin", "digest": Digest::of(b"m")}],
        "boards": ["riscv32"], "n_prompt": [2], "n_gen": [3], "labels": {"branch": "main"},
    }))
    .unwrap();
    let (job, task) = (JobId::from_raw(1), TaskId::from_raw(2));
    let pin = FirmwarePin { file: Digest::of(b"elf"), loaded: Digest::of(b"loaded"), size: 3 };
    World {
        task: TaskDef {
            id: task,
            job,
            cell: spec.cells().remove(0),
            selector: "riscv32".into(),
            scenario: "native kv f16 p2 n3".into(),
            requirement: Requirement::kind("riscv32"),
            repetitions: 1,
            warmup: 0,
            firmware: BTreeMap::from([("riscv32".to_owned(), pin)]).into(),
            model: Some(ModelFacts {
                format: "llama2c".into(),
                arch: "llama".into(),
                params: 9,
                weight_bytes: 36,
            }),
            refusal: None,
        },
        job: JobRow {
            id: job,
            spec,
            submitted_at: "2026-01-01T00:00:00Z".into(),
            tasks: vec![task],
            idempotency_key: None,
            submitter: String::new(),
            first_seq: 0,
            trace: None,
        },
        prepared: Prepared {
            image: ImageRow { image: Digest::of(b"i"), size: 1, vocabulary: Digest::of(b"v") },
            tokens: vec![1, 7],
            stop_tokens: vec![],
            ctx: 5,
            arena_bytes: 100,
            reference: Some(Reference {
                tokens: vec![3, 4, 5],
                stop: StopReason::Length,
                logits_hash: "00000000000000ab".into(),
            }),
        },
        board: Board {
            id: "w/rv".parse().unwrap(),
            uid: None,
            kind: "riscv32".into(),
            cpu: "rv32".into(),
            isa: "rv32imafc".into(),
            clock_hz: Some(144_000_000),
            worker: "w".parse().unwrap(),
            labels: Default::default(),
        },
    }
}

fn sample(counter: &str, decode: [u64; 2]) -> v1::Sample {
    v1::Sample {
        counter: counter.into(),
        load: 10,
        prefill: vec![100, 110],
        prefill_tokens: vec![1, 1],
        decode: decode.to_vec(),
    }
}

/// What a board may send.
pub(crate) fn message() -> v1::Measurement {
    v1::Measurement {
        provenance: "emulated".into(),
        environment: Some(v1::Environment { emulator: Some("qemu".into()), ..Default::default() }),
        firmware: Some(v1::RunFirmware {
            digest: Digest::of(b"loaded").to_string(),
            version: "0.1.0".into(),
            compiler: None,
        }),
        engine_version: "0.1.0".into(),
        samples: vec![sample("instructions", [1000, 1002])],
        output_tokens: vec![3, 4, 5],
        stop_reason: "length".into(),
        logits_hash: "00000000000000ab".into(),
        memory: Some(v1::Memory { arena: 100, method: "m".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn record(world: &World, ended: Ended<'_>, attempt: u32) -> RunRecord {
    let subject = Subject {
        job: &world.job,
        task: &world.task,
        prepared: Some(&world.prepared),
        vocabulary: None,
        attempt: AttemptNo(attempt),
        started_at: (attempt > 0).then_some("2026-01-01T00:00:01Z"),
        board: (attempt > 0).then_some(&world.board),
    };
    let record = assemble(&subject, ended);
    let schema = serde_json::to_value(json_schema()).unwrap();
    let json = serde_json::to_value(&record).unwrap();
    jsonschema::validate(&schema, &json).unwrap_or_else(|error| panic!("{error} in {json:#}"));
    let _: v1::Run = edgeprof_proto::bridge("run", &record).unwrap();
    record
}

fn measured(change: impl FnOnce(&mut v1::Measurement)) -> RunRecord {
    let mut message = message();
    change(&mut message);
    record(&world(), Ended::Measured(&Measured::parse(&message).unwrap()), 1)
}

#[test]
fn a_clean_result_is_verified_by_its_hash_and_gets_an_estimate_but_no_timing() {
    let run = measured(|_| ());
    assert_eq!((run.state, run.reasons.as_slice()), (RunState::Ok, &[][..]));
    assert_eq!(run.workload.verification, Some(Verification::Hash));
    assert_eq!((run.workload.n_prompt, run.workload.n_gen), (Some(2), Some(3)));
    assert_eq!(run.summary["decode"].median, 1001.0);
    assert_eq!(run.summary["decode"].unit, "instructions/token");
    assert_eq!(run.summary["prefill"].median, 105.0);
    let estimate = run.estimate.unwrap();
    assert_eq!(estimate.provenance, Provenance::Estimated);
    assert!(estimate.cycles.low >= 1001.0 && estimate.cycles.low < estimate.cycles.high);
    assert!(run.timing.is_none(), "an emulated board has no time of its own");
}

#[test]
fn a_result_unlike_the_hosts_is_invalid_and_says_where() {
    let run = measured(|m| m.output_tokens = vec![3, 9, 5]);
    assert_eq!(run.state, RunState::Invalid);
    assert!(run.reasons[0].contains("generated token 2"), "{:?}", run.reasons);
    let run = measured(|m| m.logits_hash = "00000000000000ac".into());
    assert_eq!(run.state, RunState::Invalid);
    assert!(run.reasons[0].contains("on the host 00000000000000ab"), "{:?}", run.reasons);
    let run = measured(|m| m.logits_hash.clear());
    assert_eq!((run.state, run.workload.verification), (RunState::Ok, Some(Verification::Tokens)));
    let run = measured(|m| m.firmware.as_mut().unwrap().digest = Digest::of(b"other").to_string());
    assert_eq!(run.state, RunState::Invalid);
}

#[test]
fn repetitions_that_scatter_are_unsteady() {
    let run = measured(|m| m.samples.push(sample("instructions", [1000, 1003])));
    assert_eq!(run.state, RunState::Unsteady);
    let run = measured(|m| {
        m.provenance = "measured".into();
        m.samples = vec![sample("cycles", [1000, 1000]), sample("cycles", [1200, 1200])];
    });
    assert_eq!(run.state, RunState::Unsteady);
    assert!(run.timing.is_some() && run.estimate.is_none());
    assert_eq!(run.summary["decode"].n, 2);
}

#[test]
fn timing_comes_from_the_devices_clock() {
    let run = measured(|m| {
        m.provenance = "measured".into();
        m.samples = vec![sample("ns", [1_000_000, 3_000_000])];
    });
    let timing = run.timing.unwrap();
    assert_eq!((timing.ttft_ns, timing.tpot_ns), (210, Some(2_000_000)));
    assert_eq!(timing.decode_tokens_per_second, Some(500.0));
}

#[test]
fn what_was_never_tried_is_refused_and_what_was_tried_failed() {
    let error = TaskError::new(ErrorClass::Request, "does_not_fit", "too large");
    let run = record(&world(), Ended::Failed(&error), 0);
    assert_eq!((run.state, run.counts, run.board), (RunState::Refused, None, None));
    assert_eq!(run.error.unwrap().code, "does_not_fit");
    assert_eq!(record(&world(), Ended::Failed(&error), 2).state, RunState::Failed);
    assert_eq!(record(&world(), Ended::Cancelled, 1).state, RunState::Cancelled);
}

#[test]
fn a_result_that_contradicts_itself_is_named() {
    let bad = |change: fn(&mut v1::Measurement)| {
        let mut message = message();
        change(&mut message);
        Measured::parse(&message).unwrap_err().to_string()
    };
    assert!(bad(|m| m.samples.clear()).contains("no repetition"));
    assert!(bad(|m| m.samples[0].decode.truncate(1)).contains("generated tokens"));
    assert!(bad(|m| m.samples[0].prefill.truncate(1)).contains("prefill"));
    assert!(bad(|m| m.samples[0].counter = "apples".into()).contains("apples"));
    assert!(bad(|m| m.stop_reason = "bored".into()).contains("bored"));
    assert!(bad(|m| m.memory = None).contains("memory"));
    assert!(bad(|m| m.firmware.as_mut().unwrap().digest = "md5:0".into()).contains("md5:0"));
    assert!(bad(|m| m.logits_hash = "xyz".into()).contains("xyz"));
}

#[test]
fn what_a_board_that_does_nothing_gives_is_never_taken_for_a_figure() {
    let mut world = world();
    world.board.kind = "noop".into();
    world.task.firmware = BTreeMap::from([("noop".to_owned(), FirmwarePin::nothing())]).into();
    let message = v1::Measurement {
        stop_reason: "length".into(),
        reasons: vec!["it does nothing".into()],
        ..Default::default()
    };
    let record = record(&world, Ended::Measured(&Measured::parse(&message).unwrap()), 1);
    assert_eq!((record.state, record.provenance), (RunState::Invalid, None));
    assert_eq!(record.workload.verification, Some(Verification::None));
    assert!(record.counts.is_none() && record.estimate.is_none() && record.summary.is_empty());
    assert!(record.firmware.is_none() && record.runtime.is_none() && record.memory.is_none());
    assert_eq!(record.reasons, ["it does nothing"]);
}

#[test]
fn figures_without_their_origin_are_not_taken() {
    type Change = fn(&mut v1::Measurement);
    let cases: &[(Change, &str)] = &[
        (|m| m.provenance.clear(), "provenance"),
        (|m| m.firmware = None, "no firmware"),
        (|m| m.memory = None, "no memory"),
    ];
    for (change, word) in cases {
        let mut message = message();
        change(&mut message);
        let error = Measured::parse(&message).unwrap_err().to_string();
        assert!(error.contains(word), "{error} lacks {word}");
    }
}
