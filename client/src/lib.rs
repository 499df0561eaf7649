//! A small client of an edgeprof coordinator: submit profiling jobs, follow them, read their results.
//!
//! ```no_run
//! use edgeprof_client::{Client, Event, LocalFile, Submission};
//! use edgeprof_common::job::JobSpec;
//!
//! # async fn example(mut spec: JobSpec) -> Result<(), edgeprof_client::ClientError> {
//! let client = Client::connect("http://127.0.0.1:7450").await?;
//! let model = LocalFile::read("stories260K.gguf".as_ref())?;
//! client.upload_missing(std::slice::from_ref(&model), |_file, _bytes| {}).await?;
//! spec.models = vec![model.as_model(None)];
//!
//! let job = client.submit(&Submission::new(&spec, "nightly")?).await?;
//! let mut watch = client.watch(&job.job_id);
//! while let Some(event) = watch.next().await {
//!     if let Event::Job(job) = event? {
//!         println!("{} of {} cells done", job.tasks_done, job.tasks_total);
//!     }
//! }
//! for run in client.results(&job.job_id).await? {
//!     println!("{}: {:?}", run.scenario, run.state);
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod access;
pub mod address;
mod client;
mod error;
mod file;
mod lab;
mod line;
mod retry;
mod token;
mod watch;

pub use client::{Client, Submission};
pub use edgeprof_proto::v1::{
    AccessToken, AttemptLog, AuditEntry, BoardStatus, Check, Job, Progress, PublishRevocationsResponse,
    ResetBoardResponse, Task, TaskEvent, WorkerStatus,
};
pub use error::ClientError;
pub use file::{LocalFile, check_models};
pub use line::{Line, Typed};
pub use token::Token;
pub use watch::{Event, Watch};
