//! A coordinator of few words, a worker in this process, and a model of random weights.
#![allow(dead_code, unreachable_pub)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use edgeprof_common::{ClusterId, Digest, Nonce, TaskId};
use edgeprof_engine::{
    Config as Shape, DType, f16,
    image::{self, Role},
};
use edgeprof_proto::{
    SESSION,
    session::Version,
    v1::{
        self, BlobChunk, FromWorker, ToWorker, from_worker::Frame as From, to_worker::Frame as To,
        worker_client::WorkerClient,
    },
};
use edgeprof_service::channel::{self, Channel};
use edgeprof_worker::{
    config::{Behind, Config, Limits, Settings, Transport},
    daemon::{self, Daemon},
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::AbortHandle,
    time::{interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Longest wait for one frame.
pub const SOON: Duration = Duration::from_secs(120);

/// A worker in this process.
#[derive(Debug)]
pub struct Lab {
    pub folder: TempDir,
    pub daemon: Option<Daemon>,
    boards: Vec<(&'static str, Behind)>,
    limits: Limits,
}

impl Lab {
    pub async fn start(boards: &[(&'static str, Transport)]) -> Self {
        Self::with(boards, Limits::default()).await
    }

    pub async fn with(boards: &[(&'static str, Transport)], limits: Limits) -> Self {
        let emulated = |(kind, transport): &(_, _)| (*kind, Behind::Emulator(*transport));
        Self::behind(boards.iter().map(emulated).collect(), limits).await
    }

    /// One board that does nothing, for so long.
    pub async fn idling(run: Duration, limits: Limits) -> Self {
        Self::behind(vec![("noop", Behind::Nothing(run))], limits).await
    }

    /// Boards of given kinds, and what is behind their lines.
    pub async fn behind(boards: Vec<(&'static str, Behind)>, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut lab = Self { folder, daemon: None, boards, limits };
        lab.up().await;
        lab
    }

    /// Waits until the outbox has a result on its disk.
    pub async fn keeps_a_result(&self) {
        let outbox = self.folder.path().join("outbox");
        let kept = || {
            let files = std::fs::read_dir(&outbox).unwrap().flatten();
            files.filter_map(|file| file.metadata().ok()).any(|file| file.len() > 0)
        };
        let wait = async {
            while !kept() {
                // Nobody tells of it without a session: the pace of looking.
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, wait).await.expect("a run ends");
    }

    pub async fn up(&mut self) {
        let mut numbers = BTreeMap::new();
        let boards = self.boards.iter().map(|(kind, behind)| {
            let number: &mut u32 = numbers.entry(*kind).or_default();
            let name = format!("{kind}.{number}");
            *number += 1;
            edgeprof_worker::config::Board {
                name,
                kind: edgeprof_boards::catalogue().get(kind).unwrap(),
                labels: BTreeMap::new(),
                behind: behind.clone(),
            }
        });
        let settings = Settings {
            config: Config {
                listen: ([127, 0, 0, 1], 0).into(),
                data: self.folder.path().to_owned(),
                site: "lab".into(),
                name: Some("w".parse().unwrap()),
                announce: false,
                limits: self.limits.clone(),
                ..Config::default()
            },
            boards: boards.collect(),
            ready_file: None,
        };
        self.daemon = Some(daemon::start(settings).await.unwrap());
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.daemon.as_ref().unwrap().address)
    }

    pub async fn down(&mut self) {
        self.daemon.take().unwrap().stop().await;
    }
}

/// Who a coordinator says it is.
#[derive(Clone, Debug)]
pub struct Life {
    pub cluster: u64,
    pub epoch: u64,
    pub nonce: u64,
    pub site: &'static str,
    pub issued: Vec<(&'static str, u64, u64)>,
    pub meant: Option<&'static str>,
    pub speaks: Version,
}

pub const LIFE: Life =
    Life { cluster: 1, epoch: 1, nonce: 1, site: "lab", issued: Vec::new(), meant: None, speaks: SESSION };

impl Life {
    fn hello(&self) -> v1::CoordinatorHello {
        let issued = self.issued.iter();
        v1::CoordinatorHello {
            protocol: self.speaks.major,
            protocol_minor: self.speaks.minor,
            site: self.site.into(),
            cluster_id: ClusterId::from_raw(self.cluster).to_string(),
            epoch: self.epoch,
            nonce: Nonce::from_raw(self.nonce).to_string(),
            version: "test".into(),
            issued: issued.map(|(b, epoch, counter)| ((*b).into(), lease(*epoch, *counter))).collect(),
            worker_id: self.meant.map(str::to_owned),
        }
    }
}

pub fn lease(epoch: u64, counter: u64) -> v1::Lease {
    v1::Lease { epoch, counter }
}

/// A session with a worker.
#[derive(Debug)]
pub struct Session {
    client: WorkerClient<Channel>,
    out: mpsc::Sender<ToWorker>,
    frames: Streaming<FromWorker>,
    command: u64,
    epoch: u64,
    pub hello: v1::WorkerHello,
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub last_command: u64,
    beating: AbortOnDrop,
}

/// A task that ends with its session.
#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Falls silent, as a coordinator that was frozen.
    pub fn fall_silent(&mut self) {
        self.beating.0.abort();
    }

    /// The worker's calls beside the session.
    pub fn client(&self) -> WorkerClient<Channel> {
        self.client.clone()
    }

    pub async fn open(address: &str, life: &Life) -> Result<Self, Status> {
        let mut client = WorkerClient::new(channel::connect(address, SOON).await.unwrap());
        let (out, receiver) = mpsc::channel(64);
        out.send(ToWorker { command: 1, frame: Some(To::Hello(Box::new(life.hello()))) }).await.unwrap();
        let mut frames = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        let first = timeout(SOON, frames.message()).await.unwrap()?.unwrap();
        let Some(From::Hello(hello)) = first.frame else { panic!("{first:?} is no hello") };
        assert_eq!(first.last_command, 1);
        let epoch = life.epoch;
        let (beats, beat) = (out.clone(), ToWorker { command: 0, frame: Some(To::Beat(v1::Beat {})) });
        let beating = tokio::spawn(async move {
            let mut period = interval(Duration::from_secs(1));
            loop {
                period.tick().await;
                // Ends with the session.
                if beats.send(beat.clone()).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            client,
            out,
            frames,
            command: 1,
            epoch,
            hello: *hello,
            blobs: BTreeMap::new(),
            last_command: 1,
            beating: AbortOnDrop(beating.abort_handle()),
        })
    }

    pub fn keep(&mut self, bytes: Vec<u8>) -> String {
        let digest = Digest::of(&bytes).to_string();
        self.blobs.insert(digest.clone(), bytes);
        digest
    }

    pub async fn send(&mut self, frame: To) {
        self.command += 1;
        self.out.send(ToWorker { command: self.command, frame: Some(frame) }).await.unwrap();
    }

    /// Number of the last command that was sent.
    pub fn sent(&self) -> u64 {
        self.command
    }

    /// The next frame, heartbeats included; blobs that are asked for are brought.
    pub async fn next(&mut self) -> Result<From, Status> {
        let frame = timeout(SOON, self.frames.message()).await.expect("a frame in time")?;
        let frame = frame.ok_or_else(|| Status::cancelled("the stream ended"))?;
        self.last_command = frame.last_command;
        let frame = frame.frame.unwrap();
        if let From::NeedBlob(need) = &frame {
            for digest in need.digests.clone() {
                if let Some(bytes) = self.blobs.get(&digest).cloned() {
                    self.put(&digest, &bytes).await.unwrap();
                }
            }
        }
        Ok(frame)
    }

    pub async fn put(&mut self, digest: &str, bytes: &[u8]) -> Result<u64, Status> {
        let size = bytes.len() as u64;
        let chunks: Vec<_> = bytes
            .chunks(edgeprof_proto::CHUNK)
            .map(|data| BlobChunk { digest: digest.into(), size, data: data.to_vec().into() })
            .collect();
        let put = self.client.put_blob(tokio_stream::iter(chunks)).await?;
        Ok(put.into_inner().size)
    }

    /// Frames until `wanted` gives something.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(From) -> Option<T>) -> T {
        loop {
            let frame = self.next().await.unwrap();
            if let Some(found) = wanted(frame) {
                return found;
            }
        }
    }

    pub async fn start(&mut self, counter: u64, task: u128, board: &str, spec: &v1::AttemptSpec) {
        let start = v1::Start {
            lease: Some(lease(self.epoch, counter)),
            task_id: TaskId::from_raw(task).to_string(),
            board: board.into(),
            spec: Some(spec.clone()),
            traceparent: None,
        };
        self.send(To::Start(Box::new(start))).await;
    }

    pub async fn ack(&mut self, result: &v1::Result) {
        let ack = v1::Ack { task_id: result.task_id.clone(), lease: result.lease, duplicate: false };
        self.send(To::Ack(ack)).await;
    }

    pub async fn result(&mut self) -> v1::Result {
        self.until(|frame| match frame {
            From::Result(result) => Some(*result),
            From::Rejected(rejected) => panic!("{rejected:?}"),
            _ => None,
        })
        .await
    }

    /// Runs a task to its result and acknowledges that.
    pub async fn run(&mut self, counter: u64, board: &str, spec: &v1::AttemptSpec) -> v1::result::Outcome {
        self.good(board).await;
        self.start(counter, u128::from(counter), board, spec).await;
        let result = self.result().await;
        self.ack(&result).await;
        result.outcome.unwrap()
    }

    /// Waits until a board takes work.
    pub async fn good(&mut self, board: &str) {
        let mut last = None;
        let idle = self.until(|frame| {
            let reports = match frame {
                From::Board(report) => vec![*report],
                From::Heartbeat(beat) => beat.boards,
                _ => Vec::new(),
            };
            last = reports.into_iter().find(|report| report.id == board).or(last.take());
            last.as_ref().is_some_and(|report| report.idle).then_some(())
        });
        // Heartbeats go on whatever the board is like, such as one whose emulator is not installed.
        let in_time = timeout(SOON, idle).await;
        assert!(in_time.is_ok(), "{board} takes no work after {SOON:?}; last it was {last:?}");
    }

    /// What the worker holds, by its next heartbeat.
    pub async fn held(&mut self) -> Vec<v1::Held> {
        self.until(|frame| match frame {
            From::Heartbeat(beat) => Some(beat.held),
            _ => None,
        })
        .await
    }
}

/// Starts a worker process, which is told to write its address to `ready`, and waits until it serves.
pub async fn serving(mut command: Command, ready: &Path) -> (Child, String) {
    // Of an earlier life.
    let _ = std::fs::remove_file(ready);
    let mut process = command.arg("--ready-file").arg(ready).kill_on_drop(true).spawn().unwrap();
    let address = async {
        loop {
            if let Ok(address) = std::fs::read_to_string(ready) {
                return address.trim().to_owned();
            }
            let ended = process.try_wait().unwrap();
            assert_eq!(ended, None, "the worker ended before it served");
            // The pace of looking.
            sleep(Duration::from_millis(20)).await;
        }
    };
    let address = timeout(SOON, address).await.expect("the worker says where it serves");
    (process, address)
}

/// A task for a board that does nothing.
pub fn nothing() -> v1::AttemptSpec {
    v1::AttemptSpec {
        firmware_digest: Digest::of(b"").to_string(),
        image_digest: Digest::of(b"image").to_string(),
        image_size: 5,
        tokens: vec![1],
        n_gen: 1,
        ctx: 8,
        kv: "f16".into(),
        repetitions: 1,
        ..v1::AttemptSpec::default()
    }
}

/// A task with a model of random weights, for a board that computes.
pub fn spec(session: &mut Session, kind: &str, n_gen: u32) -> v1::AttemptSpec {
    let (firmware, image) = (firmware(kind), model());
    v1::AttemptSpec {
        firmware_size: firmware.len() as u64,
        image_size: image.len() as u64,
        firmware_digest: session.keep(firmware),
        image_digest: session.keep(image),
        tokens: vec![1, 7, 3, 9],
        n_depth: 1,
        n_gen,
        ctx: 4 + n_gen,
        kv: "f16".into(),
        repetitions: 1,
        ..v1::AttemptSpec::default()
    }
}

/// A board image of random weights.
pub fn model() -> Vec<u8> {
    let shape = Shape {
        dim: 64,
        hidden: 140,
        layers: 6,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 50,
        train_ctx: 64,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tied: true,
    };
    // Every kernel, and every one with a short end: the 140 columns of `FfnDown`, which has another format
    // in each layer, are no multiple of 8 or 32.
    let format = |role: Role, layer: u32| match role {
        role if role.is_norm() => DType::F32,
        Role::TokenEmbd => DType::Q8_0,
        role => DType::ALL[(role as usize + layer as usize) % DType::ALL.len()],
    };
    let mut bytes = vec![0; usize::try_from(image::total_len(&shape, format)).unwrap()];
    image::write_header(&mut bytes, &shape, format).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for tensor in image::layout(&shape, format) {
        for row in 0..tensor.rows {
            let at = usize::try_from(tensor.offset + u64::from(row) * tensor.row_stride()).unwrap();
            for col in 0..tensor.cols as usize {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let value = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
                match tensor.dtype {
                    DType::F32 => bytes[at + 4 * col..][..4].copy_from_slice(&value.to_le_bytes()),
                    DType::F16 => {
                        bytes[at + 2 * col..][..2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
                    }
                    DType::Q8_0 => bytes[at + col] = (state >> 56) as u8,
                    DType::BF16 => bytes[at + 2 * col..][..2].copy_from_slice(&value.to_le_bytes()[2..]),
                    DType::Q4_0 | DType::Q4_1 => bytes[at + col / 2] = (state >> 56) as u8,
                }
            }
            let scales = tensor.scale_offset + u64::from(row) * tensor.scale_stride();
            let groups = if tensor.dtype.is_quantized() { tensor.cols.div_ceil(32) } else { 0 };
            for group in 0..groups {
                let scale = f16::from_f32(0.01 + 0.001 * (group + row % 4) as f32).to_le_bytes();
                let minimum = f16::from_f32(0.02 * (group + row % 5) as f32 - 0.1).to_le_bytes();
                let of_group =
                    if tensor.dtype == DType::Q4_1 { [scale, minimum].concat() } else { scale.to_vec() };
                let at = usize::try_from(scales).unwrap() + of_group.len() * group as usize;
                bytes[at..at + of_group.len()].copy_from_slice(&of_group);
            }
        }
    }
    image::seal(&mut bytes).unwrap();
    bytes
}

/// The firmware of `kind`.
pub fn firmware(kind: &str) -> Vec<u8> {
    let folder = std::env::var_os("EDGEPROF_FIRMWARE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/firmware"), PathBuf::from);
    let file = folder.join(format!("{kind}.elf"));
    std::fs::read(&file).unwrap_or_else(|error| {
        panic!("{}: {error}; build it with: cargo xtask firmware {kind}", file.display())
    })
}
