//! A coordinator that dies and comes back, or has no room.

use std::{
    net::SocketAddr,
    process::{Output, Stdio},
    time::Duration,
};

use expect_test::expect;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Child,
};

use crate::{
    command::{code, command, edgeprof, err, fake, out, record},
    fake::{JOB, Killable},
    files::Files,
};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn spawn(address: SocketAddr, line: &[&str]) -> Child {
    command(Some(address), line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What it says on standard error up to the line that has `word`.
async fn heard(child: &mut BufReader<tokio::process::ChildStderr>, word: &str) -> String {
    let mut said = String::new();
    while !said.contains(word) {
        let read = tokio::time::timeout(Duration::from_secs(60), child.read_line(&mut said)).await;
        assert!(read.unwrap().unwrap() > 0, "it ended with {said}");
    }
    said
}

async fn end(child: Child) -> Output {
    tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_goes_on_where_it_was_when_the_coordinator_returns() {
    let fake = fake([record(1)]);
    fake.state.lock().unwrap().endless = true;
    let first = Killable::start(&fake, ANY);
    let address = first.address();
    let mut child = spawn(address, &["watch", JOB, "--progress", "plain"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = heard(&mut stderr, "run 25%").await;
    first.kill().await;
    said += &heard(&mut stderr, "lost").await;
    fake.state.lock().unwrap().endless = false;
    let second = Killable::start(&fake, address);
    stderr.read_to_string(&mut said).await.unwrap();
    let output = end(child).await;
    second.kill().await;
    assert_eq!(code(&output), 0, "{said}");
    assert_eq!(fake.state.lock().unwrap().watched_after, [0, 7]);
    // Why the connection broke is the system's word.
    let lines: Vec<_> = said.lines().map(|line| line.split(" at http").next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "lab-1/mps2-an386-0 native kv f16 p5 n3: run 25%",
            "lost the coordinator",
            "the coordinator is back",
            "lab-1/mps2-an386-0 native kv f16 p5 n3: succeeded"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_makes_one_job_over_a_coordinator_that_dies_before_it_answers() {
    let (fake, files) = (fake([record(1)]), Files::new());
    fake.state.lock().unwrap().hold_submission = true;
    let first = Killable::start(&fake, ANY);
    let address = first.address();
    let (model, tokenizer) = (files.text("tiny.bin"), files.text("tok.bin"));
    let line = ["run", "-m", &model, "--tokenizer", &tokenizer, "-b", "all", "-o", "json", "--as", "nightly"];
    let child = spawn(address, &line);
    fake.submitted.notified().await;
    first.kill().await;
    let second = Killable::start(&fake, address);
    let output = end(child).await;
    second.kill().await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let state = fake.state.lock().unwrap();
    assert_eq!(state.keys.len(), 2);
    assert_eq!(state.keys[0], state.keys[1]);
    assert_eq!(state.submitters, ["nightly", "nightly"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_an_error_unless_somebody_waits_for_room() {
    let (fake, files) = (fake([record(1)]), Files::new());
    fake.state.lock().unwrap().full = 3;
    let state = fake.state.clone();
    let address = fake.start().await;
    let (model, tokenizer) = (files.text("tiny.bin"), files.text("tok.bin"));
    let line = ["submit", "-m", &model, "--tokenizer", &tokenizer, "-b", "all"];
    let output = edgeprof(address, &line).await;
    assert_eq!((code(&output), out(&output).as_str()), (2, ""));
    expect![[r#"
        error: the queue is full
        hint: try again after 1 s
        hint: or let it wait for room: --wait-for-room 10m
    "#]]
    .assert_eq(&err(&output));
    let waits = [&line[..], &["--wait-for-room", "1h"]].concat();
    let output = edgeprof(address, &waits).await;
    assert_eq!((code(&output), out(&output)), (0, format!("{JOB}\n")), "{}", err(&output));
    assert_eq!(err(&output), "the queue is full; trying again for at most 1h\n");
    let state = state.lock().unwrap();
    assert_eq!(state.keys.len(), 4);
    assert_ne!(state.keys[0], state.keys[1]);
    assert!(state.keys[1..].iter().all(|key| *key == state.keys[1]), "the same submission is sent again");
    assert!(state.submitters.iter().all(|name| name.contains('@')), "{:?}", state.submitters);
}
