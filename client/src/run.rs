//! `edgeprof run` and `edgeprof submit`.

use std::path::PathBuf;

use edgeprof_client::{Client, Job};

use crate::{
    args::{Global, JobArgs},
    exit::{Exit, Failure},
    follow::{OnInterrupt, follow},
    job::{self, Prepared},
    jobs,
    output::{self, Format},
    progress::View,
};

/// `edgeprof run`
pub(crate) async fn run(global: &Global, args: JobArgs) -> Result<Exit, Failure> {
    if args.detach {
        return submit(global, None, args).await;
    }
    let prepared = job::prepare(&args)?;
    let client = global.connect().await?;
    let mut view = View::new(global.progress);
    let job = send(&client, &prepared, &view).await?;
    let job = follow(&client, &job.job_id, &mut view, OnInterrupt::Cancel).await?;
    let runs = client.results(&job.job_id).await?;
    output::print(&jobs::render(global.output, &runs, &job.tasks))?;
    let missing = job.tasks.len().saturating_sub(runs.len());
    if missing > 0 {
        view.note(&format!(
            "{missing} of {} cells ended without a record: edgeprof show {}",
            job.tasks.len(),
            job.job_id
        ));
    }
    Ok(if job.state == "succeeded" { jobs::verdict(&runs) } else { Exit::CellFailed })
}

/// `edgeprof submit`
pub(crate) async fn submit(global: &Global, file: Option<PathBuf>, args: JobArgs) -> Result<Exit, Failure> {
    let args = match file {
        Some(path) => job::read(&path)?,
        None => args,
    };
    let prepared = job::prepare(&args)?;
    let client = global.connect().await?;
    let view = View::new(global.progress);
    let job = send(&client, &prepared, &view).await?;
    output::print(&match global.output {
        Format::Json => output::pretty(&output::value(&job)?),
        Format::Jsonl => format!("{}\n", output::value(&job)?),
        Format::Table | Format::Csv | Format::Md => format!("{}\n", job.job_id),
    })?;
    Ok(Exit::Ok)
}

/// Uploads what is missing, then submits.
async fn send(client: &Client, prepared: &Prepared, view: &View) -> Result<Job, Failure> {
    let sent = client.upload_missing(&prepared.files, |file, bytes| view.upload(file, bytes)).await;
    view.clear();
    sent?;
    Ok(client.submit(&prepared.spec).await?)
}
