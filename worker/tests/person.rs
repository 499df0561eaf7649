//! What a person does to boards, and a board that never answers beside others.

mod support;

use std::{os::fd::OwnedFd, time::Duration};

use edgeprof_proto::v1::{self, from_worker::Frame as From};
use edgeprof_worker::{
    board::attached::Port,
    config::{BAUD, Behind, Limits},
};
use nix::{pty::openpty, unistd::ttyname};
use support::{LIFE, Lab, Session, nothing, spec};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::Code;

const NOOP: &str = "w/noop.0";
const DEAF: &str = "w/riscv32.0";

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A port at which nobody answers, for as long as both ends are kept.
fn deaf() -> (Behind, [OwnedFd; 2]) {
    let pair = openpty(None, None).unwrap();
    let path = ttyname(&pair.slave).unwrap();
    (Behind::Port(Port { path, baud: BAUD, emulated: true }), [pair.master, pair.slave])
}

fn nothing_for(run: Duration) -> (&'static str, Behind) {
    ("noop", Behind::Nothing(run))
}

async fn reset(session: &Session, board: &str) -> Result<v1::ResetBoardResponse, tonic::Status> {
    let request = v1::ResetBoardRequest { board: board.into() };
    session.client().reset_board(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_that_never_answers_delays_no_other() {
    let (port, _line) = deaf();
    let limits = Limits { boot_timeout: NEVER, ..Limits::default() };
    let lab = Lab::behind(vec![("riscv32", port), nothing_for(Duration::ZERO)], limits).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(NOOP).await;
    for counter in 1..=33 {
        session.start(counter, counter.into(), NOOP, &nothing()).await;
    }
    for counter in 1..=33 {
        let result = session.result().await;
        assert_eq!(result.lease.unwrap().counter, counter);
        session.ack(&result).await;
    }
    assert_eq!(reset(&session, NOOP).await.unwrap().health, "good");
    // All that happened while the other one was waited for.
    let health = session
        .until(|frame| match frame {
            From::Heartbeat(beat) => beat.boards.into_iter().find(|b| b.id == DEAF).map(|b| b.health),
            _ => None,
        })
        .await;
    assert_eq!(health, "unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_says_what_became_of_the_board() {
    let (port, _line) = deaf();
    let limits = Limits { boot_timeout: Duration::from_millis(50), ..Limits::default() };
    let lab = Lab::behind(vec![("riscv32", port), nothing_for(NEVER)], limits).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let answer = reset(&session, DEAF).await.unwrap();
    assert_eq!(answer.health, "bad");
    assert!(answer.reason.is_some_and(|reason| !reason.is_empty()));
    let status = reset(&session, "w/x").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "w has no board w/x"));

    session.good(NOOP).await;
    session.start(1, 1, NOOP, &nothing()).await;
    session.until(|frame| matches!(frame, From::Started(_)).then_some(())).await;
    let status = reset(&session, NOOP).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("busy with task"), "{status:?}");
}

/// Opens the line of a board; what is sent is typed.
async fn console(
    session: &Session,
    board: &str,
) -> Result<(tokio::sync::mpsc::Sender<v1::ConsoleInput>, tonic::Streaming<v1::ConsoleOutput>), tonic::Status>
{
    let (typed, line) = tokio::sync::mpsc::channel(4);
    typed.send(v1::ConsoleInput { board: board.into(), data: Vec::new() }).await.unwrap();
    let said = session.client().console(ReceiverStream::new(line)).await?.into_inner();
    Ok((typed, said))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_have_the_line_of_a_board_is_told_why() {
    let (port, _line) = deaf();
    let limits = Limits { boot_timeout: Duration::from_millis(50), ..Limits::default() };
    let lab = Lab::behind(vec![("riscv32", port), nothing_for(Duration::ZERO)], limits).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(NOOP).await;
    let status = console(&session, NOOP).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("has no line"), "{status:?}");
    session.run(1, NOOP, &nothing()).await;
    assert_eq!(reset(&session, DEAF).await.unwrap().health, "bad");
    let status = console(&session, DEAF).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("w/riscv32.0 is"), "{status:?}");
}

/// Whatever is typed: the next task finds a board as new.
#[tokio::test(flavor = "multi_thread")]
async fn a_console_has_the_board_alone_and_leaves_it_as_new() {
    const BOARD: &str = "w/riscv32.0";
    let lab = Lab::start(&[("riscv32", edgeprof_worker::config::Transport::Socket)]).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let spec = spec(&mut session, "riscv32", 2);
    let first = session.run(1, BOARD, &spec).await;
    session.good(BOARD).await;
    let (typed, mut said) = console(&session, BOARD).await.unwrap();
    let busy = session
        .until(|frame| match frame {
            From::Board(report) => (report.id == BOARD && !report.idle).then_some(report.health),
            _ => None,
        })
        .await;
    assert_eq!(busy, "maintenance");
    let status = reset(&session, BOARD).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("its console is open"), "{status:?}");
    typed.send(v1::ConsoleInput { board: BOARD.into(), data: b"hello\r\n\0\xff".to_vec() }).await.unwrap();
    drop(typed);
    while let Some(piece) = said.next().await {
        piece.unwrap();
    }
    session.good(BOARD).await;
    let second = session.run(2, BOARD, &spec).await;
    let hash = |outcome| match outcome {
        v1::result::Outcome::Measurement(measurement) => measurement.logits_hash,
        other => panic!("{other:?}"),
    };
    assert_eq!(hash(first), hash(second));
}
