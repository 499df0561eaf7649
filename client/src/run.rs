//! `edgeprof run` and `edgeprof submit`.

use std::{path::PathBuf, time::Duration};

use edgeprof_client::{Client, ClientError, Job, Submission};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    args::{Global, JobArgs, Who},
    exit::{Exit, Failure},
    follow::{follow, pressed},
    job::{self, Prepared},
    jobs,
    output::{self, Format},
    progress::View,
};

/// `edgeprof run`
pub(crate) async fn run(global: &Global, args: JobArgs, who: &Who) -> Result<Exit, Failure> {
    if args.detach {
        return submit(global, None, args, who).await;
    }
    let prepared = job::prepare(&args, who)?;
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
pub(crate) async fn submit(
    global: &Global,
    file: Option<PathBuf>,
    args: JobArgs,
    who: &Who,
) -> Result<Exit, Failure> {
    let args = match file {
        Some(path) => job::read(&path)?,
        None => args,
    };
    let prepared = job::prepare(&args, who)?;
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

/// A full queue is asked again no sooner than this, whatever it says.
const SOON: Duration = Duration::from_millis(200);

/// Uploads what is missing, then submits, and waits for room in the queue where that was asked for.
async fn send(client: &Client, prepared: &Prepared, view: &View) -> Result<Job, Failure> {
    let sent = client.upload_missing(&prepared.files, |file, bytes| view.upload(file, bytes)).await;
    view.clear();
    sent?;
    let submission = Submission::new(&prepared.spec, &prepared.who.to_say(client))?;
    let until = Instant::now() + prepared.wait_for_room;
    let mut told = false;
    loop {
        let (error, wait) = match client.submit(&submission).await {
            Ok(job) => return Ok(job),
            Err(ClientError::Full { message, retry_after, hint }) => {
                let wait = retry_after.max(SOON);
                (ClientError::Full { message, retry_after, hint }, wait)
            }
            Err(error) => return Err(error.into()),
        };
        if Instant::now() + wait > until {
            let failure = Failure::from(error);
            let asked = !prepared.wait_for_room.is_zero();
            return Err(if asked {
                failure
            } else {
                failure.hint("or let it wait for room: --wait-for-room 10m")
            });
        }
        if !told {
            let most = humantime::format_duration(prepared.wait_for_room);
            view.note(&format!("{error}; trying again for at most {most}"));
            told = true;
        }
        tokio::time::sleep(wait).await;
    }
}
