//! `edgeprof run` and `edgeprof submit`.

use std::path::PathBuf;

use edgeprof_client::{Client, Job};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    args::{Global, JobArgs},
    exit::{Exit, Failure},
    follow::{follow, pressed},
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
    let mut interrupt = signal(SignalKind::interrupt()).ok();
    carry_out(&client, &prepared, global, &mut interrupt).await
}

/// Sends a job, follows it to its end, and prints what came of it.
pub(crate) async fn carry_out(
    client: &Client,
    prepared: &Prepared,
    global: &Global,
    interrupt: &mut Option<Signal>,
) -> Result<Exit, Failure> {
    let mut view = View::new(global.progress);
    let job = tokio::select! {
        sent = send(client, prepared, &view) => sent?,
        () = pressed(interrupt) => {
            view.clear();
            return Err(Failure::signal(nix::sys::signal::Signal::SIGINT));
        }
    };
    let job = follow(client, &job.job_id, &mut view, interrupt).await?;
    let runs = client.results(&job.job_id).await?;
    output::print(&jobs::render(global.output, &runs, &job.tasks))?;
    let missing = job.tasks.len().saturating_sub(runs.len());
    if missing > 0 {
        let reasons = jobs::errors(&job.tasks);
        view.note(&format!("{missing} of {} cells ended without a record{reasons}", job.tasks.len()));
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
