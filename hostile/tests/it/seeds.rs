//! Sound inputs of every parser, for fuzzers to start from.

use edgeprof_common::{Digest, TaskId, Token};
use edgeprof_link::{
    BoardHello, Encoder, FailCode, FromBoard, Kv, List, MAX_FRAME, Record, RunRequest, Stop, Text, ToBoard,
    Work,
};
use edgeprof_model::{Model, Quant, build_image};
use edgeprof_proto::v1::{self, from_worker::Frame as From, to_worker::Frame as To};
use prost::Message;
use serde::Serialize;

use super::models::{Gguf, Type, llama2c, tokenizer_bin};

/// Target, name, content.
pub(crate) fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| all.push((target, name.to_owned(), bytes));
    add("link-from-board", "run", stream(&from_board()));
    add("link-to-board", "run", stream(&to_board()));
    for (n, message) in from_board().iter().enumerate() {
        add("link-messages", &format!("from-{n}"), postcard::to_stdvec(message).unwrap());
    }
    for (n, message) in to_board().iter().enumerate() {
        add("link-messages", &format!("to-{n}"), postcard::to_stdvec(message).unwrap());
    }
    for (name, file) in [
        ("f32", Gguf::sound(3, Type::F32, 8).file()),
        ("f16", Gguf::sound(3, Type::F16, 8).file()),
        ("q8", Gguf::sound(3, Type::Q8, 32).file()),
        ("bpe", Gguf::sound(3, Type::F32, 4).byte_level(&byte_level(), &["h e", "Ġ t", "Ġt he"]).file()),
        ("v2", Gguf::sound(2, Type::F32, 4).file()),
    ] {
        let model = Model::load(&file, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        add("image", name, build_image(&model, Quant::Native).unwrap());
        if name == "f32" {
            add("image", "q4", build_image(&model, Quant::Q4_0).unwrap());
        }
        add("gguf", name, file);
    }
    let (model, tokenizer) = (llama2c(8, 8, 1, 12, 16), tokenizer_bin(12));
    Model::load(&model, Some(&tokenizer)).unwrap();
    add("llama2c", "plain", [&(tokenizer.len() as u32).to_le_bytes()[..], &tokenizer, &model].concat());
    add("tokenizer", "plain", [&[12, 0, 9, 0][..], " the t hé".as_bytes(), &tokenizer].concat());
    add("firmware", "elf32", elf(false));
    add("firmware", "elf64", elf(true));
    let addresses = [0x0800_0000_u64, 0x0800_0002].map(u64::to_le_bytes).concat();
    add("fault", "elf32", [&addresses, &elf(false)[..]].concat());
    add("fault", "elf64", [&addresses, &elf(true)[..]].concat());
    add("outbox", "measurement", result().encode_to_vec());
    add("outbox", "failure", failure().encode_to_vec());
    add("certificate", "worker", include_bytes!("worker.der").to_vec());
    add("certificate", "name", b"edgeprof:client/ann?role=operator".to_vec());
    add("revocations", "pem", include_bytes!("crl.pem").to_vec());
    add("revocations", "der", include_bytes!("crl.der").to_vec());
    add("authorization", "bearer", [&b"Bearer edgeprof_"[..], &[b'7'; 64]].concat());
    add("authorization", "basic", b"Basic YW5uOnNlY3JldA==".to_vec());
    add("traceparent", "sampled", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_vec());
    add("traceparent", "later", b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more".to_vec());
    let asked = |who: &str, before| v1::ListAuditRequest {
        who: who.into(),
        since: "1970-01-01T00:00:20Z".into(),
        limit: 2,
        before,
    };
    add("audit", "all", asked("", 0).encode_to_vec());
    add("audit", "cursor", asked("ann", 12).encode_to_vec());
    add("config", "worker", WORKER.into());
    add("config", "coordinator", COORDINATOR.into());
    add("config", "client", b"coordinator = \"http://lab:7450\"\n".to_vec());
    add("prepare", "built", b"\"built\"".to_vec());
    add("prepare", "workload", WORKLOAD.into());
    add("prepare", "broken", BROKEN.into());
    for (n, word) in
        ["w/mps2-an386.0", "j0000000000001", "t00000000000000000000000001", "q8_0", "high"].iter().enumerate()
    {
        add("words", &n.to_string(), word.as_bytes().to_vec());
    }
    add("words", "digest", Digest::of(b"m").to_string().into_bytes());
    for (n, word) in ["all", "rack=1", "mps2-an386x2", "a/m4-0", "riscv23"].iter().enumerate() {
        add("selector", &n.to_string(), word.as_bytes().to_vec());
    }
    add("emulator", "pty", b"char device redirected to /dev/pts/5 (label u)\n".to_vec());
    add("emulator", "version", b"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n".to_vec());
    add("submit", "job", submission().encode_to_vec());
    add("start", "start", start().encode_to_vec());
    add("session", "whole", session());
    add("result", "measurement", result().encode_to_vec());
    add("result", "failure", failure().encode_to_vec());
    add("run-json", "whole", RUN.into());
    let record: edgeprof_common::run::RunRecord = serde_json::from_str(RUN).unwrap();
    let message: v1::Run = edgeprof_proto::bridge("run", &record).unwrap();
    add("run-message", "whole", message.encode_to_vec());
    all
}

fn byte_level() -> Vec<(String, i32)> {
    let mut pieces = vec![("<|endoftext|>".to_owned(), 3), ("<|user|>".to_owned(), 4)];
    pieces.extend(["h", "e", "Ġ", "t", "n", "d", ",", "he", "Ġt", "Ġthe"].map(|piece| (piece.to_owned(), 1)));
    pieces
}

fn stream<M: Serialize>(messages: &[M]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut line = vec![0];
    for message in messages {
        let mut out = [0; MAX_FRAME];
        let len = encoder.encode(message, &mut out).unwrap();
        line.extend_from_slice(&out[..len]);
    }
    line
}

fn to_board() -> Vec<ToBoard> {
    vec![
        ToBoard::Ping { nonce: 7 },
        ToBoard::Hello,
        ToBoard::Image,
        ToBoard::Run(RunRequest {
            run: 1,
            prompt_len: 3,
            uncounted: 0,
            n_gen: 4,
            ctx: 8,
            kv: Kv::F16,
            temperature: 0.8,
            seed: 5,
            stop_tokens: List::from_slice(&[1, 2]).unwrap(),
        }),
        ToBoard::Prompt { run: 1, offset: 0, tokens: List::from_slice(&[1, 403, 300]).unwrap() },
        ToBoard::Go { run: 1 },
        ToBoard::Heard { run: 1, next: 3, again: true },
        ToBoard::Cancel { run: 1 },
        ToBoard::Load { total_len: 9_000, crc32: 9 },
        ToBoard::Chunk { offset: 512, data: List::from_slice(&[7; 64]).unwrap() },
        ToBoard::CodeSum { address: 4, len: 8 },
    ]
}

fn from_board() -> Vec<FromBoard> {
    vec![
        FromBoard::Pong { nonce: 7, session: 9 },
        FromBoard::Hello(BoardHello {
            protocol: 2,
            kind: Text::cut("mps2-an386"),
            build_id: Text::cut("v0.1.0"),
            firmware_version: Text::cut("0.1.0"),
            engine_version: Text::cut("0.1.0"),
            image_format: 1,
            dtypes: 15,
            kv: 7,
            isa: 5,
            arena_bytes: 1 << 20,
            model_region_bytes: 3 << 20,
            max_prompt: 256,
            max_frame: 1_100,
            tick_hz: 25_000_000,
            overhead_ticks: 12,
            counter: Text::cut("instructions"),
            static_ram: 9_000,
            flash_code: 90_000,
            stack_bytes: 8_192,
        }),
        FromBoard::Accepted { run: 1, received: 3, gap: false },
        record(0, Record::Interval { work: Work::Prefill { tokens: 3 }, ticks: 123_456 }),
        record(1, Record::Token { index: 0, id: 403 }),
        record(
            2,
            Record::Done {
                generated: 1,
                stop: Stop::Length,
                logits_hash: 0x0123_4567_89ab_cdef,
                arena_used: 1_000,
                kv_bytes: 100,
                stack_high_water: 900,
            },
        ),
        FromBoard::Loading { crc32: 9, next: 512, gap: true },
        FromBoard::CodeSum { address: 4, len: 8, crc32: Some(5) },
        FromBoard::Trace { addresses: List::from_slice(&[0x1a2c, 0x1b00]).unwrap() },
        FromBoard::Failed { run: 1, code: FailCode::ArenaTooSmall { need: 9, have: 8 } },
        FromBoard::Panic { message: Text::cut("panicked") },
        FromBoard::Fault { pc: 1, lr: 2, status: 3 },
    ]
}

fn record(number: u32, what: Record) -> FromBoard {
    FromBoard::Record { run: 1, number, what }
}

/// One loaded segment of four bytes.
fn elf(wide: bool) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
    file.resize(16, 0);
    let word = |file: &mut Vec<u8>, n: u64| {
        if wide { file.extend(n.to_le_bytes()) } else { file.extend((n as u32).to_le_bytes()) }
    };
    let (machine, head, entry) = if wide { (243_u16, 64_u16, 56_u16) } else { (40, 52, 32) };
    for half in [2, machine, 1, 0] {
        file.extend(half.to_le_bytes());
    }
    for n in [0, u64::from(head), 0] {
        word(&mut file, n);
    }
    file.extend([0; 4]);
    for half in [head, entry, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let data = u64::from(head + entry);
    file.extend(1_u32.to_le_bytes());
    if wide {
        file.extend(5_u32.to_le_bytes());
    }
    for n in [data, 0x2000_0000, 0x0800_0000, 4, 4] {
        word(&mut file, n);
    }
    if !wide {
        file.extend(5_u32.to_le_bytes());
    }
    word(&mut file, 4);
    file.extend(b"code");
    file
}

fn lease() -> Option<v1::Lease> {
    let token = Token { epoch: edgeprof_common::Epoch(1), counter: 1 };
    Some(v1::Lease { epoch: token.epoch.0, counter: token.counter })
}

fn task() -> String {
    TaskId::from_raw(1).to_string()
}

fn result() -> v1::Result {
    v1::Result {
        lease: lease(),
        task_id: task(),
        board: "w/b".into(),
        outcome: Some(v1::result::Outcome::Measurement(v1::Measurement {
            provenance: "emulated".into(),
            environment: Some(v1::Environment {
                emulator: Some("qemu-system-arm".into()),
                version: Some("7.2".into()),
                machine: Some("mps2-an386".into()),
                icount_shift: Some(6),
            }),
            firmware: Some(v1::RunFirmware {
                digest: Digest::of(b"f").to_string(),
                version: "0.1.0".into(),
                compiler: Some("rustc".into()),
            }),
            engine_version: "0.1.0".into(),
            samples: vec![v1::Sample {
                counter: "instructions".into(),
                load: 1,
                prefill: vec![2_000],
                prefill_tokens: vec![4],
                decode: vec![500, 501],
            }],
            discarded_warmups: 0,
            output_tokens: vec![5, 6, 7],
            stop_reason: "length".into(),
            logits_hash: "0123456789abcdef".into(),
            memory: Some(v1::Memory {
                arena: 1,
                kv_cache: 2,
                stack_high_water: Some(3),
                static_ram: Some(4),
                flash_code: Some(5),
                flash_weights: 6,
                method: "m".into(),
            }),
            reasons: Vec::new(),
            uid: None,
        })),
        transcript: Vec::new(),
    }
}

fn failure() -> v1::Result {
    v1::Result {
        outcome: Some(v1::result::Outcome::Error(v1::Error {
            class: "infrastructure".into(),
            code: "board_died".into(),
            message: "it died".into(),
            hint: Some("restart it".into()),
        })),
        ..result()
    }
}

fn submission() -> v1::SubmitJobRequest {
    let spec: edgeprof_common::job::JobSpec = serde_json::from_value(serde_json::json!({
        "models": [{"name": "m.bin", "digest": Digest::of(b"m"), "tokenizer": Digest::of(b"t")}],
        "boards": ["all", "rack=1"], "prompts": ["once"], "n_prompt": [4], "n_gen": [8], "quants": ["q8_0"],
        "kvs": ["i8"], "ctx": 16, "labels": {"branch": "main"},
    }))
    .unwrap();
    let spec = edgeprof_proto::bridge("job", &spec).unwrap();
    v1::SubmitJobRequest { spec: Some(spec), idempotency_key: "k".into(), submitter: "ci".into() }
}

fn start() -> v1::ToWorker {
    let spec = v1::AttemptSpec {
        firmware_digest: Digest::of(b"f").to_string(),
        firmware_size: 9,
        firmware_loaded_digest: Digest::of(b"l").to_string(),
        image_digest: Digest::of(b"i").to_string(),
        image_size: 5,
        tokens: vec![1, 2, 3],
        n_depth: 1,
        n_gen: 4,
        stop_tokens: vec![2],
        ctx: 8,
        kv: "f16".into(),
        temperature: 0.5,
        seed: 1,
        repetitions: 1,
        warmup: 0,
    };
    let start = v1::Start {
        lease: lease(),
        task_id: task(),
        board: "w/b".into(),
        spec: Some(spec),
        traceparent: None,
    };
    v1::ToWorker { command: 1, frame: Some(To::Start(Box::new(start))) }
}

fn session() -> Vec<u8> {
    let board = v1::BoardReport {
        id: "w/b".into(),
        kind: "mps2-an386".into(),
        health: "good".into(),
        idle: true,
        ..v1::BoardReport::default()
    };
    let held =
        |state: &str| v1::Held { lease: lease(), task_id: task(), board: "w/b".into(), state: state.into() };
    let frames = [
        From::Hello(Box::new(v1::WorkerHello {
            protocol: 1,
            protocol_minor: 0,
            worker_id: "w".into(),
            incarnation: edgeprof_common::Incarnation::from_raw(1).to_string(),
            version: "0.1.0".into(),
            site: String::new(),
            boards: vec![board.clone()],
            held: vec![held("running"), held("outbox")],
            draining: false,
        })),
        From::Heartbeat(v1::Heartbeat {
            boards: vec![board.clone()],
            held: vec![held("staged")],
            draining: true,
        }),
        From::Board(Box::new(board)),
        From::Accepted(v1::Accepted { lease: lease(), task_id: task(), board: "w/b".into() }),
        From::Started(v1::Started { lease: lease(), task_id: task(), board: "w/b".into() }),
        From::Progress(v1::AttemptProgress {
            lease: lease(),
            task_id: task(),
            board: "w/b".into(),
            phase: "run".into(),
            done: 1,
            total: 9,
        }),
        From::Rejected(v1::Rejected {
            lease: lease(),
            task_id: task(),
            board: "w/b".into(),
            reason: "busy".into(),
            message: "it is".into(),
        }),
        From::Result(Box::new(result())),
    ];
    let mut out = Vec::new();
    for frame in frames {
        let message = v1::FromWorker { last_command: 1, frame: Some(frame) }.encode_to_vec();
        out.extend((message.len() as u16).to_le_bytes());
        out.extend(message);
    }
    out
}

const WORKER: &str = r#"listen = "127.0.0.1:7451"
site = "attic"

[limits]
frame_timeout = "60s"
cache_bytes = 4294967296

[[board]]
kind = "riscv32"
name = "shelf"
transport = "pty"
labels = { rack = "2" }
"#;

const COORDINATOR: &str = r#"listen = "0.0.0.0:7450"
workers = ["lab:7451"]
discovery = false
prepare_timeout = "2m"
log_format = "json"
"#;

const WORKLOAD: &str = r#"{"workload":{"index":0,"outcome":{"Ok":{"tokens":[1],"stop_tokens":[2],"ctx":8,
"arena_bytes":9,"reference":{"tokens":[5],"stop":"length","logits_hash":"0123456789abcdef"}}}}}"#;

const BROKEN: &str =
    r#"{"broken":{"class":"model","code":"model_invalid","message":"no","hint":"fetch it again"}}"#;

const RUN: &str = include_str!("run.json");
