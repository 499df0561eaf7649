//! A worker that is played: it computes what it is asked to with the real engine.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use edgeprof_common::Digest;
use edgeprof_model::{KvType, reference};
use edgeprof_proto::{
    session::Version,
    v1::{
        self, FromWorker, ToWorker, from_worker::Frame as From, to_worker::Frame as To,
        worker_server::WorkerServer,
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tonic::{
    Status,
    transport::{Server, server::TcpIncoming},
};

use super::soon;

/// An attempt that the played worker holds.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    start: v1::Start,
    state: &'static str,
    pub(super) result: Option<v1::Result>,
}

type Outgoing = mpsc::Sender<Result<FromWorker, Status>>;

#[derive(Debug, Default)]
pub(super) struct State {
    boards: Vec<v1::BoardReport>,
    pub(super) blobs: HashMap<Digest, Vec<u8>>,
    pub(super) held: BTreeMap<String, Attempt>,
    pub(super) last_command: u64,
    pub(super) outgoing: Option<Outgoing>,
    /// Started attempts wait instead of ending.
    hold: bool,
    /// Changes each result before it is sent.
    spoil: Option<fn(&mut v1::Result)>,
    /// Another version than this build's.
    pub(super) speaks: Option<Version>,
    /// Answer to every greeting.
    pub(super) refusal: Option<Status>,
    /// The worker that the last greeting was meant for.
    pub(super) sought: Option<String>,
    pub(super) greeted_as: (String, u64),
    starts: usize,
    acks: Vec<v1::Ack>,
    nacks: Vec<v1::Nack>,
}

/// A worker with boards of given kinds, which computes what it is asked to with the real engine.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(super) id: String,
    pub(super) state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<u64>>,
    pub address: SocketAddr,
}

impl Played {
    pub(crate) async fn start(id: &str, kinds: &[&str]) -> Self {
        let boards = kinds
            .iter()
            .enumerate()
            .map(|(n, kind)| v1::BoardReport {
                id: format!("{id}/{kind}-{n}"),
                kind: (*kind).into(),
                health: "good".into(),
                idle: true,
                ..v1::BoardReport::default()
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let played = Self {
            id: id.into(),
            state: Arc::new(Mutex::new(State { boards, ..State::default() })),
            changes: Arc::new(watch::channel(0).0),
            address,
        };
        let service = WorkerServer::new(played.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        played
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let out = change(&mut self.state.lock().unwrap());
        self.changes.send_modify(|n| *n += 1);
        out
    }

    async fn until(&self, what: &str, mut wanted: impl FnMut(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        soon(what, async {
            while !wanted(&self.state.lock().unwrap()) {
                changes.changed().await.unwrap();
            }
        })
        .await;
    }

    pub(crate) fn hold(&self, hold: bool) {
        self.with(|state| state.hold = hold);
        if !hold {
            self.go_on();
        }
    }

    pub(crate) fn spoil(&self, how: fn(&mut v1::Result)) {
        self.with(|state| state.spoil = Some(how));
    }

    pub(crate) fn refuse(&self, status: Status) {
        self.with(|state| state.refusal = Some(status));
    }

    /// Speaks another version of the protocol from its next greeting on.
    pub(crate) fn speak(&self, version: Version) {
        self.with(|state| state.speaks = Some(version));
    }

    /// Every board's health from now on.
    pub(crate) fn ail(&self, health: &str) {
        self.with(|state| {
            for board in &mut state.boards {
                (board.health, board.idle) = (health.into(), health == "good");
            }
        });
    }

    /// Cluster and epoch of the last greeting.
    pub(crate) fn greeted_as(&self) -> (String, u64) {
        self.state.lock().unwrap().greeted_as.clone()
    }

    pub(crate) fn sought(&self) -> Option<String> {
        self.state.lock().unwrap().sought.clone()
    }

    pub(crate) async fn until_running(&self, count: usize) {
        let running = |s: &State| s.held.values().filter(|a| a.state == "running").count();
        self.until("attempts to run", |state| running(state) == count).await;
    }

    pub(crate) async fn until_acked(&self, count: usize) -> Vec<v1::Ack> {
        self.until("acks", |state| state.acks.len() >= count).await;
        self.state.lock().unwrap().acks.clone()
    }

    pub(crate) async fn until_nacked(&self) -> v1::Nack {
        self.until("a nack", |state| !state.nacks.is_empty()).await;
        self.state.lock().unwrap().nacks[0].clone()
    }

    pub(crate) async fn until_greeted(&self) {
        self.until("a session", |state| state.outgoing.as_ref().is_some_and(|o| !o.is_closed())).await;
    }

    pub(crate) fn starts(&self) -> usize {
        self.state.lock().unwrap().starts
    }

    pub(crate) fn say(&self, frame: From) {
        let state = self.state.lock().unwrap();
        say(&state, frame);
    }

    /// Starts what has its blobs, ends what may end.
    pub(super) fn go_on(&self) {
        self.with(|state| {
            let mut frames = Vec::new();
            for attempt in state.held.values_mut() {
                let spec = attempt.start.spec.clone().unwrap();
                let blob = |digest: &str| state.blobs.get(&digest.parse::<Digest>().unwrap());
                let (Some(image), Some(_)) = (blob(&spec.image_digest), blob(&spec.firmware_digest)) else {
                    continue;
                };
                if attempt.state == "staged" {
                    attempt.state = "running";
                    frames.push(From::Started(v1::Started {
                        lease: attempt.start.lease,
                        task_id: attempt.start.task_id.clone(),
                        board: attempt.start.board.clone(),
                    }));
                }
                if attempt.state == "running" && !state.hold {
                    attempt.state = "outbox";
                    let mut result = v1::Result {
                        lease: attempt.start.lease,
                        task_id: attempt.start.task_id.clone(),
                        board: attempt.start.board.clone(),
                        outcome: Some(v1::result::Outcome::Measurement(measure(&spec, image))),
                        transcript: lz4_flex::compress_prepend_size(b"+0.1 played\n"),
                    };
                    if let Some(spoil) = state.spoil {
                        spoil(&mut result);
                    }
                    attempt.result = Some(result.clone());
                    frames.push(From::Result(Box::new(result)));
                }
            }
            for frame in frames {
                say(state, frame);
            }
        });
    }

    pub(super) fn take(&self, message: ToWorker) {
        let mut need = Vec::new();
        self.with(|state| {
            state.last_command = message.command;
            match message.frame {
                Some(To::Start(start)) => {
                    if state.held.contains_key(&start.task_id) {
                        return;
                    }
                    state.starts += 1;
                    let spec = start.spec.clone().unwrap();
                    for digest in [spec.image_digest, spec.firmware_digest] {
                        if !state.blobs.contains_key(&digest.parse::<Digest>().unwrap()) {
                            need.push(digest);
                        }
                    }
                    say(
                        state,
                        From::Accepted(v1::Accepted {
                            lease: start.lease,
                            task_id: start.task_id.clone(),
                            board: start.board.clone(),
                        }),
                    );
                    let attempt = Attempt { start: *start, state: "staged", result: None };
                    state.held.insert(attempt.start.task_id.clone(), attempt);
                }
                Some(To::Ack(ack)) => {
                    state.held.remove(&ack.task_id);
                    state.acks.push(ack);
                }
                Some(To::Nack(nack)) => {
                    state.held.remove(&nack.task_id);
                    state.nacks.push(nack);
                }
                Some(To::Cancel(cancel)) => {
                    let result = v1::Result {
                        lease: cancel.lease,
                        task_id: cancel.task_id.clone(),
                        board: cancel.board,
                        outcome: Some(v1::result::Outcome::Cancelled(v1::Cancelled {})),
                        transcript: Vec::new(),
                    };
                    if let Some(attempt) = state.held.get_mut(&cancel.task_id) {
                        attempt.state = "outbox";
                        attempt.result = Some(result.clone());
                        say(state, From::Result(Box::new(result)));
                    }
                }
                _ => {}
            }
        });
        if !need.is_empty() {
            self.say(From::NeedBlob(v1::NeedBlob { digests: need }));
        }
        self.go_on();
    }
}

pub(super) fn say(state: &State, frame: From) {
    if let Some(outgoing) = &state.outgoing {
        let message = FromWorker { last_command: state.last_command, frame: Some(frame) };
        let _ = outgoing.try_send(Ok(message));
    }
}

pub(super) fn inventory(state: &State) -> (Vec<v1::BoardReport>, Vec<v1::Held>) {
    let occupied = |board: &str| state.held.values().any(|a| a.start.board == board && a.state != "outbox");
    let boards = state.boards.iter().cloned().map(|mut board| {
        board.idle = !occupied(&board.id);
        board
    });
    let held = state.held.values().map(|attempt| v1::Held {
        lease: attempt.start.lease,
        task_id: attempt.start.task_id.clone(),
        board: attempt.start.board.clone(),
        state: attempt.state.into(),
    });
    (boards.collect(), held.collect())
}

/// What the engine on this machine gives: the same as on a board, by construction.
fn measure(spec: &v1::AttemptSpec, image: &[u8]) -> v1::Measurement {
    let kv = match spec.kv.as_str() {
        "f32" => KvType::F32,
        "f16" => KvType::F16,
        _ => KvType::I8,
    };
    let request = reference::Request {
        prompt: &spec.tokens,
        n_gen: spec.n_gen,
        temperature: spec.temperature,
        seed: spec.seed,
        stop_tokens: &spec.stop_tokens,
        ctx: spec.ctx,
        kv,
    };
    let outcome = reference::run(image, &request).unwrap();
    let counted = spec.tokens.len() - spec.n_depth as usize;
    let sample = v1::Sample {
        counter: "instructions".into(),
        load: 1_000,
        prefill: vec![2_000; counted],
        prefill_tokens: vec![1; counted],
        decode: (1..outcome.tokens.len() as u64).map(|n| 3_000 + n).collect(),
    };
    v1::Measurement {
        provenance: "emulated".into(),
        environment: Some(v1::Environment { emulator: Some("played".into()), ..Default::default() }),
        firmware: Some(v1::RunFirmware {
            digest: spec.firmware_loaded_digest.clone(),
            version: "0.1.0".into(),
            compiler: None,
        }),
        engine_version: "0.1.0".into(),
        samples: vec![sample; spec.repetitions as usize],
        output_tokens: outcome.tokens,
        stop_reason: match outcome.stop {
            edgeprof_engine::generate::StopReason::Length => "length",
            edgeprof_engine::generate::StopReason::StopToken => "stop_token",
            edgeprof_engine::generate::StopReason::Context => "context",
            edgeprof_engine::generate::StopReason::Cancelled => "cancelled",
        }
        .into(),
        logits_hash: format!("{:016x}", outcome.logits_hash),
        memory: Some(v1::Memory {
            arena: outcome.arena_bytes,
            method: "played".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}
