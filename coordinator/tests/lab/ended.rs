//! Jobs that have ended: the loop forgets them, the store answers for them, and nobody can tell.

use edgeprof_common::{JobId, run::RunRecord};
use edgeprof_coordinator::{
    core::Command,
    daemon::Daemon,
    store::{Embedded, Store},
};
use edgeprof_proto::v1::{self, access_client::AccessClient, from_worker::Frame as From};
use tokio::sync::oneshot;

use crate::support::{Client, Lab, Played, config, program, soon};

/// More tasks of ended jobs than the loop keeps.
const MANY: usize = 1024;

/// All that can be asked of a job.
#[derive(Debug, PartialEq)]
struct Answers {
    shown: v1::Job,
    listed: Vec<v1::Job>,
    watched: Vec<v1::JobUpdate>,
    cancelled: v1::Job,
    again: v1::Job,
    other: tonic::Code,
    runs: Vec<RunRecord>,
    logs: Vec<v1::AttemptLog>,
    events: Vec<v1::TaskEvent>,
    events_of_task: Vec<v1::TaskEvent>,
}

async fn answers(client: &mut Client, job: &str, spec: &v1::JobSpec) -> Answers {
    let shown = client.job(job).await;
    let list = client.0.list_jobs(v1::ListJobsRequest { limit: 10 }).await.unwrap().into_inner().jobs;
    let cancel = v1::CancelJobRequest { job_id: job.into() };
    let other = v1::JobSpec { seed: 99, ..spec.clone() };
    let task = shown.tasks[0].task_id.clone();
    Answers {
        listed: list.into_iter().filter(|listed| listed.job_id == job).collect(),
        watched: client.watch(job).await,
        cancelled: client.0.cancel_job(cancel).await.unwrap().into_inner(),
        again: client.try_submit(spec.clone(), "k").await.unwrap(),
        other: client.try_submit(other, "k").await.unwrap_err().code(),
        runs: client.results(job).await,
        logs: client.logs(job).await,
        events: client.events(job).await,
        events_of_task: client.events(&task).await,
        shown,
    }
}

/// Whether the loop itself knows a job.
async fn knows(daemon: &Daemon, job: &str) -> bool {
    let (reply, answer) = oneshot::channel();
    let id: JobId = job.parse().unwrap();
    daemon.commands().send(Command::Job(id, reply)).await.unwrap();
    answer.await.unwrap().is_some()
}

/// Which cancels are in the log of who did what, and what became of them.
async fn cancels(daemon: &Daemon) -> Vec<(String, String)> {
    let mut access = AccessClient::connect(format!("http://{}", daemon.address())).await.unwrap();
    let log = access.list_audit(v1::ListAuditRequest::default()).await.unwrap().into_inner().entries;
    let cancels = log.into_iter().filter(|entry| entry.rpc == "CancelJob");
    cancels.map(|entry| (entry.target, entry.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_an_ended_job_is_the_same_once_it_is_forgotten_and_after_a_restart() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let mut spec = lab.client.spec(&["riscv32"]).await;
    spec.labels.insert("branch".into(), "main".into());
    // One task runs, the other is refused.
    (spec.prompts, spec.n_prompt) = (Vec::new(), vec![2, 60]);
    lab.client.until_boards().await;
    let job = lab.client.try_submit(spec.clone(), "k").await.unwrap().job_id;
    lab.client.watch(&job).await;
    let before = answers(&mut lab.client, &job, &spec).await;
    assert_eq!((before.shown.state.as_str(), before.shown.tasks_failed), ("failed", 1));
    assert_eq!((before.listed.len(), before.again.job_id.as_str()), (1, job.as_str()));
    assert!(before.shown.tasks[1].error.is_some() && before.logs.len() == 1 && before.events.len() > 4);
    assert!(knows(&lab.daemon, &job).await);

    let mut many = spec.clone();
    many.n_prompt = vec![60; MANY - 1];
    many.n_prompt.insert(0, 2);
    let later = lab.client.submit(many).await.job_id;
    lab.client.watch(&later).await;
    soon("the job to be forgotten", async {
        while knows(&lab.daemon, &job).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(answers(&mut lab.client, &job, &spec).await, before);
    assert_eq!(
        cancels(&lab.daemon).await,
        [(job.clone(), "unchanged".into()), (job.clone(), "unchanged".into())]
    );
    assert!(knows(&lab.daemon, &later).await, "the last is still known");
    let list = lab.client.0.list_jobs(v1::ListJobsRequest { limit: 1 }).await.unwrap().into_inner().jobs;
    assert_eq!(list.iter().map(|job| job.job_id.as_str()).collect::<Vec<_>>(), [&later], "newest first");
    lab.daemon.stop().await;

    let daemon = Daemon::start(&config(lab.folder.path(), &[&worker]), program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    assert!(!knows(&daemon, &job).await && !knows(&daemon, &later).await);
    let mut after = answers(&mut client, &job, &spec).await;
    // Whatever number of an earlier life a watcher has, it gets the present state.
    assert!(after.watched[0].sequence > before.watched[0].sequence);
    after.watched[0].sequence = before.watched[0].sequence;
    assert_eq!(after, before);
    let next = client.submit(spec).await.job_id;
    let list = client.0.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    let list: Vec<_> = list.into_iter().map(|job| job.job_id).collect();
    assert_eq!(list, [next, later, job], "in the order of submission over all lives");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_result_of_a_forgotten_task_is_a_duplicate_and_is_not_kept_aside() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    lab.client.watch(&job.job_id).await;
    worker.until_acked(1).await;
    lab.daemon.stop().await;

    let daemon = Daemon::start(&config(lab.folder.path(), &[&worker]), program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    client.until_boards().await;
    assert!(!knows(&daemon, &job.job_id).await);
    let runs = client.results(&job.job_id).await;
    let result = |task_id: &str| v1::Result {
        lease: Some(v1::Lease { epoch: 1, counter: 1 }),
        task_id: task_id.into(),
        board: "w/riscv32-0".into(),
        outcome: Some(v1::result::Outcome::Cancelled(v1::Cancelled {})),
        transcript: Vec::new(),
    };
    let unknown = edgeprof_common::TaskId::random().to_string();
    worker.say(From::Result(Box::new(result(&job.tasks[0].task_id))));
    worker.say(From::Result(Box::new(result(&unknown))));
    let acks = worker.until_acked(3).await;
    assert_eq!((acks[1].task_id.as_str(), acks[1].duplicate), (job.tasks[0].task_id.as_str(), true));
    assert_eq!((acks[2].task_id.as_str(), acks[2].duplicate), (unknown.as_str(), true));
    assert_eq!(client.results(&job.job_id).await, runs);
    daemon.stop().await;
    let store = Embedded::open(&lab.folder.path().join("data/store.redb")).unwrap();
    assert_eq!(store.scan(b"aside/", None, 10).unwrap().len(), 1, "only that of the unknown task");
}
