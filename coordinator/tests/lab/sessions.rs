//! Jobs that run on a played worker.

use std::sync::Arc;

use edgeprof_common::run::{RunState, Verification, json_schema};
use edgeprof_coordinator::{
    artifacts::Artifacts,
    core::Command,
    daemon::Daemon,
    session::{Context, FoundBy, Greeting, SessionEvent, Target, Up, keep},
    store::{Memory, rows},
};
use edgeprof_proto::{
    SESSION,
    session::Version,
    v1::{self, from_worker::Frame as From},
};
use edgeprof_service::{channel::Dialer, status};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::support::{Client, Lab, Played, config, program, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_on_every_board_that_it_names_and_its_records_are_verified() {
    let worker = Played::start("w", &["mps2-an386", "riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let mut spec = lab.client.spec(&["all"]).await;
    spec.labels.insert("branch".into(), "main".into());
    let job = lab.client.submit(spec).await;
    assert_eq!((job.state.as_str(), job.tasks_total), ("open", 2));
    let updates = lab.client.watch(&job.job_id).await;
    let last = updates.last().unwrap().job.as_ref().unwrap();
    assert_eq!((last.state.as_str(), last.tasks_done), ("succeeded", 2), "{last:?}");
    assert!(updates.is_sorted_by_key(|update| update.sequence));

    let runs = lab.client.results(&job.job_id).await;
    assert_eq!(runs.len(), 2);
    let schema = serde_json::to_value(json_schema()).unwrap();
    for (run, kind) in runs.iter().zip(["mps2-an386", "riscv32"]) {
        assert_eq!((run.state, run.reasons.as_slice()), (RunState::Ok, &[][..]));
        assert_eq!(run.workload.verification, Some(Verification::Hash));
        assert_eq!(run.board.as_ref().unwrap().kind, kind);
        assert_eq!(run.workload.n_gen, Some(8));
        assert!(run.workload.output_text.is_some() && run.started_at.is_some());
        assert!(run.estimate.is_some() && run.timing.is_none());
        assert_eq!(run.labels["branch"], "main");
        let json = serde_json::to_value(run).unwrap();
        jsonschema::validate(&schema, &json).unwrap_or_else(|error| panic!("{error} in {json:#}"));
    }
    assert_eq!(runs[0].workload.output_tokens, runs[1].workload.output_tokens);
    let one = lab.client.results(&runs[0].run_id.to_string()).await;
    assert_eq!(one[0], runs[0]);
    // What is over is told once, and then the stream ends.
    assert_eq!(lab.client.watch(&job.job_id).await.len(), 1);
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_makes_one_job() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    lab.client.until_boards().await;
    let first = lab.client.try_submit(spec.clone(), "k").await.unwrap();
    let again = lab.client.try_submit(spec.clone(), "k").await.unwrap();
    assert_eq!(first.job_id, again.job_id);
    let other = v1::JobSpec { seed: 8, ..spec };
    let status = lab.client.try_submit(other, "k").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::AlreadyExists, "{status:?}");
    lab.daemon.stop().await;
}

/// However they meet: one of the two is taken, and the other is told so.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_at_the_same_time_makes_one_job_and_no_answer_is_of_the_others() {
    let mut lab = Lab::start(&[]).await;
    let mut spec = lab.client.spec(&["riscv32"]).await;
    spec.wait_for_board_ms = Some(3_600_000);
    for round in 0..20 {
        let key = format!("k{round}");
        let specs = [1, 2].map(|seed| v1::JobSpec { seed, ..spec.clone() });
        let (mut one, mut two) = (lab.client.clone(), lab.client.clone());
        let [first, second] = specs;
        let (a, b) = tokio::join!(one.try_submit(first, &key), two.try_submit(second, &key));
        let refusal = match (a, b) {
            (Ok(_), Err(status)) | (Err(status), Ok(_)) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal.code(), tonic::Code::AlreadyExists, "{refusal:?}");
    }
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_is_kept_with_its_result_over_a_restart_and_a_board_is_asked_through_its_worker() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    lab.client.watch(&job.job_id).await;
    let logs = lab.client.logs(&job.job_id).await;
    assert_eq!(logs.len(), 1);
    assert_eq!((logs[0].text.as_str(), logs[0].outcome.as_str()), ("+0.1 played\n", "succeeded"));
    assert_eq!(lab.client.logs(&logs[0].task_id).await, logs);
    let board = logs[0].board.clone();
    let looked = lab.client.check(&board).await.unwrap();
    assert_eq!(looked.checks[0].found, board);
    let status = lab.client.check("w/none").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, "there is no board w/none"));
    lab.daemon.stop().await;

    let config = config(lab.folder.path(), &[&worker]);
    let daemon = Daemon::start(&config, program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    assert_eq!(client.logs(&job.job_id).await, logs);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_restarts_midway_ends_the_job_and_records_it_once() {
    let worker = Played::start("w", &["riscv32"]).await;
    worker.hold(true);
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    worker.until_running(1).await;
    lab.client.until_started(&job.job_id).await;
    lab.daemon.stop().await;
    let before = time::OffsetDateTime::now_utc();
    // It ends while nobody listens.
    worker.hold(false);

    let config = config(lab.folder.path(), &[&worker]);
    let daemon = Daemon::start(&config, program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    let updates = client.watch(&job.job_id).await;
    let last = updates.last().unwrap().job.as_ref().unwrap();
    assert_eq!((last.state.as_str(), last.tasks[0].attempts), ("succeeded", 1), "{last:?}");
    assert_eq!(worker.starts(), 1);
    let acks = worker.until_acked(1).await;
    assert!(!acks[0].duplicate);
    let runs = client.results(&job.job_id).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].workload.verification, Some(Verification::Hash));
    assert!(runs[0].workload.output_text.is_some(), "text needs no model file");
    let started = runs[0].started_at.as_deref().unwrap();
    let started =
        time::OffsetDateTime::parse(started, &time::format_description::well_known::Rfc3339).unwrap();
    assert!(started < before, "it started in the life before");

    // The same result again changes nothing.
    let again = v1::Result {
        lease: acks[0].lease,
        task_id: acks[0].task_id.clone(),
        board: "w/riscv32-0".into(),
        outcome: Some(v1::result::Outcome::Cancelled(v1::Cancelled {})),
        transcript: Vec::new(),
    };
    worker.say(From::Result(Box::new(again)));
    let acks = worker.until_acked(2).await;
    assert!(acks[1].duplicate);
    assert_eq!(client.results(&job.job_id).await, runs);
    daemon.stop().await;
}

/// Numbers rise over restarts, and every number of an earlier life is behind the present state.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_an_earlier_life_learns_what_became_of_the_job() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    let seen = lab.client.watch(&job.job_id).await.last().unwrap().sequence;
    lab.daemon.stop().await;

    let daemon = Daemon::start(&config(lab.folder.path(), &[&worker]), program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    let request = v1::WatchJobRequest { job_id: job.job_id, after: seen };
    let mut updates = client.0.watch_job(request).await.unwrap().into_inner();
    let update = soon("the end", updates.message()).await.unwrap().expect("an update");
    assert!(update.sequence > seen && update.job.unwrap().state == "succeeded");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_of_an_unknown_task_is_acknowledged() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    lab.client.until_boards().await;
    let task = edgeprof_common::TaskId::random().to_string();
    worker.say(From::Result(Box::new(v1::Result {
        lease: Some(v1::Lease { epoch: 1, counter: 99 }),
        task_id: task.clone(),
        board: "w/riscv32-0".into(),
        outcome: Some(v1::result::Outcome::Cancelled(v1::Cancelled {})),
        transcript: Vec::new(),
    })));
    assert_eq!(worker.until_acked(1).await[0].task_id, task);
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_result_is_dead_lettered_and_fails_its_task() {
    let worker = Played::start("w", &["riscv32"]).await;
    worker.spoil(|result| {
        if let Some(v1::result::Outcome::Measurement(m)) = &mut result.outcome {
            m.samples[0].counter = "apples".into();
        }
    });
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    let nack = worker.until_nacked().await;
    assert!(nack.permanent && nack.reason.contains("apples"), "{nack:?}");
    let updates = lab.client.watch(&job.job_id).await;
    assert_eq!(updates.last().unwrap().job.as_ref().unwrap().state, "failed");
    let runs = lab.client.results(&job.job_id).await;
    assert_eq!(runs[0].state, RunState::Failed);
    assert_eq!(runs[0].error.as_ref().unwrap().code, "undecodable_result");
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_that_computes_otherwise_gives_an_invalid_run() {
    let worker = Played::start("w", &["riscv32"]).await;
    worker.spoil(|result| {
        if let Some(v1::result::Outcome::Measurement(m)) = &mut result.outcome {
            m.logits_hash = "0000000000000001".into();
        }
    });
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    lab.client.watch(&job.job_id).await;
    let runs = lab.client.results(&job.job_id).await;
    assert_eq!(runs[0].state, RunState::Invalid);
    assert!(runs[0].reasons[0].contains("0000000000000001"), "{:?}", runs[0].reasons);
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_reaches_the_board() {
    let worker = Played::start("w", &["riscv32"]).await;
    worker.hold(true);
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    worker.until_running(1).await;
    lab.client.0.cancel_job(v1::CancelJobRequest { job_id: job.job_id.clone() }).await.unwrap();
    let updates = lab.client.watch(&job.job_id).await;
    assert_eq!(updates.last().unwrap().job.as_ref().unwrap().state, "cancelled");
    assert_eq!(lab.client.results(&job.job_id).await[0].state, RunState::Cancelled);
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_refuses_is_listed_with_its_reason() {
    let worker = Played::start("w", &["riscv32"]).await;
    // Words alone end nobody.
    let reason = "this worker was claimed by cluster c1, not by c2, which is fenced";
    worker.refuse(tonic::Status::failed_precondition(reason));
    is_listed_with(&worker, "claimed by cluster").await;
}

/// Serves the worker until it is listed with this reason.
async fn is_listed_with(worker: &Played, words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&config(folder.path(), &[worker]), program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    soon("the reason", async {
        loop {
            let list = client.0.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
            let reason = list.first().and_then(|worker| worker.reason.clone()).unwrap_or_default();
            if reason.contains(words) {
                assert_eq!(list[0].address, worker.address.to_string());
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    daemon.stop().await;
}

/// A lab is upgraded host by host.
#[tokio::test(flavor = "multi_thread")]
async fn workers_of_the_minor_versions_beside_are_served_and_others_listed_with_what_to_upgrade() {
    let worker = Played::start("w", &["riscv32"]).await;
    let minor = |minor| Version { minor, ..SESSION };
    for near in [SESSION.minor - 1, SESSION.minor + 1] {
        worker.speak(minor(near));
        let mut lab = Lab::start(&[&worker]).await;
        lab.client.until_boards().await;
        lab.daemon.stop().await;
    }
    worker.speak(minor(SESSION.minor + 2));
    is_listed_with(&worker, "upgrade edgeprof here").await;
    worker.speak(Version { major: 0, minor: 0 });
    is_listed_with(&worker, "upgrade edgeprof there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_seen_a_newer_life_ends_this_one() {
    let worker = Played::start("w", &["riscv32"]).await;
    let lab = Lab::start(&[&worker]).await;
    let cluster = worker.greeted_as().0.parse().unwrap();
    lab.daemon.stop().await;
    let reason = "this worker has seen epoch 9";
    let fenced = status::with_reason(tonic::Code::FailedPrecondition, reason, status::FENCED);
    worker.refuse(status::with_claim(fenced, status::Claim { cluster, epoch: 9 }));
    let mut daemon = Daemon::start(&config(lab.folder.path(), &[&worker]), program()).await.unwrap();
    let error = soon("the end", daemon.failed()).await.unwrap_err();
    assert!(error.to_string().contains("epoch 9"), "{error}");
    assert!(error.to_string().contains("newer life"), "{error}");
    daemon.stop().await;
}

/// The loop's side of one target.
struct Loop(mpsc::Receiver<Command>);

impl Loop {
    async fn next(&mut self) -> SessionEvent {
        match soon("an event", self.0.recv()).await {
            Some(Command::Session(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Lets the target greet, and waits until its session is up.
    async fn up(&mut self) -> Box<Up> {
        loop {
            match self.next().await {
                SessionEvent::Greet { reply, .. } => drop(reply.send(Some(Greeting::default()))),
                SessionEvent::Up(up) => return up,
                _ => {}
            }
        }
    }
}

fn announced(worker: &Played, id: &str) -> (watch::Sender<Vec<String>>, Loop, Context, Target) {
    let (sender, addresses) = watch::channel(vec![worker.address.to_string()]);
    let (commands, receiver) = mpsc::channel(64);
    let folder = tempfile::tempdir().unwrap();
    let context = Context {
        commands,
        identity: rows::claim(&Memory::default()).unwrap(),
        site: "test".into(),
        data: folder.path().into(),
        dialer: Dialer::default(),
        jitter: 0,
        artifacts: Artifacts::open(folder.path(), u64::MAX).unwrap(),
        sessions: Arc::default(),
        stop: CancellationToken::new(),
    };
    let worker = Some(id.parse().unwrap());
    let target = Target { key: format!("mdns:{id}"), found_by: FoundBy::Mdns, worker, addresses };
    (sender, Loop(receiver), context, target)
}

/// Invariant 7: silence on mDNS never kills a worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_the_announcement_that_led_to_it() {
    let worker = Played::start("w", &["riscv32"]).await;
    let (addresses, mut events, context, target) = announced(&worker, "w");
    let stop = context.stop.clone();
    let kept = tokio::spawn(keep(target, context));
    let up = events.up().await;
    addresses.send_replace(Vec::new());
    // Sent after the announcement was gone.
    let task = edgeprof_common::TaskId::random().to_string();
    worker.say(From::Accepted(v1::Accepted { task_id: task, ..v1::Accepted::default() }));
    loop {
        match events.next().await {
            SessionEvent::Frames { session, frames, .. } if session == up.session => {
                if frames.iter().any(|frame| matches!(frame.frame, Some(From::Accepted(_)))) {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    // Once the session has ended by itself, nobody is dialled before another address is named.
    up.stop.cancel();
    while !matches!(events.next().await, SessionEvent::Gone { .. }) {}
    addresses.send_replace(vec![worker.address.to_string()]);
    events.up().await;
    stop.cancel();
    kept.await.unwrap();
}

/// Another worker may have got the port of one that is gone: its own session must not suffer.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_name_than_announced_is_not_served_for_it() {
    let worker = Played::start("w", &["riscv32"]).await;
    let (_addresses, mut events, context, target) = announced(&worker, "w-before");
    let stop = context.stop.clone();
    let kept = tokio::spawn(keep(target, context));
    let reason = loop {
        match events.next().await {
            SessionEvent::Greet { reply, .. } => drop(reply.send(Some(Greeting::default()))),
            SessionEvent::Dialled { reason, .. } => break reason.unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    };
    assert!(reason.contains("w-before"), "{reason}");
    assert_eq!(worker.sought().as_deref(), Some("w-before"));
    stop.cancel();
    kept.await.unwrap();
}
