//! Following a job on a terminal.

use edgeprof_client::{Client, Event, Job};
use tokio::signal::unix::Signal;

use crate::{exit::Failure, progress::View};

/// Shows the job until it ends, and gives its last state. Where the job is this command's, `interrupt` is
/// Ctrl-C: the first cancels the job, the second leaves at once.
pub(crate) async fn follow(
    client: &Client,
    job_id: &str,
    view: &mut View,
    interrupt: &mut Option<Signal>,
) -> Result<Job, Failure> {
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
                () = pressed(interrupt) => {
                    if asked {
                        view.clear();
                        return Err(Failure::signal(nix::sys::signal::Signal::SIGINT));
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

/// Ctrl-C, where it is listened to.
pub(crate) async fn pressed(interrupt: &mut Option<Signal>) {
    match interrupt {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
