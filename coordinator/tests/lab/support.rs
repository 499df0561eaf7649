//! A coordinator in this process, a worker that is played, and a client.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use edgeprof_common::{Digest, run::RunRecord};
use edgeprof_coordinator::{config::Config, daemon::Daemon};
use edgeprof_model::{KvType, reference};
use edgeprof_proto::v1::{
    self, FromWorker, ToWorker,
    from_worker::Frame as From,
    profiler_client::ProfilerClient,
    to_worker::Frame as To,
    worker_server::{Worker, WorkerServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Server, server::TcpIncoming},
};

use crate::testing::tiny_model;

/// Longest time that anything may take.
const LONG: Duration = Duration::from_secs(60);

/// Waits for something, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// An attempt that the played worker holds.
#[derive(Clone, Debug)]
struct Attempt {
    start: v1::Start,
    state: &'static str,
    result: Option<v1::Result>,
}

type Outgoing = mpsc::Sender<Result<FromWorker, Status>>;

#[derive(Debug, Default)]
struct State {
    boards: Vec<v1::BoardReport>,
    blobs: HashMap<Digest, Vec<u8>>,
    held: BTreeMap<String, Attempt>,
    last_command: u64,
    outgoing: Option<Outgoing>,
    /// Started attempts wait instead of ending.
    hold: bool,
    /// Changes each result before it is sent.
    spoil: Option<fn(&mut v1::Result)>,
    /// Answer to every greeting.
    refusal: Option<Status>,
    /// The worker that the last greeting was meant for.
    sought: Option<String>,
    starts: usize,
    acks: Vec<v1::Ack>,
    nacks: Vec<v1::Nack>,
}

/// A worker with boards of given kinds, which computes what it is asked to with the real engine.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    id: String,
    state: Arc<Mutex<State>>,
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

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
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

    /// Every board's health from now on.
    pub(crate) fn ail(&self, health: &str) {
        self.with(|state| {
            for board in &mut state.boards {
                (board.health, board.idle) = (health.into(), health == "good");
            }
        });
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
    fn go_on(&self) {
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
                    frames.push(From::Result(result));
                }
            }
            for frame in frames {
                say(state, frame);
            }
        });
    }

    fn take(&self, message: ToWorker) {
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
                    let attempt = Attempt { start, state: "staged", result: None };
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
                        say(state, From::Result(result));
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

fn say(state: &State, frame: From) {
    if let Some(outgoing) = &state.outgoing {
        let message = FromWorker { last_command: state.last_command, frame: Some(frame) };
        let _ = outgoing.try_send(Ok(message));
    }
}

fn inventory(state: &State) -> (Vec<v1::BoardReport>, Vec<v1::Held>) {
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

#[tonic::async_trait]
impl Worker for Played {
    async fn check_board(
        &self,
        request: Request<v1::CheckBoardRequest>,
    ) -> Result<Response<v1::CheckBoardResponse>, Status> {
        let found = request.into_inner().board;
        let check = v1::Check { name: "line".into(), state: "ok".into(), found, remedy: None };
        Ok(Response::new(v1::CheckBoardResponse { checks: vec![check] }))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<FromWorker, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<ToWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut stream = request.into_inner();
        let first = stream.message().await?;
        let Some(ToWorker { command, frame: Some(To::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first frame must be hello"));
        };
        let (outgoing, frames) = mpsc::channel(256);
        self.with(|state| {
            state.sought = hello.worker_id.clone();
            if let Some(status) = &state.refusal {
                return Err(status.clone());
            }
            state.last_command = command;
            state.outgoing = Some(outgoing.clone());
            let (boards, held) = inventory(state);
            say(
                state,
                From::Hello(v1::WorkerHello {
                    protocol: hello.protocol,
                    worker_id: self.id.clone(),
                    incarnation: "i0000000000001".into(),
                    version: "0.1.0".into(),
                    site: hello.site,
                    boards,
                    held,
                }),
            );
            for attempt in state.held.values() {
                if let Some(result) = &attempt.result {
                    say(state, From::Result(result.clone()));
                }
            }
            Ok(())
        })?;
        let played = self.clone();
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(200));
            loop {
                tokio::select! {
                    message = stream.message() => match message {
                        Ok(Some(message)) => played.take(message),
                        _ => break,
                    },
                    _ = beat.tick() => {
                        let state = played.state.lock().unwrap();
                        let (boards, held) = inventory(&state);
                        let frame = From::Heartbeat(v1::Heartbeat { boards, held });
                        let message = FromWorker { last_command: state.last_command, frame: Some(frame) };
                        let _ = outgoing.try_send(Ok(message));
                    }
                }
            }
            played.with(|state| {
                if state.outgoing.as_ref().is_some_and(|now| now.same_channel(&outgoing)) {
                    state.outgoing = None;
                }
            });
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::BlobChunk>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        let mut stream = request.into_inner();
        let (mut name, mut bytes) = (String::new(), Vec::new());
        while let Some(chunk) = stream.message().await? {
            if name.is_empty() {
                name = chunk.digest;
            }
            bytes.extend_from_slice(&chunk.data);
        }
        let digest = Digest::of(&bytes);
        assert_eq!(digest.to_string(), name);
        let size = bytes.len() as u64;
        self.with(|state| state.blobs.insert(digest, bytes));
        self.go_on();
        Ok(Response::new(v1::PutBlobResponse { size }))
    }
}

/// A smallest ELF with one loaded segment.
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2, 0, 40, 0]);
    for word in [1u32, 0, 52, 0, 0] {
        elf.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    let length = u32::try_from(code.len()).unwrap();
    for word in [1u32, 84, 0, 0x0800_0000, length, length, 5, 4] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// Writes firmware for the kinds that tests use.
pub(crate) fn firmware(folder: &Path) -> std::path::PathBuf {
    let folder = folder.join("firmware");
    std::fs::create_dir_all(&folder).unwrap();
    for kind in ["mps2-an386", "netduinoplus2", "riscv32"] {
        std::fs::write(folder.join(format!("{kind}.elf")), elf(kind.as_bytes())).unwrap();
    }
    folder
}

pub(crate) fn program() -> std::path::PathBuf {
    env!("CARGO_BIN_EXE_edgeprof-coordinator").into()
}

pub(crate) fn config(data: &Path, workers: &[&Played]) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: data.join("data"),
        site: "test".into(),
        workers: workers.iter().map(|worker| worker.address.to_string()).collect(),
        discovery: false,
        firmware: vec![firmware(data)],
        ..Config::default()
    }
}

/// A coordinator in this process and a client of it.
pub(crate) struct Lab {
    pub folder: tempfile::TempDir,
    pub daemon: Daemon,
    pub client: Client,
}

impl Lab {
    pub(crate) async fn start(workers: &[&Played]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), workers);
        let daemon = Daemon::start(&config, program()).await.unwrap();
        let client = Client::to(&format!("http://{}", daemon.address())).await;
        let lab = Self { folder, daemon, client };
        for worker in workers {
            worker.until_greeted().await;
        }
        lab
    }
}

/// A client.
#[derive(Clone)]
pub(crate) struct Client(pub ProfilerClient<Channel>);

impl Client {
    pub(crate) async fn to(url: &str) -> Self {
        Self(ProfilerClient::connect(url.to_owned()).await.unwrap())
    }

    pub(crate) async fn put(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut chunks: Vec<_> = bytes
            .chunks(edgeprof_proto::CHUNK)
            .map(|data| v1::ArtifactChunk { data: data.to_vec().into(), ..Default::default() })
            .collect();
        chunks[0].digest = digest.to_string();
        chunks[0].size = bytes.len() as u64;
        let answer = self.0.put_artifact(tokio_stream::iter(chunks)).await.unwrap();
        assert_eq!(answer.into_inner().size, bytes.len() as u64);
        digest
    }

    /// Uploads the tiny model and asks for it on `boards`.
    pub(crate) async fn spec(&mut self, boards: &[&str]) -> v1::JobSpec {
        let (model, tokenizer) = tiny_model();
        let (model, tokenizer) = (self.put(&model).await, self.put(&tokenizer).await);
        v1::JobSpec {
            models: vec![v1::ModelRef {
                name: "tiny.bin".into(),
                digest: model.to_string(),
                tokenizer: Some(tokenizer.to_string()),
            }],
            boards: boards.iter().map(|board| (*board).to_owned()).collect(),
            prompts: vec!["ab".into()],
            n_gen: vec![8],
            quants: vec!["q8_0".into()],
            kvs: vec!["i8".into()],
            seed: 7,
            ..v1::JobSpec::default()
        }
    }

    pub(crate) async fn try_submit(&mut self, spec: v1::JobSpec, key: &str) -> Result<v1::Job, Status> {
        let request = v1::SubmitJobRequest { spec: Some(spec), idempotency_key: key.into() };
        Ok(self.0.submit_job(request).await?.into_inner().job.unwrap())
    }

    /// Boards may be a moment behind their worker's greeting.
    pub(crate) async fn submit(&mut self, spec: v1::JobSpec) -> v1::Job {
        self.until_boards().await;
        self.try_submit(spec, "").await.unwrap()
    }

    pub(crate) async fn until_boards(&mut self) {
        soon("boards", async {
            loop {
                let boards = self.0.list_boards(v1::ListBoardsRequest::default()).await.unwrap().into_inner();
                if boards.boards.iter().any(|board| board.health == "good") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until the coordinator knows that the job's first task runs.
    pub(crate) async fn until_started(&mut self, job: &str) {
        let request = v1::WatchJobRequest { job_id: job.into(), after: 0 };
        let mut stream = self.0.watch_job(request).await.unwrap().into_inner();
        soon("the start", async {
            loop {
                let job = stream.next().await.unwrap().unwrap().job.unwrap();
                if job.tasks[0].progress.as_ref().is_some_and(|progress| progress.phase == "start") {
                    return;
                }
            }
        })
        .await;
    }

    /// Every update of a job to its end.
    pub(crate) async fn watch(&mut self, job: &str) -> Vec<v1::JobUpdate> {
        let request = v1::WatchJobRequest { job_id: job.into(), after: 0 };
        let stream = self.0.watch_job(request).await.unwrap().into_inner();
        soon("the job's end", stream.map(Result::unwrap).collect()).await
    }

    pub(crate) async fn logs(&mut self, id: &str) -> Vec<v1::AttemptLog> {
        let request = v1::GetLogsRequest { id: id.into() };
        let stream = self.0.get_logs(request).await.unwrap().into_inner();
        stream.map(Result::unwrap).collect().await
    }

    pub(crate) async fn check(&mut self, board: &str) -> Result<v1::CheckBoardResponse, tonic::Status> {
        let request = v1::CheckBoardRequest { board: board.into() };
        self.0.check_board(request).await.map(Response::into_inner)
    }

    pub(crate) async fn results(&mut self, id: &str) -> Vec<RunRecord> {
        let request = v1::GetResultsRequest { id: id.into() };
        let stream = self.0.get_results(request).await.unwrap().into_inner();
        let runs: Vec<v1::Run> = stream.map(Result::unwrap).collect().await;
        runs.iter().map(|run| edgeprof_proto::bridge("run", run).unwrap()).collect()
    }
}
