//! The calls.

use std::time::Duration;

use edgeprof_common::{Digest, JobId, Nonce, job::JobSpec, run::RunRecord};
use edgeprof_proto::{CHUNK, bridge, v1};
use edgeprof_service::{
    WORKER_PORT,
    channel::{Channel, ConnectError, Dialer},
    tls::Demand,
};
use tokio::io::AsyncReadExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, service::interceptor::InterceptedService};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use v1::{profiler_client::ProfilerClient, profiler_server::SERVICE_NAME};

use crate::{
    ClientError, LocalFile, Token, Watch,
    error::transport,
    retry::{Callee, calling},
    token::{Outgoing, in_the_clear},
};

/// How long a first connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a call is tried again over a broken connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest message taken: a record has one entry for each token.
const MAX_MESSAGE: usize = 64 << 20;

/// Why whoever answers on a new connection is no coordinator. One that says nothing of its health is taken
/// for one: it answered as gRPC does.
async fn stranger(channel: &Channel) -> Option<String> {
    let request = HealthCheckRequest { service: SERVICE_NAME.to_owned() };
    let mut health = HealthClient::new(channel.clone());
    match tokio::time::timeout(CONNECT, health.check(request)).await {
        Err(_) => Some("whoever listens there says nothing".into()),
        Ok(Err(status)) if status.code() == Code::NotFound => Some(format!(
            "what answers there is no coordinator, such as a worker; those listen on {WORKER_PORT}"
        )),
        Ok(Err(status)) => Some(format!("what answers there is no coordinator ({})", transport(&status)?)),
        Ok(Ok(_)) => None,
    }
}

/// A job on its way, under a key of its own.
#[derive(Clone, Debug)]
pub struct Submission {
    request: v1::SubmitJobRequest,
}

impl Submission {
    /// A new one, made for `submitter`: boards are shared fairly between submitters. Whoever shows the coordinator
    /// who they are leaves it empty, unless they submit for somebody else.
    ///
    /// # Errors
    /// When the job cannot be put into a message.
    pub fn new(spec: &JobSpec, submitter: &str) -> Result<Self, ClientError> {
        let spec: v1::JobSpec = bridge("job", spec)?;
        let key = format!("{}{}", Nonce::random(), Nonce::random());
        let submitter = submitter.to_owned();
        Ok(Self { request: v1::SubmitJobRequest { spec: Some(spec), idempotency_key: key, submitter } })
    }
}

/// A channel, and what each call carries beside its message.
pub(crate) type Carried = InterceptedService<Channel, Outgoing>;

/// A connection to a coordinator. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    outgoing: Outgoing,
    callee: Callee,
    patience: Duration,
}

impl Client {
    /// Connects to `http://HOST:PORT`, or `HOST:PORT`, without certificates.
    ///
    /// # Errors
    /// When that is no address, or no coordinator answers there.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Self::dial(address, &Dialer::default()).await
    }

    /// Connects in this way, with certificates where the dialer has some.
    ///
    /// # Errors
    /// When that is no address, no coordinator answers there, or certificates keep us from speaking.
    pub async fn dial(address: &str, dialer: &Dialer) -> Result<Self, ClientError> {
        // What is known of the last connection is of this one alone.
        let dialer = dialer.demanding(Demand::Coordinator);
        let callee = Callee { address: dialer.url(address), dialer };
        let channel = callee.dialer.connect(address, CONNECT).await.map_err(|error| match error {
            ConnectError::Address(address) => ClientError::Address { address },
            ConnectError::Untrusted { address, why } => ClientError::Untrusted { address, why },
            ConnectError::Unreachable { address, reason, .. } => {
                ClientError::Unreachable { tried: vec![format!("{address}: {reason}")] }
            }
        })?;
        if let Some(reason) = stranger(&channel).await {
            let address = callee.address;
            return Err(match callee.dialer.refusal() {
                Some(why) => ClientError::Untrusted { address, why },
                None => ClientError::Unreachable { tried: vec![format!("{address}: {reason}")] },
            });
        }
        let outgoing = Outgoing::default();
        Ok(Self { channel, outgoing, callee, patience: PATIENCE })
    }

    /// The same, whose calls carry a token.
    ///
    /// # Errors
    /// When the token could be read on the way: the connection leaves this machine without TLS.
    pub fn with_token(mut self, token: Token) -> Result<Self, ClientError> {
        if in_the_clear(&self.callee.address) {
            return Err(ClientError::Token {
                message: format!(
                    "a token is not sent to {} without TLS: everybody on the way could read it",
                    self.callee.address
                ),
                hint: "give the coordinator a certificate (`edgeprof pki`) and name it with https://".into(),
            });
        }
        self.outgoing.token = Some(token);
        Ok(self)
    }

    /// Whether it shows the coordinator who it is, which then needs no other name.
    pub fn is_identified(&self) -> bool {
        let certificate = || self.callee.dialer.identity().is_some() && !in_the_clear(&self.callee.address);
        self.outgoing.token.is_some() || certificate()
    }

    /// The same with another patience: how long a call is tried again over a broken connection.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whom it speaks to.
    pub fn address(&self) -> &str {
        &self.callee.address
    }

    pub(crate) const fn callee(&self) -> &Callee {
        &self.callee
    }

    pub(crate) const fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn carried(&self) -> Carried {
        InterceptedService::new(self.channel.clone(), self.outgoing.clone())
    }

    pub(crate) fn profiler(&self) -> ProfilerClient<Carried> {
        ProfilerClient::new(self.carried()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// One call, tried again over a broken connection: one that is safe to repeat.
    pub(crate) async fn call<Q, T, F>(
        &self,
        request: Q,
        send: impl Fn(ProfilerClient<Carried>, Q) -> F,
    ) -> Result<T, ClientError>
    where
        Q: Clone,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let call = || send(self.profiler(), request.clone());
        Ok(calling(&self.callee, self.patience, self.patience, call).await?.into_inner())
    }

    /// One call that is not: where the connection breaks, what came of it is for the caller to find out.
    pub(crate) async fn call_once<Q, T, F>(
        &self,
        request: Q,
        send: impl Fn(ProfilerClient<Carried>, Q) -> F,
    ) -> Result<T, ClientError>
    where
        Q: Clone,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.clone().with_patience(Duration::ZERO).call(request, send).await
    }

    /// The digests among these whose blobs the coordinator lacks.
    ///
    /// # Errors
    /// When the coordinator refuses or is lost.
    pub async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, ClientError> {
        let digests: Vec<_> = digests.iter().map(ToString::to_string).collect();
        let request = v1::MissingArtifactsRequest { digests };
        let answer = self.call(request, |mut p, q| async move { p.missing_artifacts(q).await }).await?;
        Ok(answer.digests.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// Uploads what the coordinator lacks of these files. `sent` is told each file and its bytes so far.
    ///
    /// # Errors
    /// When a file cannot be read, or the coordinator refuses it or is lost.
    pub async fn upload_missing(
        &self,
        files: &[LocalFile],
        sent: impl Fn(&LocalFile, u64) + Send + Sync,
    ) -> Result<(), ClientError> {
        let digests: Vec<_> = files.iter().map(LocalFile::digest).collect();
        for digest in self.missing(&digests).await? {
            let Some(file) = files.iter().find(|file| file.digest() == digest) else { continue };
            calling(&self.callee, self.patience, self.patience, || self.put(file, &sent)).await?;
        }
        Ok(())
    }

    async fn put(
        &self,
        file: &LocalFile,
        sent: &(impl Fn(&LocalFile, u64) + Sync),
    ) -> Result<(), tonic::Status> {
        let (chunks, stream) = tokio::sync::mpsc::channel(4);
        let unreadable = |error: std::io::Error| {
            tonic::Status::invalid_argument(format!("cannot read {}: {error}", file.path().display()))
        };
        let reading = async move {
            let mut source = tokio::fs::File::open(file.path()).await.map_err(unreadable)?;
            let (mut first, mut done) = (true, 0);
            loop {
                let mut data = Vec::with_capacity(CHUNK);
                while data.len() < CHUNK && source.read_buf(&mut data).await.map_err(unreadable)? > 0 {}
                if data.is_empty() && !first {
                    return Ok(());
                }
                done += data.len() as u64;
                let (digest, size) =
                    if first { (file.digest().to_string(), file.size()) } else { (String::new(), 0) };
                first = false;
                // A receiver that is gone has an answer for us.
                if chunks.send(v1::ArtifactChunk { digest, size, data: data.into() }).await.is_err() {
                    return Ok(());
                }
                sent(file, done);
            }
        };
        let mut profiler = self.profiler();
        let sending = profiler.put_artifact(ReceiverStream::new(stream));
        // The stream ends when `reading` has dropped its sender, on success and on error alike.
        let (read, answer): (Result<(), tonic::Status>, _) = tokio::join!(reading, sending);
        read?;
        answer.map(drop)
    }

    /// Submits a job whose files the coordinator has. Submitting the same again, over a broken connection or
    /// later, makes no second job.
    ///
    /// # Errors
    /// When the job is refused, the queue is full ([`ClientError::Full`]), or the coordinator is lost.
    pub async fn submit(&self, submission: &Submission) -> Result<v1::Job, ClientError> {
        let call = || {
            let (mut profiler, request) = (self.profiler(), submission.request.clone());
            async move { profiler.submit_job(request).await }
        };
        // Whether to wait for room is for the caller to say: it may be long.
        let answer = calling(&self.callee, self.patience, Duration::ZERO, call).await?.into_inner();
        answer.job.ok_or_else(|| ClientError::Failed {
            message: "it accepted the job without naming it".into(),
            hint: None,
        })
    }

    /// A job with its tasks.
    ///
    /// # Errors
    /// When there is no such job, or the coordinator is lost.
    pub async fn job(&self, job_id: &str) -> Result<v1::Job, ClientError> {
        let request = v1::GetJobRequest { job_id: job_id.to_owned() };
        self.call(request, |mut p, q| async move { p.get_job(q).await }).await
    }

    /// Jobs, newest first, without their tasks; 0 means as many as the coordinator likes to give.
    ///
    /// # Errors
    /// When the coordinator refuses or is lost.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<v1::Job>, ClientError> {
        let request = v1::ListJobsRequest { limit };
        let answer = self.call(request, |mut p, q| async move { p.list_jobs(q).await }).await?;
        Ok(answer.jobs)
    }

    /// The job as it is, then every change until it ends, over restarts of the coordinator.
    pub fn watch(&self, job_id: &str) -> Watch {
        Watch::new(self.clone(), job_id)
    }

    /// Asks for a job's end and gives it as it is then.
    ///
    /// # Errors
    /// When there is no such job, or the coordinator is lost.
    pub async fn cancel(&self, job_id: &str) -> Result<v1::Job, ClientError> {
        let request = v1::CancelJobRequest { job_id: job_id.to_owned() };
        self.call(request, |mut p, q| async move { p.cancel_job(q).await }).await
    }

    /// The recorded runs of a job in the order of its cells, or one run by its own id.
    ///
    /// # Errors
    /// When there is no such job or run, or the coordinator is lost.
    pub async fn results(&self, id: &str) -> Result<Vec<RunRecord>, ClientError> {
        let collect = || async {
            let request = v1::GetResultsRequest { id: id.to_owned() };
            let mut stream = self.profiler().get_results(request).await?.into_inner();
            let mut runs = Vec::new();
            while let Some(run) = stream.message().await? {
                runs.push(run);
            }
            Ok(runs)
        };
        let runs = calling(&self.callee, self.patience, self.patience, collect).await?;
        Ok(runs.iter().map(|run| bridge("run", run)).collect::<Result<_, _>>()?)
    }

    /// What passed on the lines of the boards, attempt by attempt, of a job or of one task.
    ///
    /// # Errors
    /// When there is no such job, or the coordinator is lost.
    pub async fn logs(&self, id: &str) -> Result<Vec<v1::AttemptLog>, ClientError> {
        let collect = || async {
            let request = v1::GetLogsRequest { id: id.to_owned() };
            let mut stream = self.profiler().get_logs(request).await?.into_inner();
            let mut logs = Vec::new();
            while let Some(log) = stream.message().await? {
                logs.push(log);
            }
            Ok(logs)
        };
        calling(&self.callee, self.patience, self.patience, collect).await
    }

    /// What became of every task of a job, or of one task, step by step, in the order of the job's cells.
    ///
    /// # Errors
    /// When there is no such job or task, or the coordinator is lost.
    pub async fn events(&self, id: &str) -> Result<Vec<v1::TaskEvent>, ClientError> {
        let request = v1::GetEventsRequest { id: id.to_owned() };
        let answer = self.call(request, |mut p, q| async move { p.get_events(q).await }).await?;
        Ok(answer.events)
    }

    /// Whether the text is a job's id; else it may be a run's.
    pub fn is_job_id(text: &str) -> bool {
        text.parse::<JobId>().is_ok()
    }
}
