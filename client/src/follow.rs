//! Following a job on a terminal.

use edgeprof_client::{Client, Event, Job};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{exit::Failure, progress::View};

/// What Ctrl-C means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// The job is this command's: the first cancels it, the second leaves at once.
    Cancel,
    /// The job is only looked at.
    Leave,
}

/// Exit code of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Shows the job until it ends, and gives its last state.
pub(crate) async fn follow(
    client: &Client,
    job_id: &str,
    view: &mut View,
    on_interrupt: OnInterrupt,
) -> Result<Job, Failure> {
    let mut interrupt: Option<Signal> = match on_interrupt {
        OnInterrupt::Cancel => signal(SignalKind::interrupt()).ok(),
        OnInterrupt::Leave => None,
    };
    let (answers, mut answered) = tokio::sync::mpsc::channel(1);
    let mut asked = false;
    let mut last = None;
    let mut watch = client.watch(job_id);
    loop {
        let next = watch.next();
        tokio::pin!(next);
        // A key must not break off the request under way.
        let event = loop {
            tokio::select! {
                event = &mut next => break event,
                () = pressed(&mut interrupt) => {
                    if asked {
                        view.clear();
                        std::process::exit(INTERRUPTED);
                    }
                    asked = true;
                    view.note(&format!("cancelling {job_id}; press Ctrl-C again to leave at once"));
                    let (client, job_id, answers) = (client.clone(), job_id.to_owned(), answers.clone());
                    tokio::spawn(async move {
                        let _ = answers.send(client.cancel(&job_id).await).await;
                    });
                }
                Some(answer) = answered.recv() => {
                    if let Err(error) = answer {
                        view.note(&format!("could not cancel: {error}"));
                        asked = false;
                    }
                }
            }
        };
        match event {
            Some(Ok(Event::Job(job))) => {
                view.job(&job);
                last = Some(job);
            }
            Some(Ok(Event::Lost { reason })) => {
                view.note(&format!("lost the coordinator at {} ({reason}), trying again", client.address()));
            }
            Some(Ok(Event::Back)) => view.note("the coordinator is back"),
            Some(Err(error)) => {
                view.clear();
                let goes_on = error.unreachable();
                let failure = Failure::from(error);
                let way = format!("follow the job with: edgeprof watch {job_id}");
                return Err(if goes_on { failure.hint(way) } else { failure });
            }
            None => {
                view.clear();
                return last.ok_or_else(|| Failure::usage(format!("job {job_id} ended before it was seen")));
            }
        }
    }
}

async fn pressed(interrupt: &mut Option<Signal>) {
    match interrupt {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
