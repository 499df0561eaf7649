//! What no board does on purpose, and so no test from outside can ask for.

use std::sync::Arc;

use edgeprof_boards::catalogue;
use edgeprof_common::{ClusterId, Digest, Nonce, TaskId};
use edgeprof_proto::v1::result::Outcome;
use tempfile::TempDir;

use super::*;

const BOARD: &str = "w/noop.0";

struct Rig {
    hub: Hub,
    queue: Queue,
    frames: mpsc::Receiver<Result<FromWorker, Status>>,
    // Where questions to the board go.
    orders: mpsc::Receiver<Order>,
    _folder: TempDir,
}

/// A hub with one board whose task is this test, and a session.
fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (queue, (asks, orders)) = (Queue::new(), mpsc::channel(1));
    let board = Board {
        id: BOARD.parse().unwrap(),
        kind: catalogue().get("noop").unwrap(),
        labels: BTreeMap::new(),
        queue: queue.clone(),
        orders: asks,
        reset: Arc::new(Notify::new()),
    };
    let limits = Limits::default();
    let mut hub = Hub::new(Parts {
        worker: "w".parse().unwrap(),
        site: "lab".into(),
        fence: Fence::open(folder.path()).unwrap(),
        trust: Trust::new(),
        outbox: Outbox::open(&made("outbox"), limits.outbox).unwrap(),
        blobs: Blobs::open(&made("blobs"), limits.blob_bytes, limits.cache_bytes).unwrap(),
        limits,
        boards: vec![board],
    });
    let hello = v1::CoordinatorHello {
        protocol: edgeprof_proto::SESSION.major,
        protocol_minor: edgeprof_proto::SESSION.minor,
        site: "lab".into(),
        cluster_id: ClusterId::from_raw(1).to_string(),
        epoch: 1,
        nonce: Nonce::from_raw(1).to_string(),
        ..v1::CoordinatorHello::default()
    };
    let frames = hub.open(&hello, 0).unwrap().frames;
    hub.event(&BOARD.parse().unwrap(), Event::Health(edgeprof_common::BoardHealth::Good, None));
    Rig { hub, queue, frames, orders, _folder: folder }
}

impl Rig {
    fn start(&mut self, counter: u64) {
        let spec = v1::AttemptSpec {
            firmware_digest: Digest::of(b"").to_string(),
            image_digest: Digest::of(b"image").to_string(),
            image_size: 5,
            tokens: vec![1],
            n_gen: 1,
            ctx: 8,
            kv: "f16".into(),
            repetitions: 1,
            ..v1::AttemptSpec::default()
        };
        self.hub.start(v1::Start {
            lease: Some(v1::Lease { epoch: 1, counter }),
            task_id: TaskId::from_raw(counter.into()).to_string(),
            board: BOARD.into(),
            spec: Some(spec),
            traceparent: None,
        });
    }

    /// What was said, but for what every attempt says.
    fn said(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Ok(Ok(FromWorker { frame: Some(frame), .. })) = self.frames.try_recv() {
            match frame {
                From::Result(result) => match result.outcome {
                    Some(Outcome::Error(error)) => said.push(error.code),
                    other => said.push(format!("{other:?}")),
                },
                From::Rejected(rejected) => said.push(rejected.reason),
                From::Board(board) => said.push(board.health),
                _ => {}
            }
        }
        said
    }
}

#[tokio::test]
async fn a_board_without_a_task_is_bad_and_keeps_nothing() {
    let mut rig = rig();
    for counter in 1..=3 {
        rig.start(counter);
    }
    assert!(rig.queue.start(edgeprof_common::Token { epoch: Epoch(1), counter: 1 }));
    rig.said();
    let board: BoardId = BOARD.parse().unwrap();
    rig.hub.event(&board, Event::Broken("it divided by zero".into()));
    assert_eq!(rig.said(), ["bad", "busy", "busy", "board_task"]);
    let held: Vec<_> = rig.hub.held().into_iter().map(|held| held.state).collect();
    assert_eq!(held, ["outbox"]);
    rig.start(4);
    assert_eq!(rig.said(), ["busy"]);
    // Nor does a person wait for it.
    drop(rig.orders);
    let (reply, answer) = oneshot::channel();
    rig.hub.check(&board, reply);
    let why = answer.await.unwrap().unwrap_err().to_string();
    assert!(why.contains("it divided by zero") && why.contains("restart the worker"), "{why}");
}
