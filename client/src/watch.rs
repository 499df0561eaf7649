//! Following a job over broken connections and restarts of its coordinator.

use std::time::Duration;

use edgeprof_common::JobState;
use edgeprof_proto::v1;
use tonic::{Status, Streaming};

use crate::{Client, ClientError, retry::Backoff};

/// How long a coordinator may stay away before a watch gives up.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a watch sees.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum Event {
    /// The job as it is now.
    Job(v1::Job),
    /// The connection broke; it is tried again. Said once each time.
    Lost {
        /// Why it broke.
        reason: String,
    },
    /// The connection is back.
    Back,
}

/// A running watch. Dropping it leaves the job alone.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    job_id: String,
    /// Number of the last committed event seen.
    after: u64,
    stream: Option<Streaming<v1::JobUpdate>>,
    backoff: Backoff,
    pending: Option<Event>,
    pause: Option<Duration>,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(client: Client, job_id: &str) -> Self {
        Self {
            client,
            job_id: job_id.to_owned(),
            after: 0,
            stream: None,
            backoff: Backoff::new(PATIENCE),
            pending: None,
            pause: None,
            ended: false,
        }
    }

    /// The same with another patience: how long the coordinator may stay away.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.backoff = Backoff::new(patience);
        self
    }

    /// The next thing seen; `None` after the job has ended. May be dropped at any await and called again.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        loop {
            if let Some(event) = self.pending.take() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
                self.pause = None;
            }
            match self.step().await {
                Ok(Some(job)) => return Some(Ok(self.seen(job))),
                Ok(None) => {}
                Err(status) => {
                    if let Err(error) = self.broken(&status) {
                        self.ended = true;
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// One message, or nothing where the stream ended before the job did.
    async fn step(&mut self) -> Result<Option<v1::Job>, Status> {
        let mut profiler = self.client.profiler();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let request = v1::WatchJobRequest { job_id: self.job_id.clone(), after: self.after };
                let stream = profiler.watch_job(request).await?.into_inner();
                self.stream.insert(stream)
            }
        };
        match stream.message().await? {
            Some(update) => {
                self.after = self.after.max(update.sequence);
                Ok(update.job)
            }
            None => {
                self.stream = None;
                // Nothing after the last number seen may mean that the job ended with it.
                let request = v1::GetJobRequest { job_id: self.job_id.clone() };
                let job = profiler.get_job(request).await?.into_inner();
                if !is_over(&job) {
                    return Err(Status::unavailable("the coordinator ended the watch"));
                }
                Ok(Some(job))
            }
        }
    }

    /// The event of a job seen, behind the news that the connection is back.
    fn seen(&mut self, job: v1::Job) -> Event {
        self.ended = is_over(&job);
        let was_lost = !self.backoff.is_fresh();
        self.backoff.reset();
        if was_lost {
            self.pending = Some(Event::Job(job));
            return Event::Back;
        }
        Event::Job(job)
    }

    fn broken(&mut self, status: &Status) -> Result<(), ClientError> {
        self.stream = None;
        let reason = self.client.callee().lost(status)?;
        if self.backoff.is_fresh() {
            self.pending = Some(Event::Lost { reason: reason.clone() });
        }
        self.pause = self.backoff.wait();
        match self.pause {
            Some(_) => Ok(()),
            None => Err(ClientError::Lost { address: self.client.address().to_owned(), reason }),
        }
    }
}

/// Whether a job never changes again.
fn is_over(job: &v1::Job) -> bool {
    !matches!(job.state.parse(), Ok(JobState::Open | JobState::Cancelling))
}
