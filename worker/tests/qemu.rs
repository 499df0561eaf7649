//! Real emulators, real firmware, the whole worker but its process.

mod support;

use std::{collections::BTreeMap, fs, time::Duration};

use edgeprof_boards::catalogue;
use edgeprof_model::{KvType, Model, Quant, build_image, reference};
use edgeprof_proto::v1::{self, from_worker::Frame as From, result::Outcome, to_worker::Frame as To};
use edgeprof_worker::config::{Limits, Transport};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::{LIFE, Lab, Session, firmware, lease, model, serving, spec};
use tokio::sync::Mutex;

/// One test at a time: they count the emulators of this process, and share its two cores with them.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The model that ships with the project, which fits the smallest board at q4_0.
fn shipped() -> Model {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/edgeprof-kjv-280k.gguf");
    Model::open(file.as_ref(), None).unwrap()
}

fn measured(outcome: Outcome) -> v1::Measurement {
    match outcome {
        Outcome::Measurement(measurement) => measurement,
        other => panic!("{other:?} is no measurement"),
    }
}

fn error(outcome: Outcome) -> v1::Error {
    match outcome {
        Outcome::Error(error) => error,
        other => panic!("{other:?} is no error"),
    }
}

/// The emulators that are children of this process, by board kind's machine.
fn emulators(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<_> = rest.split(' ').collect();
        if name.contains("qemu-system") && fields[0] != "Z" && fields[1] == parent.to_string() {
            found.push(pid);
        }
    }
    found
}

/// The only emulator of this process.
fn emulator() -> Pid {
    let all = emulators(std::process::id());
    assert_eq!(all.len(), 1);
    Pid::from_raw(i32::try_from(all[0]).unwrap())
}

/// Twice the same counts and hash, and the host's hash and tokens.
async fn two_runs_agree_with_each_other_and_the_host(kind: &'static str, transport: Transport) {
    let lab = Lab::start(&[(kind, transport)]).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let board = format!("w/{kind}.0");
    let mut spec = spec(&mut session, kind, 6);
    let first = measured(session.run(1, &board, &spec).await);
    (spec.repetitions, spec.warmup) = (2, 1);
    let second = measured(session.run(2, &board, &spec).await);

    assert_eq!((&first.reasons, &second.reasons), (&vec![], &vec![]));
    assert_eq!((first.samples.len(), second.samples.len(), second.discarded_warmups), (1, 2, 1));
    assert!(second.samples.iter().all(|sample| *sample == first.samples[0]), "{first:?} {second:?}");
    let sample = &first.samples[0];
    assert_eq!((sample.counter.as_str(), sample.prefill.len(), sample.decode.len()), ("instructions", 3, 5));
    assert!(sample.decode.iter().all(|n| *n > 10_000), "{sample:?}");

    let host = reference::run(
        &model(),
        &reference::Request {
            prompt: &spec.tokens,
            n_gen: spec.n_gen,
            temperature: 0.0,
            seed: 0,
            stop_tokens: &[],
            ctx: spec.ctx,
            kv: KvType::F16,
        },
    )
    .unwrap();
    assert_eq!(first.output_tokens, host.tokens);
    assert_eq!(first.logits_hash, format!("{:016x}", host.logits_hash));
    assert_eq!(second.logits_hash, first.logits_hash);

    let environment = first.environment.unwrap();
    assert!(environment.version.unwrap().starts_with(|c: char| c.is_ascii_digit()));
    let memory = first.memory.unwrap();
    assert_eq!((memory.arena, memory.flash_weights), (host.arena_bytes, spec.image_size));
    assert!(memory.kv_cache > 0 && memory.stack_high_water > Some(0));
    let firmware = first.firmware.unwrap();
    let parsed = edgeprof_worker::firmware::Firmware::parse(&session.blobs[&spec.firmware_digest]).unwrap();
    assert_eq!(firmware.digest, parsed.loaded.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn mps2_an386_over_a_socket() {
    let _alone = ALONE.lock().await;
    two_runs_agree_with_each_other_and_the_host("mps2-an386", Transport::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mps2_an385_without_an_fpu() {
    let _alone = ALONE.lock().await;
    two_runs_agree_with_each_other_and_the_host("mps2-an385", Transport::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn riscv64_with_words_of_64_bits() {
    let _alone = ALONE.lock().await;
    two_runs_agree_with_each_other_and_the_host("riscv64", Transport::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn riscv32_over_a_socket() {
    let _alone = ALONE.lock().await;
    two_runs_agree_with_each_other_and_the_host("riscv32", Transport::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn riscv32_over_a_pseudo_terminal() {
    let _alone = ALONE.lock().await;
    two_runs_agree_with_each_other_and_the_host("riscv32", Transport::Pty).await;
}

/// The shipped model on every kind of the catalogue: the host's logits, and the same counts on five runs, each
/// on a board that was just started.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_computes_what_the_host_does_and_counts_the_same_five_times() {
    let _alone = ALONE.lock().await;
    let model = shipped();
    let image = build_image(&model, Quant::Q4_0).unwrap();
    let prompt = model.tokenizer().encode("In the beginning");
    let host = reference::run(
        &image,
        &reference::Request {
            prompt: &prompt,
            n_gen: 21 - prompt.len() as u32,
            temperature: 0.0,
            seed: 0,
            stop_tokens: &[],
            ctx: 20,
            kv: KvType::I8,
        },
    )
    .unwrap();

    let kinds: Vec<_> = catalogue().kinds().iter().filter(|kind| kind.emulator.is_some()).collect();
    let boards: Vec<_> = kinds.iter().map(|kind| (kind.name.as_str(), Transport::Socket)).collect();
    let mut counted = BTreeMap::new();
    for round in 1..=5 {
        let mut lab = Lab::start(&boards).await;
        let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
        for (number, kind) in kinds.iter().enumerate() {
            let spec = v1::AttemptSpec {
                image_size: image.len() as u64,
                image_digest: session.keep(image.clone()),
                tokens: prompt.clone(),
                n_depth: 0,
                n_gen: host.tokens.len() as u32,
                ctx: 20,
                kv: "i8".into(),
                ..spec(&mut session, &kind.name, 0)
            };
            let run = measured(session.run(1 + number as u64, &format!("w/{}.0", kind.name), &spec).await);
            assert_eq!(run.reasons, Vec::<String>::new(), "{}", kind.name);
            assert_eq!(run.output_tokens, host.tokens, "{}", kind.name);
            assert_eq!(run.logits_hash, format!("{:016x}", host.logits_hash), "{}", kind.name);
            let first = counted.entry(&kind.name).or_insert_with(|| run.samples.clone());
            assert_eq!(*first, run.samples, "{} in round {round}", kind.name);
        }
        lab.down().await;
    }
    assert_eq!(counted.len(), catalogue().kinds().len(), "every kind is emulated");
}

/// The victim's attempt fails as infrastructure, its board comes back, and its neighbour notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_emulator_costs_its_own_attempt_and_nothing_else() {
    let _alone = ALONE.lock().await;
    let lab = Lab::start(&[("riscv32", Transport::Socket), ("riscv32", Transport::Socket)]).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let long = spec(&mut session, "riscv32", 3_000);
    session.good("w/riscv32.0").await;
    session.start(1, 1, "w/riscv32.0", &long).await;
    let running =
        |frame| matches!(frame, From::Progress(v1::AttemptProgress { done: 20.., .. })).then_some(());
    session.until(running).await;
    let victim = emulator();
    session.start(2, 2, "w/riscv32.1", &long).await;
    session
        .until(|frame| {
            matches!(frame, From::Progress(p) if p.board == "w/riscv32.1" && p.done > 20).then_some(())
        })
        .await;
    kill(victim, Signal::SIGKILL).unwrap();

    let failed = session.result().await;
    session.ack(&failed).await;
    assert_eq!(failed.board, "w/riscv32.0");
    let error = error(failed.outcome.unwrap());
    assert_eq!((error.class.as_str(), error.code.as_str()), ("infrastructure", "board_died"), "{error:?}");
    assert!(error.message.contains("SIGKILL"), "{error:?}");

    let short = spec(&mut session, "riscv32", 4);
    measured(session.run(3, "w/riscv32.0", &short).await);
    let cancel = v1::CancelAttempt {
        lease: Some(lease(1, 2)),
        task_id: edgeprof_common::TaskId::from_raw(2).to_string(),
        board: "w/riscv32.1".into(),
    };
    session.send(To::Cancel(cancel)).await;
    let neighbour = session.result().await;
    session.ack(&neighbour).await;
    assert_eq!(neighbour.outcome, Some(Outcome::Cancelled(v1::Cancelled {})));
    measured(session.run(4, "w/riscv32.1", &short).await);
}

/// An idle board that dies is noticed without work, and restarted.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_board_that_dies_comes_back() {
    let _alone = ALONE.lock().await;
    let lab = Lab::start(&[("riscv32", Transport::Socket)]).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let spec = spec(&mut session, "riscv32", 2);
    measured(session.run(1, "w/riscv32.0", &spec).await);
    let victim = emulator();
    kill(victim, Signal::SIGKILL).unwrap();
    session
        .until(|frame| match frame {
            From::Board(report) => (report.health == "unknown").then_some(()),
            _ => None,
        })
        .await;
    session.good("w/riscv32.0").await;
    measured(session.run(2, "w/riscv32.0", &spec).await);
}

/// A session that breaks does not stop what runs, and the result waits for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_outlives_session_and_worker() {
    let _alone = ALONE.lock().await;
    let mut lab = Lab::start(&[("riscv32", Transport::Socket)]).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let spec = spec(&mut session, "riscv32", 4);
    session.good("w/riscv32.0").await;
    session.start(1, 1, "w/riscv32.0", &spec).await;
    session.until(|frame| matches!(frame, From::Started(_)).then_some(())).await;
    drop(session);

    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let result = session.result().await;
    assert!(matches!(result.outcome, Some(Outcome::Measurement(_))));
    assert_eq!(session.held().await[0].state, "outbox");
    drop(session);

    lab.down().await;
    lab.up().await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    assert_eq!(session.hello.held[0].state, "outbox");
    assert_eq!(session.result().await, result);
    session.ack(&result).await;
    while !session.held().await.is_empty() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_is_to_blame_for_is_told_so_and_the_board_goes_on() {
    let _alone = ALONE.lock().await;
    let lab = Lab::start(&[("mps2-an386", Transport::Socket)]).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let good = spec(&mut session, "mps2-an386", 2);
    let board = "w/mps2-an386.0";

    let mut damaged = model();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let damaged = v1::AttemptSpec { image_digest: session.keep(damaged), ..good.clone() };
    let refused = error(session.run(1, board, &damaged).await);
    assert_eq!((refused.class.as_str(), refused.code.as_str()), ("model", "image_refused"), "{refused:?}");

    let large = v1::AttemptSpec { ctx: 1_000_000, ..good.clone() };
    let refused = error(session.run(2, board, &large).await);
    assert_eq!((refused.class.as_str(), refused.code.as_str()), ("model", "arena_too_small"), "{refused:?}");

    let other = v1::AttemptSpec { firmware_digest: session.keep(firmware("riscv32")), ..good.clone() };
    let refused = error(session.run(3, board, &other).await);
    assert_ne!(refused.class, "model", "{refused:?}");

    let none = v1::AttemptSpec { firmware_digest: session.keep(b"#!/bin/sh".to_vec()), ..good.clone() };
    let refused = error(session.run(4, board, &none).await);
    assert_eq!(
        (refused.class.as_str(), refused.code.as_str()),
        ("request", "firmware_refused"),
        "{refused:?}"
    );

    measured(session.run(5, board, &good).await);
}

/// Neither SIGKILL nor SIGTERM to a worker in the middle of its work leaves anything of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_emulator_outlives_its_worker() {
    let _alone = ALONE.lock().await;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        no_emulator_outlives(signal).await;
    }
}

async fn no_emulator_outlives(signal: Signal) {
    let folder = tempfile::tempdir().unwrap();
    let (ready, config) = (folder.path().join("ready"), folder.path().join("worker.toml"));
    fs::write(&config, "[limits]\ndrain_grace = \"0s\"\n").unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_edgeprof-worker"));
    command
        .args(["--listen", "127.0.0.1:0", "--site", "lab", "--board", "riscv32x2", "--name", "w"])
        .arg("--data")
        .arg(folder.path().join("data"))
        .arg("--config")
        .arg(&config)
        .stderr(std::process::Stdio::null());
    let (mut worker, address) = serving(command, &ready).await;
    let mut session = Session::open(&address, &LIFE).await.unwrap();
    let long = spec(&mut session, "riscv32", 3_000);
    for (counter, board) in [(1, "w/riscv32.0"), (2, "w/riscv32.1")] {
        session.good(board).await;
        session.start(counter, u128::from(counter), board, &long).await;
        session
            .until(|frame| {
                matches!(frame, From::Progress(p) if p.board == board && p.done > 20).then_some(())
            })
            .await;
    }
    let pids = emulators(worker.id().unwrap());
    assert_eq!(pids.len(), 2);
    let pid = Pid::from_raw(i32::try_from(worker.id().unwrap()).unwrap());
    kill(pid, signal).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(15), worker.wait()).await.unwrap().unwrap();
    assert_eq!(status.success(), signal == Signal::SIGTERM, "{status}");
    let alive = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.contains("qemu") && !stat.contains(") Z"))
    };
    // Nobody tells of the end of a process that is not one's child: it is looked for.
    let gone = async {
        while pids.iter().any(alive) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("no emulator is left");
}

/// A board that never answers is given up in time, and hurts nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_firmware_that_does_not_answer_is_given_up() {
    let _alone = ALONE.lock().await;
    let limits = Limits { boot_timeout: Duration::from_secs(3), ..Limits::default() };
    let lab = Lab::with(&[("riscv32", Transport::Socket)], limits).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let good = spec(&mut session, "riscv32", 2);
    // An image of another machine: it loads, and does nothing good.
    let mute = v1::AttemptSpec { firmware_digest: session.keep(firmware("mps2-an386")), ..good.clone() };
    let failed = error(session.run(1, "w/riscv32.0", &mute).await);
    assert!(["board_hung", "board_died"].contains(&failed.code.as_str()), "{failed:?}");
    measured(session.run(2, "w/riscv32.0", &good).await);
}

/// A stopped emulator sends nothing: the deadline ends the attempt, and the board is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_that_stands_still_is_a_hung_board() {
    let _alone = ALONE.lock().await;
    let limits = Limits { frame_timeout: Duration::from_secs(3), ..Limits::default() };
    let lab = Lab::with(&[("riscv32", Transport::Socket)], limits).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let long = spec(&mut session, "riscv32", 3_000);
    session.good("w/riscv32.0").await;
    session.start(1, 1, "w/riscv32.0", &long).await;
    session.until(|frame| matches!(frame, From::Progress(p) if p.done > 20).then_some(())).await;
    let victim = emulator();
    kill(victim, Signal::SIGSTOP).unwrap();
    let failed = session.result().await;
    session.ack(&failed).await;
    let error = error(failed.outcome.unwrap());
    assert_eq!((error.class.as_str(), error.code.as_str()), ("infrastructure", "board_hung"), "{error:?}");
    let short = spec(&mut session, "riscv32", 2);
    measured(session.run(2, "w/riscv32.0", &short).await);
}

/// What waits for an emulated board starts in no silence of the coordinator, who may have given it to another.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_on_an_emulator_before_the_coordinator_has_greeted_anew() {
    let _alone = ALONE.lock().await;
    let limits = Limits { frame_timeout: Duration::from_secs(60), ..Limits::default() };
    let lab = Lab::with(&[("riscv32", Transport::Socket)], limits).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let spec = spec(&mut session, "riscv32", 200);
    session.good("w/riscv32.0").await;
    session.start(1, 1, "w/riscv32.0", &spec).await;
    session.until(|frame| matches!(frame, From::Started(_)).then_some(())).await;
    // The run outlasts the silence, however fast this machine is.
    let emulator = emulator();
    kill(emulator, Signal::SIGSTOP).unwrap();
    session.start(2, 2, "w/riscv32.0", &spec).await;
    session
        .until(|frame| matches!(frame, From::Accepted(a) if a.lease == Some(lease(1, 2))).then_some(()))
        .await;
    session.fall_silent();
    while session.next().await.is_ok() {}
    kill(emulator, Signal::SIGCONT).unwrap();
    lab.keeps_a_result().await;
    // Long enough for the next one to run as well, if it were let.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let states: Vec<_> = session.hello.held.iter().map(|held| held.state.as_str()).collect();
    assert_eq!(states, ["staged", "outbox"]);
    for counter in [1, 2] {
        let result = session.result().await;
        session.ack(&result).await;
        assert_eq!(result.lease, Some(lease(1, counter)));
        measured(result.outcome.unwrap());
    }
}

/// An idle board sleeps: less than 2 % of a core.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_board_costs_next_to_nothing() {
    let _alone = ALONE.lock().await;
    for kind in ["riscv32", "mps2-an386", "microbit"] {
        let lab = Lab::start(&[(kind, Transport::Socket)]).await;
        let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
        let image = build_image(&shipped(), Quant::Q4_0).unwrap();
        let spec = v1::AttemptSpec {
            image_size: image.len() as u64,
            image_digest: session.keep(image),
            kv: "i8".into(),
            ..spec(&mut session, kind, 2)
        };
        measured(session.run(1, &format!("w/{kind}.0"), &spec).await);
        let pid = emulators(std::process::id())[0];
        // User and system time in ticks of 10 ms.
        let spent = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields: Vec<u64> = stat
                .rsplit_once(") ")
                .unwrap()
                .1
                .split(' ')
                .map(|field| field.trim().parse().unwrap_or(0))
                .collect();
            fields[11] + fields[12]
        };
        let before = spent();
        let begun = std::time::Instant::now();
        for _ in 0..5 {
            session.held().await;
        }
        let share = (spent() - before) as f64 / 100.0 / begun.elapsed().as_secs_f64();
        assert!(share < 0.02, "{kind}: {share}");
    }
}
