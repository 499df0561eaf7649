//! A coordinator that does what a test tells it to.

mod access;
mod service;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use edgeprof_common::run::RunRecord;
use edgeprof_proto::v1::{self, access_server::AccessServer, profiler_server::ProfilerServer};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_stream::wrappers::TcpListenerStream;

pub(crate) use access::SECRET;

pub(crate) const JOB: &str = "j0000000000001";
pub(crate) const BOARD: &str = "lab-1/mps2-an386-0";

#[derive(Default)]
pub(crate) struct State {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// Keys of the submissions that arrived.
    pub(crate) keys: Vec<String>,
    pub(crate) spec: Option<v1::JobSpec>,
    /// Numbers that watches started after.
    pub(crate) watched_after: Vec<u64>,
    pub(crate) runs: Vec<RunRecord>,
    pub(crate) failed: bool,
    pub(crate) cancelled: bool,
    /// The first answer to a submission is lost.
    pub(crate) lose_submission: bool,
    /// The first watch breaks after one update.
    pub(crate) break_watch: bool,
    /// The job ends only when it is cancelled.
    pub(crate) endless: bool,
    /// And not even then.
    pub(crate) deaf: bool,
    /// So many submissions find no room.
    pub(crate) full: usize,
    /// The first submission gets no answer.
    pub(crate) hold_submission: bool,
    pub(crate) submitters: Vec<String>,
    /// Attempts on the worker's boards: one less each time that somebody looks.
    pub(crate) attempts: u32,
    pub(crate) draining: bool,
    /// Somebody undoes a drain while one attempt is left.
    pub(crate) undoes: bool,
    /// Mark of the worker's board, who set it, and why.
    pub(crate) mark: Option<(&'static str, String, Option<String>)>,
    pub(crate) reserved: Option<u64>,
    /// Boards and workers cannot be listed.
    pub(crate) lists_fail: bool,
    /// Restarts that were asked for.
    pub(crate) resets: usize,
    /// Their answers are lost.
    pub(crate) lose_resets: bool,
    /// What was typed on the console.
    pub(crate) typed: Vec<u8>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) cancel: Arc<watch::Sender<bool>>,
    pub(crate) watching: Arc<Notify>,
    pub(crate) submitted: Arc<Notify>,
}

/// One that can be killed, so that its connections break and its port is free.
pub(crate) struct Killable {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
}

impl Killable {
    pub(crate) fn start(fake: &Fake, address: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let fake = fake.clone();
        runtime.spawn(async move { fake.serve(TcpListener::from_std(listener).unwrap()).await });
        Self { runtime, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn kill(self) {
        let ended = move || self.runtime.shutdown_timeout(std::time::Duration::from_secs(60));
        tokio::task::spawn_blocking(ended).await.unwrap();
    }
}

impl Fake {
    /// Serves until the test ends, and says where.
    pub(crate) async fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(self.serve(listener));
        address
    }

    async fn serve(self, listener: TcpListener) {
        let access = AccessServer::new(self.clone());
        let server =
            tonic::transport::Server::builder().add_service(ProfilerServer::new(self)).add_service(access);
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    }

    fn lists(&self) -> Result<(), tonic::Status> {
        if self.state.lock().unwrap().lists_fail {
            return Err(tonic::Status::internal("the list is lost"));
        }
        Ok(())
    }

    fn board(&self) -> v1::BoardStatus {
        let state = self.state.lock().unwrap();
        let busy = state.attempts > 0;
        v1::BoardStatus {
            id: BOARD.into(),
            kind: "mps2-an386".into(),
            worker: "lab-1".into(),
            health: "good".into(),
            job_id: busy.then(|| JOB.into()),
            task_id: busy.then(|| "t00000000000000000000000001".into()),
            scenario: busy.then(|| "native kv f16 p5 n3".into()),
            waiting: state.attempts.saturating_sub(1),
            mark: state.mark.as_ref().map(|(mark, ..)| (*mark).to_owned()),
            marked_by: state.mark.as_ref().map(|(_, by, _)| by.clone()),
            reason: state.mark.as_ref().and_then(|(.., why)| why.clone()),
            reserved_ms: state.reserved,
            ..v1::BoardStatus::default()
        }
    }

    fn worker(&self) -> v1::WorkerStatus {
        let state = self.state.lock().unwrap();
        v1::WorkerStatus {
            id: "lab-1".into(),
            address: "127.0.0.1:7451".into(),
            health: if state.draining { "draining" } else { "alive" }.into(),
            boards: 1,
            epoch: 3,
            last_heard_ms: Some(420),
            version: "0.1.0".into(),
            found_by: "static".into(),
            draining: state.draining,
            attempts: state.attempts,
            ..v1::WorkerStatus::default()
        }
    }

    fn job(&self, done: bool) -> v1::Job {
        let state = self.state.lock().unwrap();
        let (job, task) = match (done, state.cancelled, state.failed) {
            (false, ..) => ("open", "leased"),
            (true, true, _) => ("cancelled", "cancelled"),
            (true, _, true) => ("failed", "failed"),
            (true, ..) => ("succeeded", "succeeded"),
        };
        let tasks = state.runs.iter().map(|run| v1::Task {
            task_id: run.task_id.to_string(),
            state: task.into(),
            scenario: run.scenario.clone(),
            board_selector: "all".into(),
            board: Some(BOARD.into()),
            attempts: 1,
            progress: (!done).then(|| v1::Progress { phase: "run".into(), done: 8, total: 32 }),
            ..v1::Task::default()
        });
        let tasks: Vec<_> = tasks.collect();
        v1::Job {
            job_id: JOB.into(),
            state: job.into(),
            submitted_at: "2026-01-01T00:00:00Z".into(),
            priority: "normal".into(),
            tasks_total: tasks.len() as u32,
            tasks_done: if done { tasks.len() as u32 } else { 0 },
            tasks,
            ..v1::Job::default()
        }
    }
}
