//! The program: its exit codes, and what SIGKILL leaves.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
};

use edgeprof_proto::v1;

use crate::support::{Client, Played, firmware, program, soon};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .args(["--listen", "127.0.0.1:0", "--no-discovery", "--data"])
        .arg(folder.join("data"))
        .arg("--firmware")
        .arg(firmware(folder))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Starts the program and waits for its address.
async fn start(folder: &Path) -> (Child, String) {
    started(command(folder), folder).await
}

async fn started(mut command: Command, folder: &Path) -> (Child, String) {
    let ready = folder.join("ready");
    let _ = std::fs::remove_file(&ready);
    let mut child = command.arg("--ready-file").arg(&ready).spawn().unwrap();
    let url = soon("the address", async {
        loop {
            if let Ok(url) = std::fs::read_to_string(&ready) {
                return url.trim().to_owned();
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended instead");
            tokio::task::yield_now().await;
        }
    })
    .await;
    (child, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_submission_that_was_answered_survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let mut answered = BTreeSet::new();
    for life in 0..3 {
        let (mut child, url) = start(folder.path()).await;
        let mut client = Client::to(&url).await;
        let mut spec = client.spec(&["riscv32"]).await;
        spec.wait_for_board_ms = Some(3_600_000);
        let mut submitters = tokio::task::JoinSet::new();
        for lane in 0..8 {
            let (mut client, spec) = (client.clone(), spec.clone());
            submitters.spawn(async move {
                let mut jobs = Vec::new();
                for n in 0.. {
                    match client.try_submit(spec.clone(), &format!("{life}-{lane}-{n}")).await {
                        Ok(job) => jobs.push(job.job_id),
                        Err(_) => break,
                    }
                    if life + jobs.len() > 40 {
                        break;
                    }
                }
                jobs
            });
        }
        // The first that has enough pulls the plug on the others.
        answered.extend(submitters.join_next().await.unwrap().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(jobs) = submitters.join_next().await {
            answered.extend(jobs.unwrap());
        }
    }
    let (mut child, url) = start(folder.path()).await;
    let mut client = Client::to(&url).await;
    let list = client.0.list_jobs(v1::ListJobsRequest { limit: 10_000 }).await.unwrap().into_inner().jobs;
    let kept: BTreeSet<_> = list.iter().map(|job| job.job_id.clone()).collect();
    assert!(answered.len() > 100, "{}", answered.len());
    assert!(answered.is_subset(&kept), "{} answered, {} kept", answered.len(), kept.len());
    assert!(list.iter().all(|job| (job.state.as_str(), job.tasks_total) == ("open", 1)));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn ends(mut command: Command) -> (Option<i32>, String) {
    let out = command.stderr(Stdio::piped()).output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why_and_whether_to_try_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, url) = start(folder.path()).await;
    let (code, said) = ends(command(folder.path()));
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("in use by another coordinator") && said.contains("--data"), "{said}");

    let taken = url.trim_start_matches("http://");
    let mut second = Command::new(program());
    second.args(["--no-discovery", "--listen", taken, "--data"]).arg(folder.path().join("other"));
    let (code, said) = ends(second);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains(taken) && said.contains("--listen"), "{said}");

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut third = Command::new(program());
    third.args(["--no-discovery", "--listen", "127.0.0.1:0", "--data"]).arg(file.join("data"));
    let (code, said) = ends(third);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("data directory"), "{said}");

    let config = folder.path().join("config.toml");
    std::fs::write(&config, "sight = 1\n").unwrap();
    let mut fourth = Command::new(program());
    fourth.arg("--check-config").arg("--config").arg(&config);
    let (code, said) = ends(fourth);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("sight"), "{said}");

    let id = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "told to stop, it stops");
}

/// The disk is full in the middle: what was answered is there afterwards, and nobody restarts it by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_error_ends_the_process_at_once_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let plain = command(folder.path());
    // The signal would end it before the error does.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 6000; exec \"$0\" \"$@\""])
        .arg(plain.get_program())
        .args(plain.get_args())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let (child, url) = started(limited, folder.path()).await;
    let mut client = Client::to(&url).await;
    let mut spec = client.spec(&["riscv32"]).await;
    spec.wait_for_board_ms = Some(3_600_000);
    spec.prompts = (0..32).map(|n| format!("{n}{}", "a".repeat(4000))).collect();
    let mut answered = BTreeSet::new();
    while let Ok(job) = client.try_submit(spec.clone(), "").await {
        answered.insert(job.job_id);
        assert!(answered.len() < 1000, "the disk is never full");
    }
    let out = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(78), "{said}");
    assert!(said.contains("storage failed") && said.contains("free space"), "{said}");

    let (mut child, url) = start(folder.path()).await;
    let mut client = Client::to(&url).await;
    let list = client.0.list_jobs(v1::ListJobsRequest { limit: 10_000 }).await.unwrap().into_inner().jobs;
    let kept: BTreeSet<_> = list.into_iter().map(|job| job.job_id).collect();
    assert!(!answered.is_empty() && answered.is_subset(&kept), "{} of {}", kept.len(), answered.len());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A new store in the place of a lost one: the workers are taken over by the command that the refusal names.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_adopts_the_workers_of_a_lost_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = start(folder.path()).await;
    let adopt = |cluster: &str, epoch: &str| {
        let mut adopt = Command::new(program());
        adopt
            .args(["adopt", "--cluster", cluster, "--epoch", epoch, "--data"])
            .arg(folder.path().join("data"));
        ends(adopt)
    };
    let cluster = edgeprof_common::ClusterId::random().to_string();
    let (code, said) = adopt(&cluster, "7");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("in use") && said.contains("stop the coordinator"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, said) = adopt(&cluster, "1");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("epoch 1 already"), "{said}");
    assert_eq!(adopt(&cluster, "7").0, Some(0));

    let worker = Played::start("w", &["riscv32"]).await;
    let mut served = command(folder.path());
    served.args(["--site", "test", "--worker", &worker.address.to_string()]);
    let (mut child, _) = started(served, folder.path()).await;
    worker.until_greeted().await;
    assert_eq!(worker.greeted_as(), (cluster, 7));
    child.kill().unwrap();
    child.wait().unwrap();
}
