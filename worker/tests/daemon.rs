//! The worker's face: sessions, fence, blobs, start and stop. No emulator runs any firmware here.

mod support;

use std::{fs, path::Path, process::Stdio, time::Duration};

use edgeprof_common::{Digest, TaskId};
use edgeprof_proto::{
    SESSION,
    session::Version,
    v1::{self, from_worker::Frame as From, result::Outcome, to_worker::Frame as To},
};
use edgeprof_service::status::{FENCED, reason};
use edgeprof_worker::config::{Limits, Transport};
use support::{LIFE, Lab, Life, Session, lease, nothing, serving};
use tokio::process::{Child, Command};
use tonic::Code;

const BOARD: &str = "w/riscv32.0";

async fn lab() -> Lab {
    Lab::start(&[("riscv32", Transport::Socket)]).await
}

/// A task whose blobs never come.
fn waiting() -> v1::AttemptSpec {
    v1::AttemptSpec { firmware_digest: Digest::of(b"firmware").to_string(), ..nothing() }
}

async fn answer(session: &mut Session) -> String {
    session
        .until(|frame| match frame {
            From::Accepted(_) => Some("accepted".into()),
            From::Rejected(r) => Some(format!("{}: {}", r.reason, r.message)),
            From::Result(_) => Some("result".into()),
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_may_not_command_is_told_why() {
    let mut lab = lab().await;
    let life = Life { epoch: 5, nonce: 50, ..LIFE };
    let session = Session::open(&lab.address(), &life).await.unwrap();
    assert_eq!((session.hello.worker_id.as_str(), session.hello.site.as_str()), ("w", "lab"));
    drop(session);
    let cases = || {
        [
            (Life { epoch: 4, ..life.clone() }, "epoch 4 is fenced"),
            (Life { nonce: 51, ..life.clone() }, "another coordinator life"),
            (Life { cluster: 2, epoch: 9, ..life.clone() }, "claimed by cluster"),
            (Life { site: "barn", ..life.clone() }, "site \"lab\""),
            (Life { meant: Some("v"), epoch: 9, ..life.clone() }, "this is worker w, not v"),
        ]
    };
    for (other, words) in cases() {
        let status = Session::open(&lab.address(), &other).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(words), "{status}");
        // Only this one ends a coordinator.
        assert_eq!(reason(&status) == Some(FENCED), words.contains("epoch 4"), "{status:?}");
    }
    lab.down().await;
    lab.up().await;
    // The claim was on disk before the first hello was answered.
    for (other, words) in cases() {
        let status = Session::open(&lab.address(), &other).await.unwrap_err();
        assert!(status.message().contains(words), "{status}");
    }
    Session::open(&lab.address(), &Life { epoch: 6, nonce: 60, ..LIFE }).await.unwrap();
}

/// A lab is upgraded host by host.
#[tokio::test(flavor = "multi_thread")]
async fn coordinators_of_the_minor_versions_beside_are_let_in_and_others_told_what_to_upgrade() {
    let lab = lab().await;
    let minor = |minor| Life { speaks: Version { minor, ..SESSION }, ..LIFE };
    for near in [SESSION.minor - 1, SESSION.minor + 1] {
        let session = Session::open(&lab.address(), &minor(near)).await.unwrap();
        assert_eq!(session.hello.protocol_minor, SESSION.minor, "it says its own");
    }
    let major = Life { speaks: Version { major: SESSION.major + 1, minor: 0 }, ..LIFE };
    for far in [minor(SESSION.minor + 2), major] {
        let status = Session::open(&lab.address(), &far).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("upgrade edgeprof here"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_hello_ends_the_older_session() {
    let lab = lab().await;
    let mut old = Session::open(&lab.address(), &LIFE).await.unwrap();
    let mut new = Session::open(&lab.address(), &LIFE).await.unwrap();
    let status = loop {
        if let Err(status) = old.next().await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::Aborted, "{status}");
    new.good(BOARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_cannot_be_kept_fails_its_attempt_at_once() {
    let limits = Limits { blob_bytes: 3, ..Limits::default() };
    let lab = Lab::with(&[("riscv32", Transport::Socket)], limits).await;
    let mut session = Session::open(&lab.address(), &Life { meant: Some("w"), ..LIFE }).await.unwrap();
    session.good(BOARD).await;
    // Of an earlier attempt: no reason to give this one up.
    let image = Digest::of(b"image").to_string();
    session.put(&image, b"image").await.unwrap_err();
    session.start(1, 1, BOARD, &waiting()).await;
    let asked = |frame| matches!(frame, From::NeedBlob(_)).then_some(());
    session.until(asked).await;
    session.put(&image, b"image").await.unwrap_err();
    let outcome = session.until(|frame| if let From::Result(r) = frame { r.outcome } else { None }).await;
    let Outcome::Error(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.class.as_str(), error.code.as_str()), ("infrastructure", "worker_disk"));
    assert!(error.message.contains("the limit is 3") && error.hint.is_some(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_are_answered_by_the_fence_and_the_boards_state() {
    let limits = Limits { queue: 1, ..Limits::default() };
    let lab = Lab::with(&[("riscv32", Transport::Socket)], limits).await;
    let life = Life { issued: vec![(BOARD, 1, 3)], ..LIFE };
    let mut session = Session::open(&lab.address(), &life).await.unwrap();
    session.good(BOARD).await;
    session.start(2, 2, BOARD, &waiting()).await;
    assert!(answer(&mut session).await.starts_with("fenced"), "below what was issued");
    session.start(3, 3, BOARD, &waiting()).await;
    assert_eq!(answer(&mut session).await, "accepted");
    session.start(3, 3, BOARD, &waiting()).await;
    assert_eq!(answer(&mut session).await, "accepted", "the same again");
    session.start(4, 4, BOARD, &waiting()).await;
    assert_eq!(answer(&mut session).await, "accepted", "the one place behind it");
    session.start(5, 5, BOARD, &waiting()).await;
    assert!(answer(&mut session).await.starts_with("busy"));
    session.start(6, 6, "w/toaster", &waiting()).await;
    assert!(answer(&mut session).await.starts_with("unknown_board"));
    let held: Vec<_> = session.held().await.into_iter().map(|held| (held.state, held.lease)).collect();
    assert_eq!(held, [("staged".into(), Some(lease(1, 3))), ("staged".into(), Some(lease(1, 4)))]);
    assert_eq!(session.last_command, 7, "hello and six starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_attempt_is_recalled_or_cancelled_at_once() {
    let lab = lab().await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(BOARD).await;
    session.start(1, 1, BOARD, &waiting()).await;
    assert_eq!(answer(&mut session).await, "accepted");
    let (task_id, board) = (TaskId::from_raw(1).to_string(), BOARD.to_owned());
    session.send(To::Recall(v1::Recall { lease: Some(lease(1, 1)), task_id, board })).await;
    assert!(answer(&mut session).await.contains("recalled"));
    session.good(BOARD).await;
    session.start(2, 2, BOARD, &waiting()).await;
    assert_eq!(answer(&mut session).await, "accepted");
    let (task_id, board) = (TaskId::from_raw(2).to_string(), BOARD.to_owned());
    // A cancel of another lease does nothing.
    let other =
        v1::CancelAttempt { lease: Some(lease(1, 1)), task_id: task_id.clone(), board: board.clone() };
    session.send(To::Cancel(other)).await;
    let sent = session.sent();
    let held = loop {
        let held = session.held().await;
        if session.last_command >= sent {
            break held;
        }
    };
    assert_eq!(held.iter().map(|held| held.state.as_str()).collect::<Vec<_>>(), ["staged"]);
    session.send(To::Cancel(v1::CancelAttempt { lease: Some(lease(1, 2)), task_id, board })).await;
    let result = session.result().await;
    assert_eq!(result.lease, Some(lease(1, 2)));
    assert_eq!(result.outcome, Some(Outcome::Cancelled(v1::Cancelled {})));
    let nack =
        v1::Nack { task_id: result.task_id, lease: result.lease, permanent: true, reason: "no".into() };
    session.send(To::Nack(nack)).await;
    while !session.held().await.is_empty() {}
    session.good(BOARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_cannot_be_is_a_result_and_not_a_retry() {
    let lab = lab().await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let spec = v1::AttemptSpec { kv: "f8".into(), ..waiting() };
    let Outcome::Error(error) = session.run(1, BOARD, &spec).await else { panic!("no error") };
    assert_eq!((error.class.as_str(), error.code.as_str()), ("request", "bad_request"));
    assert!(error.message.contains("f8"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_sent_again_until_it_is_acknowledged() {
    let lab = lab().await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let spec = v1::AttemptSpec { kv: "f8".into(), ..waiting() };
    session.good(BOARD).await;
    session.start(1, 1, BOARD, &spec).await;
    let result = session.result().await;
    session.start(1, 1, BOARD, &spec).await;
    assert_eq!(session.result().await, result, "asked for by the same token");
    assert_eq!(session.result().await, result, "unasked, a few seconds later");
    session.ack(&result).await;
    while !session.held().await.is_empty() {}
    session.start(1, 1, BOARD, &spec).await;
    assert!(answer(&mut session).await.starts_with("fenced"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_outlives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, address) = started(folder.path()).await;
    let mut session = Session::open(&address, &LIFE).await.unwrap();
    let incarnation = session.hello.incarnation.clone();
    session.good(BOARD).await;
    session.start(1, 1, BOARD, &v1::AttemptSpec { kv: "f8".into(), ..waiting() }).await;
    let result = session.result().await;
    process.kill().await.unwrap();
    let (_process, address) = started(folder.path()).await;
    let mut session = Session::open(&address, &LIFE).await.unwrap();
    assert_ne!(session.hello.incarnation, incarnation);
    assert_eq!(session.result().await, result);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_do_not_come_are_named_and_wrong_ones_refused() {
    let limits = Limits { blob_timeout: Duration::from_secs(1), blob_bytes: 100, ..Limits::default() };
    let lab = Lab::with(&[("riscv32", Transport::Socket)], limits).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let digest = Digest::of(b"other").to_string();
    assert_eq!(session.put(&digest, b"bytes").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(session.put(&digest, &[0; 101]).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(session.put("sha256:1", b"x").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(session.put(&digest, b"other").await.unwrap(), 5);
    assert_eq!(session.put(&digest, b"other").await.unwrap(), 5);
    let Outcome::Error(error) = session.run(1, BOARD, &waiting()).await else { panic!("no error") };
    assert_eq!((error.class.as_str(), error.code.as_str()), ("infrastructure", "blob_missing"));
    session.good(BOARD).await;
}

fn worker(folder: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeprof-worker"));
    command.args(["--listen", listen, "--board", "riscv32", "--name", "w"]).env("EDGEPROF_SITE", "lab");
    command.arg("--data").arg(folder.join("data"));
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A worker on a free port, whose ready file lies in `folder`, and where it serves.
async fn started(folder: &Path) -> (Child, String) {
    serving(worker(folder, "127.0.0.1:0"), &folder.join("ready")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_folder_and_a_taken_port_are_named() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_first, address) = started(one.path()).await;
    let again = worker(one.path(), "127.0.0.1:0").output().await.unwrap();
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(78) && text.contains("in use by another worker"), "{text}");
    let port = worker(two.path(), address.trim_start_matches("http://")).output().await.unwrap();
    let text = String::from_utf8_lossy(&port.stderr).into_owned();
    assert!(
        port.status.code() == Some(75) && text.contains("cannot listen on") && text.contains("--listen"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_order_even_with_a_session_open() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, address) = started(folder.path()).await;
    let mut session = Session::open(&address, &LIFE).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    while session.next().await.is_ok() {}
    let status = tokio::time::timeout(Duration::from_secs(15), process.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    assert!(!folder.path().join("ready").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_emulator_makes_the_board_bad_and_names_the_package() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = worker(folder.path(), "127.0.0.1:0");
    command.env("PATH", "/nowhere");
    let (_process, address) = serving(command, &folder.path().join("ready")).await;
    let mut session = Session::open(&address, &LIFE).await.unwrap();
    let reason = session
        .until(|frame| match frame {
            From::Heartbeat(mut beat) if beat.boards[0].health == "bad" => beat.boards.remove(0).reason,
            _ => None,
        })
        .await;
    assert!(reason.contains("apt install qemu-system-misc"), "{reason}");
    session.start(1, 1, BOARD, &waiting()).await;
    assert!(answer(&mut session).await.starts_with("busy: the board is bad"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_announced_with_its_name_and_site() {
    use edgeprof_service::discovery::{Browser, Sighting, WORKER_SERVICE};
    let folder = tempfile::tempdir().unwrap();
    let site = format!("test-{}", std::process::id());
    let mut browser = match Browser::start(WORKER_SERVICE) {
        Ok(browser) => browser,
        Err(error) => return eprintln!("SKIPPED: {error}"),
    };
    let mut command = worker(folder.path(), "127.0.0.1:0");
    command.args(["--site", &site]);
    let (_process, address) = serving(command, &folder.path().join("ready")).await;
    let seen = async {
        loop {
            match browser.next().await {
                Some(Sighting::Up(found)) if found.site == site => return found,
                Some(_) => {}
                None => panic!("the search ended"),
            }
        }
    };
    let found = tokio::time::timeout(support::SOON, seen).await.unwrap();
    assert_eq!(found.id, "w");
    assert_eq!(format!("http://{}", found.addresses[0]), address);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_names_the_service() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let lab = lab().await;
    let channel = edgeprof_service::channel::connect(&lab.address(), support::SOON).await.unwrap();
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answer = client
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    assert!(list.service.iter().any(|service| service.name == "edgeprof.v1.Worker"), "{list:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_served() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let lab = lab().await;
    let channel = edgeprof_service::channel::connect(&lab.address(), support::SOON).await.unwrap();
    let request = HealthCheckRequest { service: "edgeprof.v1.Worker".into() };
    let answer = HealthClient::new(channel).check(request).await.unwrap().into_inner();
    assert_eq!(answer.status, 1);
}

#[tokio::test]
async fn the_configuration_can_be_checked_and_printed() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeprof-worker"));
        command.args(arguments).output()
    };
    let printed = run(&["--print-default-config"]).await.unwrap();
    let file = folder.path().join("worker.toml");
    fs::write(&file, &printed.stdout).unwrap();
    let file = file.to_str().unwrap();
    assert!(run(&["--config", file, "--check-config"]).await.unwrap().status.success());
    let wrong = run(&["--config", file, "--check-config", "--board", "riscv23"]).await.unwrap();
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(78) && text.contains("did you mean \"riscv32\""), "{text}");
}
