//! Jobs of many tasks that are all alike.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use edgeprof_client::{Client, Event, LocalFile, Submission};
use edgeprof_common::{
    Quant,
    job::{JobSpec, MAX_CELLS},
};
use edgeprof_tests::shipped_model;
use tokio::task::JoinSet;

use crate::cluster::until;

/// Between two looks at a job: short beside a round, long beside what a look costs.
const PACE: Duration = Duration::from_millis(50);

/// What runs, and where.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    model: LocalFile,
    /// Selector of the boards.
    boards: String,
    quant: Quant,
    /// Tokens that each task generates.
    n_gen: u32,
}

impl Load {
    /// The shipped model on boards that are selected so, uploaded.
    pub(crate) async fn new(client: &Client, boards: &str) -> Result<Self> {
        let model = LocalFile::read(Path::new(&shipped_model()))?;
        client.upload_missing(std::slice::from_ref(&model), |_, _| {}).await?;
        Ok(Self { model, boards: boards.to_owned(), quant: Quant::Q8_0, n_gen: 4 })
    }

    /// The same with weights of another kind, and so with another image.
    pub(crate) fn quant(&self, quant: Quant) -> Self {
        Self { quant, ..self.clone() }
    }

    /// All of its tasks have one workload, so that it is prepared once.
    fn spec(&self, tasks: usize) -> Result<JobSpec> {
        let spec = serde_json::json!({
            "models": [self.model.as_model(None)],
            "boards": [self.boards],
            "n_prompt": vec![2; tasks],
            "n_gen": [self.n_gen],
            "quants": [self.quant],
            "kvs": ["i8"],
            "repetitions": 1,
            "warmup": 0,
        });
        serde_json::from_value(spec).context("a job as it is specified")
    }

    /// Submits `tasks` tasks in as few jobs as can have them, all at once, so that the cluster never waits for
    /// the client; gives the jobs' ids.
    pub(crate) async fn submit(&self, client: &Client, tasks: usize) -> Result<Vec<String>> {
        let (mut submitting, mut left) = (JoinSet::new(), tasks);
        while left > 0 {
            let now = left.min(MAX_CELLS);
            let (client, submission) = (client.clone(), Submission::new(&self.spec(now)?, "bench")?);
            submitting.spawn(async move { client.submit(&submission).await });
            left -= now;
        }
        let mut ids = Vec::new();
        while let Some(job) = submitting.join_next().await {
            ids.push(job??.job_id);
        }
        Ok(ids)
    }

    /// Submits one task and follows it until its result is durable.
    pub(crate) async fn alone(&self, client: &Client) -> Result<Duration> {
        let submission = Submission::new(&self.spec(1)?, "bench")?;
        let start = Instant::now();
        let job = client.submit(&submission).await?;
        let (mut watch, mut state) = (client.watch(&job.job_id), job.state);
        while let Some(event) = watch.next().await {
            if let Event::Job(job) = event? {
                state = job.state;
            }
        }
        let time = start.elapsed();
        ensure!(state == "succeeded", "job {} has {state}", job.job_id);
        Ok(time)
    }
}

/// Waits until every task of these jobs has a durable result. Only committed results are shown to clients.
pub(crate) async fn all_done(client: &Client, jobs: &[String], tasks: usize) -> Result<()> {
    let limit = u32::try_from(jobs.len())?;
    until(&format!("{tasks} tasks to end"), PACE, async || {
        let list = client.jobs(limit).await?;
        let ours: Vec<_> = list.iter().filter(|job| jobs.contains(&job.job_id)).collect();
        let failed: u32 = ours.iter().map(|job| job.tasks_failed).sum();
        ensure!(failed == 0, "{failed} tasks have failed");
        let ended = ours.len() == jobs.len() && ours.iter().all(|job| job.state == "succeeded");
        Ok(ended.then_some(()))
    })
    .await
}
