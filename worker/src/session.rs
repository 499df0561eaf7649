//! The gRPC face: turns streams into the hub's inputs, and takes blobs.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use edgeprof_common::BoardId;
use edgeprof_proto::v1::{
    self, FromWorker, ToWorker,
    to_worker::Frame as To,
    worker_server::{Worker as Service, WorkerServer},
};
use edgeprof_service::{
    shutdown::Tasks,
    status::with_hint,
    telemetry::rpc::Traced,
    tls::{Keeper, Refusals, count_messages},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{self, Server, server::Connected},
};
use tower::util::MapResponseLayer;

use crate::{
    blobs::{BlobError, Blobs},
    board::console::Console,
    hub::{Input, Opened},
};

/// How long a new session may take to say hello, and an upload to its next piece.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pieces of a console that wait for the slower side.
const PIECES: usize = 64;

type Output<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone, Debug)]
pub struct Face {
    hub: mpsc::Sender<Input>,
    blobs: Blobs,
    tasks: Tasks,
    refusals: Arc<Refusals>,
    keeper: Option<Arc<Keeper>>,
}

impl Face {
    /// A face before `hub`, which counts the messages that it refuses.
    pub fn new(hub: mpsc::Sender<Input>, blobs: Blobs, tasks: Tasks, refusals: Arc<Refusals>) -> Self {
        Self { hub, blobs, tasks, refusals, keeper: None }
    }

    /// Takes lists of what is revoked.
    #[must_use]
    pub fn with_certificates(self, keeper: Option<Arc<Keeper>>) -> Self {
        Self { keeper, ..self }
    }
}

/// Serves `face`, its health and its descriptors over `incoming` until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve<I, C, E>(face: Face, incoming: I, stop: CancellationToken) -> Result<(), transport::Error>
where
    I: Stream<Item = Result<C, E>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    C::ConnectInfo: Clone + Send + Sync + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<WorkerServer<Face>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the embedded descriptors are descriptors");
    let refusals = face.refusals.clone();
    Server::builder()
        .layer(Traced)
        .layer(MapResponseLayer::new(move |response| count_messages(&refusals, response)))
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(WorkerServer::new(face))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

fn board(name: &str) -> Result<BoardId, Status> {
    name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

fn stopping() -> Status {
    Status::unavailable("the worker is stopping")
}

#[tonic::async_trait]
impl Service for Face {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<FromWorker, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<ToWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut stream = request.into_inner();
        let first = timeout(PATIENCE, stream.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(ToWorker { command, frame: Some(To::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first frame must be hello"));
        };
        let (reply, answer) = oneshot::channel();
        self.hub.send(Input::Open(hello, command, reply)).await.map_err(|_| stopping())?;
        let Opened { number, frames, stop } = answer.await.map_err(|_| stopping())??;
        let (hub, refusals) = (self.hub.clone(), self.refusals.clone());
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    message = stream.message() => match message {
                        Ok(Some(frame)) => {
                            if hub.send(Input::Frame(number, frame)).await.is_err() {
                                return;
                            }
                        }
                        Ok(None) => break,
                        Err(status) => {
                            refusals.count_message(&status);
                            break;
                        }
                    },
                }
            }
            let _ = hub.send(Input::Closed(number)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::BlobChunk>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        let mut stream = request.into_inner();
        let late = |_| Status::deadline_exceeded("the next piece did not come");
        let Some(first) = timeout(PATIENCE, stream.message()).await.map_err(late)?? else {
            return Err(Status::invalid_argument("no chunk came"));
        };
        let digest = first.digest.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
        if self.blobs.has(&digest) {
            return Ok(Response::new(v1::PutBlobResponse { size: first.size }));
        }
        let blobs = self.blobs.clone();
        let mut upload = on_disk(move || blobs.receive(digest, first.size)).await?;
        let mut piece = Some(first.data);
        while let Some(data) = piece {
            // A write waits for the disk once enough of what was written before has not got there.
            upload = on_disk(move || upload.push(&data).map(|()| upload)).await?;
            piece = timeout(PATIENCE, stream.message()).await.map_err(late)??.map(|chunk| chunk.data);
        }
        let size = on_disk(move || upload.finish()).await?;
        Ok(Response::new(v1::PutBlobResponse { size }))
    }

    async fn put_revocations(
        &self,
        request: Request<v1::PutRevocationsRequest>,
    ) -> Result<Response<v1::PutRevocationsResponse>, Status> {
        let Some(keeper) = self.keeper.clone() else {
            return Err(Status::failed_precondition("this worker has no certificates"));
        };
        let list = request.into_inner().list;
        if list.is_empty() {
            let number = keeper.revoked().borrow().as_ref().map_or(0, |held| held.number());
            return Ok(Response::new(v1::PutRevocationsResponse { number }));
        }
        let handed = spawn_blocking(move || keeper.hand_over(&list)).await.map_err(|_| stopping())?;
        let handed = handed.map_err(|why| with_hint(Code::FailedPrecondition, why.what, Some(&why.hint)))?;
        Ok(Response::new(v1::PutRevocationsResponse { number: handed.holds().number() }))
    }

    async fn reset_board(
        &self,
        request: Request<v1::ResetBoardRequest>,
    ) -> Result<Response<v1::ResetBoardResponse>, Status> {
        let board = board(&request.into_inner().board)?;
        let (reply, answer) = oneshot::channel();
        self.hub.send(Input::Reset(board, reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?.map(Response::new)
    }

    type ConsoleStream = Output<v1::ConsoleOutput>;

    async fn console(
        &self,
        request: Request<Streaming<v1::ConsoleInput>>,
    ) -> Result<Response<Self::ConsoleStream>, Status> {
        let mut typed = request.into_inner();
        let first = timeout(PATIENCE, typed.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no board was named"))??;
        let Some(v1::ConsoleInput { board: name, data }) = first else {
            return Err(Status::invalid_argument("the first message must name a board"));
        };
        let (opened, answer) = oneshot::channel();
        let (to_board, input) = mpsc::channel(PIECES);
        let (output, from_board) = mpsc::channel(PIECES);
        let (reply, given) = oneshot::channel();
        let console = Console { opened, input, output };
        self.hub.send(Input::Console(board(&name)?, console, reply)).await.map_err(|_| stopping())?;
        given.await.map_err(|_| stopping())??;
        answer.await.map_err(|_| stopping())?.map_err(Status::failed_precondition)?;
        let (stop, refusals) = (self.tasks.stop_token(), self.refusals.clone());
        self.tasks.spawn(async move {
            let mut data = data;
            // Ends with whoever goes first: the person, the board, or the worker.
            loop {
                if !data.is_empty() && to_board.send(Bytes::from(data)).await.is_err() {
                    return;
                }
                let next = tokio::select! {
                    () = stop.cancelled() => return,
                    () = to_board.closed() => return,
                    next = typed.message() => next,
                };
                match next {
                    Ok(Some(input)) => data = input.data,
                    Ok(None) => return,
                    Err(status) => return refusals.count_message(&status),
                }
            }
        });
        let said = ReceiverStream::new(from_board).map(|said| match said {
            Ok(data) => Ok(v1::ConsoleOutput { data: data.into() }),
            Err(error) => Err(Status::aborted(error.to_string())),
        });
        Ok(Response::new(Box::pin(said)))
    }

    async fn check_board(
        &self,
        request: Request<v1::CheckBoardRequest>,
    ) -> Result<Response<v1::CheckBoardResponse>, Status> {
        let board = board(&request.into_inner().board)?;
        let (reply, answer) = oneshot::channel();
        self.hub.send(Input::Check(board, reply)).await.map_err(|_| stopping())?;
        let checks = answer.await.map_err(|_| stopping())??;
        let checks = checks
            .into_iter()
            .map(|check| v1::Check {
                name: check.name.into(),
                state: check.state.as_str().into(),
                found: check.found,
                remedy: check.remedy,
            })
            .collect();
        Ok(Response::new(v1::CheckBoardResponse { checks }))
    }
}

/// Works on the disk beside the runtime: heartbeats do not wait for it.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, Status> {
    spawn_blocking(work).await.map_err(|_| stopping())?.map_err(status)
}

fn status(error: BlobError) -> Status {
    match error {
        BlobError::TooLarge { .. } | BlobError::Full { .. } => Status::resource_exhausted(error.to_string()),
        BlobError::Mismatch { .. } | BlobError::TooLong { .. } => Status::invalid_argument(error.to_string()),
        BlobError::Io { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Status::resource_exhausted(format!("{error}; free space on the worker's disk"))
        }
        BlobError::Io { .. } => Status::internal(error.to_string()),
    }
}
