//! Submissions that are not taken, or not all of them.

use edgeprof_common::run::RunState;
use edgeprof_coordinator::{config::Config, daemon::Daemon};
use edgeprof_proto::v1;
use edgeprof_service::status::{hint, retry_after};
use tonic::Code;

use crate::{
    support::{Client, Lab, Played, config, program, soon},
    testing::tiny_model,
};

async fn refused(change: impl FnOnce(&mut v1::JobSpec)) -> (Code, String, String) {
    let worker = Played::start("w", &["netduinoplus2"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let mut spec = lab.client.spec(&["netduinoplus2"]).await;
    change(&mut spec);
    lab.client.until_boards().await;
    let status = lab.client.try_submit(spec, "").await.unwrap_err();
    let jobs = lab.client.0.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner();
    assert!(jobs.jobs.is_empty(), "nothing refused is kept");
    lab.daemon.stop().await;
    (status.code(), status.message().to_owned(), hint(&status).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_kind_is_named_with_what_is_there() {
    let (code, message, hint) = refused(|spec| spec.boards = vec!["netduinoplus3".into()]).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("netduinoplus3") && message.contains("netduinoplus2"), "{message}");
    assert!(hint.contains("w/netduinoplus2-0"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_beyond_the_models_is_refused_whole() {
    let (code, message, _) = refused(|spec| spec.ctx = Some(65)).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("65") && message.contains("64"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_artifact_is_a_precondition() {
    let absent = edgeprof_common::Digest::of(b"absent").to_string();
    let digest = absent.clone();
    let (code, message, _) = refused(move |spec| spec.models[0].digest = digest).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains(&absent), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserve_of_the_disk_is_not_for_uploads() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { reserve_bytes: u64::MAX, ..config(folder.path(), &[]) };
    let daemon = Daemon::start(&config, program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    let digest = edgeprof_common::Digest::of(b"x").to_string();
    let chunk = v1::ArtifactChunk { digest, size: 1, data: b"x".to_vec().into() };
    let status = client.0.put_artifact(tokio_stream::iter([chunk])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("1 MiB more") && retry_after(&status).is_some(), "{status:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_to_try_again_and_a_job_that_never_fits_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { max_queued_tasks: 3, ..config(folder.path(), &[]) };
    let daemon = Daemon::start(&config, program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    let mut spec = client.spec(&["riscv32"]).await;
    spec.wait_for_board_ms = Some(3_600_000);
    let first = client.try_submit(spec.clone(), "").await.unwrap();
    spec.n_gen = vec![1, 2, 3];
    let status = client.try_submit(spec.clone(), "").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(status.message(), "the queue is full: 1 of at most 3 tasks wait");
    assert!(retry_after(&status).is_some_and(|after| !after.is_zero()), "{status:?}");
    spec.n_gen = vec![1, 2, 3, 4];
    let status = client.try_submit(spec.clone(), "").await.unwrap_err();
    assert_eq!((status.code(), retry_after(&status)), (Code::InvalidArgument, None), "{status:?}");
    assert!(status.message().contains("4 tasks") && hint(&status).unwrap().contains("max_queued_tasks"));
    // What is cancelled makes room.
    client.0.cancel_job(v1::CancelJobRequest { job_id: first.job_id }).await.unwrap();
    spec.n_gen.pop();
    client.try_submit(spec, "").await.unwrap();
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_is_refused_by_field() {
    let (code, message, _) = refused(|spec| spec.quants = vec!["q9".into()]).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("q9"), "{message}");
    let (_, message, _) = refused(|spec| spec.n_gen.clear()).await;
    assert!(message.contains("n_gen"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_turns_out_too_long_refuses_its_cell_and_the_others_run() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let mut spec = lab.client.spec(&["riscv32"]).await;
    spec.prompts = vec!["a".repeat(80), "a".into()];
    let job = lab.client.submit(spec).await;
    let updates = lab.client.watch(&job.job_id).await;
    let last = updates.last().unwrap().job.as_ref().unwrap();
    assert_eq!((last.state.as_str(), last.tasks_failed), ("failed", 1));
    let runs = lab.client.results(&job.job_id).await;
    assert_eq!((runs[0].state, runs[1].state), (RunState::Refused, RunState::Ok));
    assert!(runs[0].error.as_ref().unwrap().message.contains("64"), "{:?}", runs[0].error);
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokenizer_of_another_model_fails_its_tasks_with_the_childs_words() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let mut spec = lab.client.spec(&["riscv32"]).await;
    let (_, tokenizer) = tiny_model();
    let cut = lab.client.put(&tokenizer[..tokenizer.len() - 9]).await;
    spec.models[0].tokenizer = Some(cut.to_string());
    let job = lab.client.submit(spec).await;
    lab.client.watch(&job.job_id).await;
    let runs = lab.client.results(&job.job_id).await;
    assert_eq!(runs[0].state, RunState::Failed);
    let error = runs[0].error.as_ref().unwrap();
    assert!(!error.class.retryable() && error.hint.is_some(), "{error:?}");
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_another_tokenizer_is_shown_in_the_words_of_that_one() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let (model, first) = tiny_model();
    let mut second = first.clone();
    // The tokens of bytes stand for others.
    for at in 0..second.len() - 5 {
        if second[at..].starts_with(b"<0x") {
            second.swap(at + 3, at + 4);
        }
    }
    let mut texts = Vec::new();
    for file in [first, second] {
        let mut spec = lab.client.spec(&["riscv32"]).await;
        spec.models[0].tokenizer = Some(lab.client.put(&file).await.to_string());
        let job = lab.client.submit(spec).await;
        lab.client.watch(&job.job_id).await;
        let runs = lab.client.results(&job.job_id).await;
        let workload = &runs[0].workload;
        let tokenizer = edgeprof_model::Model::load(&model, Some(&file)).unwrap().tokenizer().clone();
        let text = tokenizer.decode(workload.prompt_tokens.last().copied(), &workload.output_tokens);
        assert_eq!(workload.output_text.as_ref(), Some(&text));
        texts.push(text);
    }
    assert_ne!(texts[0], texts[1]);
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_may_be_waited_for_and_in_vain() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let mut spec = lab.client.spec(&["mps2-an386"]).await;
    spec.wait_for_board_ms = Some(1);
    let job = lab.client.submit(spec).await;
    lab.client.watch(&job.job_id).await;
    let runs = lab.client.results(&job.job_id).await;
    assert_eq!(runs[0].error.as_ref().unwrap().code, "no_board");
    lab.daemon.stop().await;
}

/// Clients that ask all the time keep the loop from sleeping, not from looking at the clock.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_board_ends_in_time_though_the_loop_is_busy() {
    let mut lab = Lab::start(&[]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let spec = v1::JobSpec { wait_for_board_ms: Some(1), ..spec };
    let job = lab.client.try_submit(spec, "").await.unwrap();
    let request = v1::GetJobRequest { job_id: job.job_id.clone() };
    let ended = soon("the end", async {
        loop {
            let job = lab.client.0.get_job(request.clone()).await.unwrap().into_inner();
            if job.state != "open" {
                return job;
            }
        }
    });
    assert_eq!(ended.await.tasks[0].error.as_ref().unwrap().code, "no_board");
    lab.daemon.stop().await;
}

/// Between two runs a board may be restarting: that is no reason to say that there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_board_that_restarts_is_there() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    lab.client.until_boards().await;
    worker.ail("unknown");
    soon("the restart", async {
        let list = v1::ListBoardsRequest::default;
        while lab.client.0.list_boards(list()).await.unwrap().into_inner().boards[0].health == "good" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.try_submit(spec, "").await.unwrap();
    worker.ail("good");
    let updates = lab.client.watch(&job.job_id).await;
    assert_eq!(updates.last().unwrap().job.as_ref().unwrap().state, "succeeded");
    lab.daemon.stop().await;
}

/// What was just uploaded is for a job that is yet to come; more than the quota is refused, with the way out.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_beyond_the_quota_are_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { artifact_quota_bytes: 6, ..config(folder.path(), &[]) };
    let daemon = Daemon::start(&config, program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    let chunk = |bytes: &'static [u8]| {
        let digest = edgeprof_common::Digest::of(bytes).to_string();
        tokio_stream::iter([v1::ArtifactChunk { digest, size: bytes.len() as u64, data: bytes.into() }])
    };
    client.0.put_artifact(chunk(b"aaaa")).await.unwrap();
    client.0.put_artifact(chunk(b"aaaa")).await.unwrap();
    let status = client.0.put_artifact(chunk(b"bbbb")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let (message, hint) = (status.message(), hint(&status).unwrap());
    assert!(message.contains("4 bytes") && message.contains("may take 6"), "{message}");
    assert!(hint.contains("artifact_quota_bytes") && hint.contains("jobs have ended"), "{hint}");
    client.0.put_artifact(chunk(b"cc")).await.unwrap();
    daemon.stop().await;
}
