//! What clients may ask: `edgeprof.v1.Profiler`.

mod access;
mod artifacts;
pub mod audit;
mod boards;
mod events;
mod logs;
mod operate;
mod results;
mod submit;
mod watch;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use edgeprof_common::{BoardId, JobId, Role, RunId, TaskId};
use edgeprof_proto::v1::{self, profiler_server::Profiler};
use edgeprof_service::tls::Refusals;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    access::{Access, Caller, audit::entry},
    artifacts::{Artifacts, firmware::Folders},
    core::Command,
    ended,
    store::{
        Store, StoreError,
        rows::{AuditRow, Outcome},
    },
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Jobs that one list shows at most.
const JOBS: usize = 10_000;

/// Longest name of a submitter or an operator, in bytes.
const NAME: usize = 64;

/// When a full disk is worth another try.
const FULL: Duration = Duration::from_secs(60);

/// The service.
#[derive(Clone, Debug)]
pub struct Api {
    /// To the loop.
    pub commands: mpsc::Sender<Command>,
    /// To the workers.
    pub dialer: edgeprof_service::channel::Dialer,
    /// For records and for jobs that have ended, which are read as committed.
    pub store: Arc<dyn Store>,
    /// Number of what is known since this life began.
    pub first_event: u64,
    /// Blobs.
    pub artifacts: Artifacts,
    /// Where firmware comes from.
    pub firmware: Folders,
    /// Folder whose free space is watched.
    pub data: PathBuf,
    /// Largest artifact.
    pub max_artifact_bytes: u64,
    /// Free space below which submissions are refused.
    pub reserve_bytes: u64,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Where messages that are refused are counted.
    pub refusals: Arc<Refusals>,
    /// Ends streams.
    pub stop: CancellationToken,
}

impl Api {
    /// Whether the disk takes `more` bytes without touching the reserve, which is for results.
    fn room(&self, more: u64) -> Result<(), String> {
        let Some(free) = free(&self.data) else { return Ok(()) };
        let reserve = self.reserve_bytes;
        if free >= reserve.saturating_add(more) {
            return Ok(());
        }
        let (mib, place) = (|bytes: u64| bytes.div_ceil(1 << 20), self.data.display());
        let what = match more {
            0 => "less than".to_owned(),
            _ => format!("too few for {} MiB more and", mib(more)),
        };
        Err(format!(
            "the coordinator's disk has {} MiB free in {place}, {what} the {} MiB that it keeps for results; make \
             room there, or lower reserve_bytes in its configuration",
            free >> 20,
            mib(reserve)
        ))
    }

    /// Asks the loop.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Status::unavailable("the coordinator is stopping");
        self.commands.send(command(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// Asks the loop for a change that is to stand in the log of who did what.
    async fn ask_as<T>(
        &self,
        note: AuditRow,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Status> {
        self.ask(|reply| Command::Audited(Box::new(note), Box::new(command(reply)))).await
    }

    /// Cancels a job of the caller, or of anybody for an operator.
    async fn cancel(&self, caller: &Caller, id: JobId) -> Result<v1::Job, Status> {
        if caller.is_proven() && caller.role < Role::Operator {
            let job = self.job(id).await?;
            caller
                .owns(&format!("job {id}"), &job.submitter, Role::Operator)
                .map_err(|refusal| self.access.deny(caller, "CancelJob", refusal))?;
        }
        let note = entry(caller, "CancelJob", id, "");
        if let Some(job) = self.ask_as(note.clone(), |reply| Command::Cancel(id, reply)).await? {
            return Ok(job);
        }
        // It ended long ago, or there never was one.
        let job = self.job(id).await;
        let outcome = if job.is_ok() { Outcome::Unchanged } else { Outcome::Refused };
        self.access.note(AuditRow { outcome, ..note }, None).await?;
        job
    }

    /// A job with its tasks.
    async fn job(&self, id: JobId) -> Result<v1::Job, Status> {
        let job = self.ask_both(|reply| Command::Job(id, reply), move |store| ended::job(store, id)).await?;
        job.ok_or_else(|| unknown_job(id))
    }

    /// Reads from the store what is committed.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read(&*store)).await;
        read.map_err(|error| Status::internal(error.to_string()))?.map_err(broken)
    }

    /// Asks the loop, and where it does not know, because the job has ended, the store. In this order: what the loop
    /// has forgotten was committed before.
    async fn ask_both<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Option<T>>) -> Command,
        read: impl FnOnce(&dyn Store) -> Result<Option<T>, StoreError> + Send + 'static,
    ) -> Result<Option<T>, Status> {
        match self.ask(command).await? {
            Some(known) => Ok(Some(known)),
            None => self.read(read).await,
        }
    }

    /// The newest jobs, newest first.
    async fn jobs(&self, limit: usize) -> Result<Vec<v1::Job>, Status> {
        let known = self.ask(|reply| Command::Jobs(limit, reply)).await?;
        let ended = self.read(move |store| ended::jobs(store, limit)).await?;
        let all: BTreeMap<u64, v1::Job> = ended.into_iter().chain(known).collect();
        Ok(all.into_values().rev().take(limit).collect())
    }
}

fn broken(error: StoreError) -> Status {
    Status::internal(error.to_string())
}

/// Free bytes of the disk that a folder is on.
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(folder).ok()?;
    #[allow(clippy::useless_conversion)]
    Some(u64::from(stat.blocks_available()).saturating_mul(stat.fragment_size()))
}

fn job_id(text: &str) -> Result<JobId, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

/// The tasks of a job in the order of its cells, or one task, by its own id or its run's.
async fn tasks_named(api: &Api, id: &str) -> Result<Vec<TaskId>, Status> {
    if let Ok(run) = id.parse::<RunId>() {
        return Ok(vec![run.into()]);
    }
    if let Ok(task) = id.parse::<TaskId>() {
        return Ok(vec![task]);
    }
    let job = job_id(id)?;
    let tasks =
        api.ask_both(|reply| Command::Tasks(job, reply), move |store| ended::tasks(store, job)).await?;
    tasks.ok_or_else(|| unknown_job(job))
}

/// Refuses what is no name to be shown: too long, or with characters that a terminal acts upon.
fn name(what: &str, text: &str) -> Result<(), Status> {
    if text.len() <= NAME && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{what} has to be at most {NAME} bytes of printable text")))
}

fn unknown_board(board: &str) -> Status {
    edgeprof_service::status::with_hint(
        tonic::Code::NotFound,
        format!("there is no board {board}"),
        Some("`edgeprof boards` lists the boards of this coordinator"),
    )
}

fn unknown_job(id: JobId) -> Status {
    edgeprof_service::status::with_hint(
        tonic::Code::NotFound,
        format!("there is no job {id}"),
        Some("`edgeprof jobs` lists the jobs of this coordinator"),
    )
}

#[tonic::async_trait]
impl Profiler for Api {
    type WatchJobStream = Answers<v1::JobUpdate>;
    type GetResultsStream = Answers<v1::Run>;
    type GetLogsStream = Answers<v1::AttemptLog>;

    async fn missing_artifacts(
        &self,
        request: Request<v1::MissingArtifactsRequest>,
    ) -> Result<Response<v1::MissingArtifactsResponse>, Status> {
        let digests = artifacts::missing(&self.artifacts, &request.into_inner().digests)?;
        Ok(Response::new(v1::MissingArtifactsResponse { digests }))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::ArtifactChunk>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        let caller = Caller::of(&request)?;
        let size = artifacts::put(self, &caller, request.into_inner()).await?;
        Ok(Response::new(v1::PutArtifactResponse { size }))
    }

    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let caller = Caller::of(&request)?;
        let job = submit::submit(self, &caller, request.into_inner()).await?;
        Ok(Response::new(v1::SubmitJobResponse { job: Some(job) }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let id = job_id(&request.into_inner().job_id)?;
        self.job(id).await.map(Response::new)
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let limit = match request.into_inner().limit {
            0 => 100,
            limit => (limit as usize).min(JOBS),
        };
        let jobs = self.jobs(limit).await?;
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let v1::WatchJobRequest { job_id: id, after } = request.into_inner();
        let id = job_id(&id)?;
        let first_event = self.first_event;
        let end = move |store: &dyn Store| Ok(ended::update(store, id, first_event)?.map(watch::at_its_end));
        let updates = self.ask_both(|reply| Command::Watch(id, reply), end).await?;
        let updates = updates.ok_or_else(|| unknown_job(id))?;
        Ok(Response::new(watch::stream(updates, after, self.stop.clone())))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let caller = Caller::of(&request)?;
        let id = job_id(&request.into_inner().job_id)?;
        self.cancel(&caller, id).await.map(Response::new)
    }

    async fn list_boards(
        &self,
        request: Request<v1::ListBoardsRequest>,
    ) -> Result<Response<v1::ListBoardsResponse>, Status> {
        let wanted = request.into_inner().labels;
        let wanted = wanted
            .iter()
            .map(|label| {
                label
                    .split_once('=')
                    .ok_or_else(|| Status::invalid_argument(format!("label {label:?} is not KEY=VALUE")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut boards = self.ask(Command::Boards).await?;
        boards.retain(|board| {
            wanted.iter().all(|(key, value)| board.labels.get(*key).is_some_and(|v| v == value))
        });
        boards.sort_by_key(|board| board.id.parse::<BoardId>().ok());
        Ok(Response::new(v1::ListBoardsResponse { boards }))
    }

    async fn list_workers(
        &self,
        _request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let workers = self.ask(Command::Workers).await?;
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn get_results(
        &self,
        request: Request<v1::GetResultsRequest>,
    ) -> Result<Response<Self::GetResultsStream>, Status> {
        results::stream(self, &request.into_inner().id).await.map(Response::new)
    }

    async fn get_logs(
        &self,
        request: Request<v1::GetLogsRequest>,
    ) -> Result<Response<Self::GetLogsStream>, Status> {
        logs::stream(self, &request.into_inner().id).await.map(Response::new)
    }

    async fn check_board(
        &self,
        request: Request<v1::CheckBoardRequest>,
    ) -> Result<Response<v1::CheckBoardResponse>, Status> {
        let caller = Caller::of(&request)?;
        boards::check(self, &caller, &request.into_inner().board).await.map(Response::new)
    }

    async fn reset_board(
        &self,
        request: Request<v1::ResetBoardRequest>,
    ) -> Result<Response<v1::ResetBoardResponse>, Status> {
        let caller = Caller::of(&request)?;
        boards::reset(self, &caller, &request.into_inner().board).await.map(Response::new)
    }

    type ConsoleStream = Answers<v1::ConsoleOutput>;

    async fn console(
        &self,
        request: Request<Streaming<v1::ConsoleInput>>,
    ) -> Result<Response<Self::ConsoleStream>, Status> {
        let caller = Caller::of(&request)?;
        boards::console(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn get_events(
        &self,
        request: Request<v1::GetEventsRequest>,
    ) -> Result<Response<v1::GetEventsResponse>, Status> {
        events::list(self, &request.into_inner().id).await.map(Response::new)
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::WorkerStatus>, Status> {
        let caller = Caller::of(&request)?;
        operate::drain(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn mark_board(
        &self,
        request: Request<v1::MarkBoardRequest>,
    ) -> Result<Response<v1::BoardStatus>, Status> {
        let caller = Caller::of(&request)?;
        operate::mark(self, &caller, request.into_inner()).await.map(Response::new)
    }
}
