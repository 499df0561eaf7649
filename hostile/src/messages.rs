//! Messages over gRPC, from clients and from workers: decoded, checked, and acted upon as far as that is
//! pure.

use std::{collections::BTreeMap, sync::Arc};

use edgeprof_boards::catalogue;
use edgeprof_common::{AttemptNo, Digest, Epoch, ErrorClass, JobId, TaskError, job::JobSpec, run::RunRecord};
use edgeprof_coordinator::{
    ingest::{Ended, Measured, Subject, assemble},
    session::frames,
    store::rows::{self, FirmwarePin, JobRow, TaskDef},
    submit::{Facts, kinds, plan},
};
use edgeprof_model::Header;
use edgeprof_proto::{
    bridge,
    v1::{self, from_worker::Frame as From},
};
use edgeprof_report as report;
use edgeprof_scheduler::{Config, Event, Now, Peer, Recovered, Scheduler, SessionId};
use edgeprof_worker::spec::{Spec, lease_ref};
use prost::Message;

use crate::words::lab;

/// A client's submission, up to its tasks.
pub(crate) fn submit(bytes: &[u8]) {
    let Ok(request) = v1::SubmitJobRequest::decode(bytes) else { return };
    let Some(mut spec) = request.spec else { return };
    if spec.priority.is_empty() {
        spec.priority = "normal".into();
    }
    let Ok(spec) = bridge::<JobSpec>("job", &spec) else { return };
    if spec.validate().is_err() {
        return;
    }
    let tasks = planned(&spec);
    for task in tasks.iter().flatten() {
        let row = rows::encode(task);
        assert_eq!(&rows::decode::<TaskDef>(b"def", &row).expect("a row that was written"), &**task);
    }
}

/// The smallest model that there is, in every place where a model is asked for.
fn planned(spec: &JobSpec) -> Option<Vec<Arc<TaskDef>>> {
    let boards = lab();
    let there = kinds(spec, &boards).ok()?;
    let header =
        Header::parse(&crate::model::small_llama2c(64)).map(Arc::new).map_err(|error| error.to_string());
    let error = |text: String| TaskError::new(ErrorClass::Model, "model_invalid", text);
    let headers = spec
        .models
        .iter()
        .map(|model| (model.digest, header.clone().map_err(error)))
        .collect::<BTreeMap<_, _>>();
    let pin = FirmwarePin { file: Digest::of(b"f"), loaded: Digest::of(b"l"), size: 1 };
    let firmware = there.into_iter().map(|kind| (kind, Ok(pin))).collect();
    plan(JobId::from_raw(1), spec, &Facts { boards: &boards, headers, firmware }).ok()
}

/// A coordinator's command, as the worker checks it.
pub(crate) fn start(bytes: &[u8]) {
    let Ok(v1::ToWorker { frame: Some(v1::to_worker::Frame::Start(start)), .. }) =
        v1::ToWorker::decode(bytes)
    else {
        return;
    };
    let _ = lease_ref(start.lease.as_ref(), &start.task_id, &start.board);
    let Some(spec) = start.spec else { return };
    for kind in catalogue().kinds() {
        if let Ok(spec) = Spec::check(&spec, kind) {
            assert!(spec.n_prompt() >= 1);
            assert!(u64::from(spec.n_gen()) <= u64::from(spec.ctx) + 1);
        }
    }
}

/// A worker's side of a session: frames, each with its length as u16 before it, into the scheduler.
pub(crate) fn session(bytes: &[u8]) {
    let recovered = Recovered::default();
    let Ok(mut scheduler) = Scheduler::new(Now(0), Config::default(), Epoch(1), recovered) else { return };
    let peer = |session| Peer { worker: "w".parse().expect("a name"), session: SessionId(session) };
    let (mut rest, mut now, mut number) = (bytes, 0, 0);
    while let Some((len, tail)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes(*len)).min(tail.len());
        let (message, tail) = tail.split_at(len);
        rest = tail;
        let Ok(message) = v1::FromWorker::decode(message) else { continue };
        now += 1 + len as u64 * 16;
        let frame = match message.frame {
            Some(From::Hello(hello)) => {
                let parsed =
                    (hello.incarnation.parse(), frames::reports(&hello.boards), frames::held(&hello.held));
                if let (Ok(incarnation), Ok(boards), Ok(held)) = parsed {
                    number += 1;
                    let event = Event::WorkerUp {
                        peer: peer(number),
                        incarnation,
                        boards,
                        held,
                        draining: hello.draining,
                    };
                    drop(scheduler.step(Now(now), event));
                }
                continue;
            }
            Some(From::Result(result)) => {
                measured(&result);
                continue;
            }
            Some(From::Heartbeat(beat)) => frames::reports(&beat.boards)
                .and_then(|boards| frames::heartbeat(&beat, boards.into(), message.last_command)),
            Some(From::Board(board)) => frames::report(&board).map(edgeprof_scheduler::Frame::Board),
            Some(other) => frames::frame(&other),
            None => continue,
        };
        if let Ok(frame) = frame {
            drop(scheduler.step(Now(now), Event::Frame { from: peer(number), frame }));
        }
        drop(scheduler.step(Now(now), Event::Tick));
    }
}

/// A worker's result, up to the recorded run and its renderings.
pub(crate) fn result(bytes: &[u8]) {
    if let Ok(result) = v1::Result::decode(bytes) {
        measured(&result);
    }
}

fn measured(result: &v1::Result) {
    let Some(v1::result::Outcome::Measurement(message)) = &result.outcome else { return };
    let Ok(measured) = Measured::parse(message) else { return };
    let spec: JobSpec = serde_json::from_value(serde_json::json!({
        "models": [{"name": "m.bin", "digest": Digest::of(b"m")}],
        "boards": ["mps2-an386"], "n_prompt": [4], "n_gen": [8],
    }))
    .expect("a job");
    let task = planned(&spec).and_then(|mut tasks| tasks.pop()).expect("a job that can be planned");
    let job = JobRow {
        id: JobId::from_raw(1),
        spec,
        submitted_at: "2026-01-01T00:00:00Z".into(),
        tasks: vec![task.id],
        idempotency_key: None,
        first_seq: 0,
        trace: None,
        submitter: String::new(),
    };
    let subject = Subject {
        job: &job,
        task: &task,
        prepared: None,
        vocabulary: None,
        attempt: AttemptNo(1),
        started_at: None,
        board: None,
    };
    let record = assemble(&subject, Ended::Measured(&measured));
    let row = rows::pack(&record);
    let back = rows::unpack::<RunRecord>(b"run", &row).expect("a record that was written");
    assert_eq!(serde_json::to_string(&back).ok(), serde_json::to_string(&record).ok());
    rendered(&record);
}

/// A record as JSON.
pub(crate) fn run_json(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<RunRecord>(bytes) {
        let message = bridge::<v1::Run>("run", &record);
        if let Ok(message) = message {
            assert!(bridge::<RunRecord>("run", &message).is_ok(), "what went over does not come back");
        }
        rendered(&record);
    }
}

/// A record as a coordinator sends it to a client.
pub(crate) fn run_message(bytes: &[u8]) {
    let Ok(message) = v1::Run::decode(bytes) else { return };
    if let Ok(record) = bridge::<RunRecord>("run", &message) {
        rendered(&record);
    }
}

fn rendered(record: &RunRecord) {
    let runs = std::slice::from_ref(record);
    let context = report::Context::default();
    let texts = [
        report::table(runs, &context),
        report::markdown(runs, &context),
        report::csv(runs),
        report::json(runs),
        report::json_lines(runs),
    ];
    for text in texts {
        let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t' || c == '\r';
        assert!(text.chars().all(harmless), "{text:?}");
    }
}
