//! A coordinator that does what a test tells it to.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use edgeprof_common::{Digest, run::RunRecord};
use edgeprof_proto::{
    bridge,
    v1::{
        self,
        profiler_server::{Profiler, ProfilerServer},
    },
};
use edgeprof_service::status;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};

pub(crate) const JOB: &str = "j0000000000001";

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
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) cancel: Arc<watch::Sender<bool>>,
    pub(crate) watching: Arc<Notify>,
}

impl Fake {
    /// Serves until the test ends, and says where.
    pub(crate) async fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(ProfilerServer::new(self));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
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
            board: Some("lab-1/mps2-an386-0".into()),
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

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Profiler for Fake {
    type WatchJobStream = Boxed<v1::JobUpdate>;
    type GetResultsStream = Boxed<v1::Run>;
    type GetLogsStream = Boxed<v1::AttemptLog>;

    async fn missing_artifacts(
        &self,
        request: Request<v1::MissingArtifactsRequest>,
    ) -> Result<Response<v1::MissingArtifactsResponse>, Status> {
        let state = self.state.lock().unwrap();
        let mut digests = request.into_inner().digests;
        digests.retain(|digest| !state.blobs.contains_key(digest));
        Ok(Response::new(v1::MissingArtifactsResponse { digests }))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::ArtifactChunk>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        let mut chunks = request.into_inner();
        let (mut name, mut announced, mut bytes) = (String::new(), 0, Vec::new());
        while let Some(chunk) = chunks.message().await? {
            if name.is_empty() {
                (name, announced) = (chunk.digest, chunk.size);
            }
            bytes.extend_from_slice(&chunk.data);
        }
        let size = bytes.len() as u64;
        if Digest::of(&bytes).to_string() != name || size != announced {
            return Err(Status::invalid_argument("the blob is not what its name says"));
        }
        self.state.lock().unwrap().blobs.insert(name, bytes);
        Ok(Response::new(v1::PutArtifactResponse { size }))
    }

    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let request = request.into_inner();
        {
            let mut state = self.state.lock().unwrap();
            state.keys.push(request.idempotency_key);
            let spec = request.spec.unwrap();
            if spec.boards.iter().any(|board| board == "nosuch") {
                let hint = Some("edgeprof boards lists them");
                return Err(status::with_hint(Code::InvalidArgument, "no board matches nosuch", hint));
            }
            state.spec = Some(spec);
            if state.lose_submission && state.keys.len() == 1 {
                return Err(Status::unavailable("going away"));
            }
        }
        Ok(Response::new(v1::SubmitJobResponse { job: Some(self.job(false)) }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        match request.into_inner().job_id.as_str() {
            JOB => Ok(Response::new(self.job(true))),
            other => Err(Status::not_found(format!("no job {other}"))),
        }
    }

    async fn list_jobs(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let job = v1::Job { tasks: Vec::new(), ..self.job(true) };
        Ok(Response::new(v1::ListJobsResponse { jobs: vec![job] }))
    }

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let (breaks, endless) = {
            let mut state = self.state.lock().unwrap();
            state.watched_after.push(request.into_inner().after);
            (state.break_watch && state.watched_after.len() == 1, state.endless)
        };
        let first = Ok(v1::JobUpdate { sequence: 7, job: Some(self.job(false)) });
        self.watching.notify_one();
        if breaks {
            let end = Err(Status::unavailable("the coordinator stops"));
            return Ok(Response::new(Box::pin(tokio_stream::iter([first, end]))));
        }
        let fake = self.clone();
        let last = async move {
            if endless {
                let _ = fake.cancel.subscribe().wait_for(|cancelled| *cancelled).await;
            }
            Ok(v1::JobUpdate { sequence: 9, job: Some(fake.job(true)) })
        };
        let (send, receive) = tokio::sync::mpsc::channel(2);
        tokio::spawn(async move {
            let _ = send.send(first).await;
            let _ = send.send(last.await).await;
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receive))))
    }

    async fn cancel_job(&self, _: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let mut state = self.state.lock().unwrap();
        state.cancelled = true;
        if !state.deaf {
            self.cancel.send_replace(true);
        }
        drop(state);
        Ok(Response::new(v1::Job { state: "cancelling".into(), ..self.job(false) }))
    }

    async fn list_boards(
        &self,
        _: Request<v1::ListBoardsRequest>,
    ) -> Result<Response<v1::ListBoardsResponse>, Status> {
        let board = v1::BoardStatus {
            id: "lab-1/mps2-an386-0".into(),
            kind: "mps2-an386".into(),
            worker: "lab-1".into(),
            health: "good".into(),
            ..v1::BoardStatus::default()
        };
        Ok(Response::new(v1::ListBoardsResponse { boards: vec![board] }))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let worker = v1::WorkerStatus {
            id: "lab-1".into(),
            address: "127.0.0.1:7451".into(),
            health: "alive".into(),
            boards: 1,
            epoch: 3,
            last_heard_ms: Some(420),
            version: "0.1.0".into(),
            found_by: "static".into(),
            ..v1::WorkerStatus::default()
        };
        Ok(Response::new(v1::ListWorkersResponse { workers: vec![worker] }))
    }

    async fn get_logs(
        &self,
        request: Request<v1::GetLogsRequest>,
    ) -> Result<Response<Self::GetLogsStream>, Status> {
        let id = request.into_inner().id;
        if id != JOB {
            return Err(Status::not_found(format!("there is no job {id}")));
        }
        let log = |outcome: &str, text: &str| v1::AttemptLog {
            task_id: "t1".into(),
            scenario: "quick".into(),
            board: "host-1/riscv32.0".into(),
            outcome: outcome.into(),
            text: text.into(),
        };
        let logs = [log("failed", "+0.1 \u{2190} noise \x1b[31m\n"), log("succeeded", "+0.2 all well\n")];
        Ok(Response::new(Box::pin(tokio_stream::iter(logs).map(Ok))))
    }

    async fn check_board(
        &self,
        request: Request<v1::CheckBoardRequest>,
    ) -> Result<Response<v1::CheckBoardResponse>, Status> {
        let check = |name: &str, state: &str, remedy: Option<&str>| v1::Check {
            name: name.into(),
            state: state.into(),
            found: format!("{name} was looked at"),
            remedy: remedy.map(str::to_owned),
        };
        let checks = match request.into_inner().board.as_str() {
            "host-1/good" => vec![check("line", "ok", None)],
            "host-1/bad" => vec![check("line", "problem", Some("plug the board in"))],
            other => return Err(Status::not_found(format!("there is no board {other}"))),
        };
        Ok(Response::new(v1::CheckBoardResponse { checks }))
    }

    async fn get_results(
        &self,
        request: Request<v1::GetResultsRequest>,
    ) -> Result<Response<Self::GetResultsStream>, Status> {
        let id = request.into_inner().id;
        if id != JOB {
            return Err(Status::not_found(format!("no run {id}")));
        }
        let runs = self.state.lock().unwrap().runs.clone();
        let runs: Vec<_> = runs.iter().map(|run| bridge("run", run).unwrap()).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(runs).map(Ok))))
    }
}
