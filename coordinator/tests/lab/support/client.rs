//! A client.

use edgeprof_common::{Digest, run::RunRecord};
use edgeprof_proto::v1::{self, profiler_client::ProfilerClient};
use tokio_stream::StreamExt;
use tonic::{Response, Status, transport::Channel};

use super::soon;
use crate::testing::tiny_model;

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
        let request = v1::SubmitJobRequest {
            spec: Some(spec),
            idempotency_key: key.into(),
            submitter: "tester".into(),
        };
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

    pub(crate) async fn job(&mut self, job: &str) -> v1::Job {
        self.0.get_job(v1::GetJobRequest { job_id: job.into() }).await.unwrap().into_inner()
    }

    pub(crate) async fn logs(&mut self, id: &str) -> Vec<v1::AttemptLog> {
        let request = v1::GetLogsRequest { id: id.into() };
        let stream = self.0.get_logs(request).await.unwrap().into_inner();
        stream.map(Result::unwrap).collect().await
    }

    pub(crate) async fn events(&mut self, id: &str) -> Vec<v1::TaskEvent> {
        let request = v1::GetEventsRequest { id: id.into() };
        self.0.get_events(request).await.unwrap().into_inner().events
    }

    pub(crate) async fn mark(
        &mut self,
        board: &str,
        mark: v1::mark_board_request::Mark,
    ) -> Result<v1::BoardStatus, Status> {
        let request = v1::MarkBoardRequest { board: board.into(), mark: Some(mark), by: "ann".into() };
        self.0.mark_board(request).await.map(Response::into_inner)
    }

    pub(crate) async fn drain(&mut self, worker: &str, undo: bool) -> Result<v1::WorkerStatus, Status> {
        let request = v1::DrainWorkerRequest { worker: worker.into(), undo };
        self.0.drain_worker(request).await.map(Response::into_inner)
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
