//! Several attempts a board, on boards that do nothing: order, recall, cancel, drain, silence.

mod support;

use std::time::Duration;

use edgeprof_common::TaskId;
use edgeprof_proto::v1::{self, from_worker::Frame as From, result::Outcome, to_worker::Frame as To};
use edgeprof_worker::config::Limits;
use support::{LIFE, Lab, SOON, Session, lease, nothing};

const BOARD: &str = "w/noop.0";

fn long() -> Duration {
    Duration::from_secs(3600)
}

/// What became of an attempt: `started 3`, `result 3`, `recalled 4`.
async fn next(session: &mut Session) -> String {
    session
        .until(|frame| match frame {
            From::Started(s) => Some(format!("started {}", s.lease?.counter)),
            From::Result(r) => Some(format!("{} {}", word(&r), r.lease?.counter)),
            From::Rejected(r) => Some(format!("{} {}", r.reason, r.lease?.counter)),
            _ => None,
        })
        .await
}

fn word(result: &v1::Result) -> &'static str {
    match result.outcome {
        Some(Outcome::Measurement(_)) => "result",
        Some(Outcome::Error(_)) => "error",
        Some(Outcome::Cancelled(_)) => "cancelled",
        None => "nothing",
    }
}

fn recall(counter: u64) -> To {
    let task_id = TaskId::from_raw(counter.into()).to_string();
    To::Recall(v1::Recall { lease: Some(lease(1, counter)), task_id, board: BOARD.into() })
}

fn cancel(counter: u64) -> To {
    let task_id = TaskId::from_raw(counter.into()).to_string();
    To::Cancel(v1::CancelAttempt { lease: Some(lease(1, counter)), task_id, board: BOARD.into() })
}

async fn start(session: &mut Session, counters: std::ops::RangeInclusive<u64>) {
    for counter in counters {
        session.start(counter, counter.into(), BOARD, &nothing()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_runs_what_it_was_given_in_the_order_of_tokens() {
    let lab = Lab::idling(Duration::ZERO, Limits::default()).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(BOARD).await;
    start(&mut session, 1..=33).await;
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    while ended.len() < 33 {
        let said = next(&mut session).await;
        let (word, counter) = said.split_once(' ').unwrap();
        match word {
            "started" => started.push(counter.parse::<u64>().unwrap()),
            "result" => ended.push(counter.parse::<u64>().unwrap()),
            other => panic!("{other}"),
        }
    }
    let all: Vec<u64> = (1..=33).collect();
    assert_eq!((started, ended), (all.clone(), all));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_measured_on_a_board_that_does_nothing_and_the_result_says_so() {
    let lab = Lab::idling(Duration::ZERO, Limits::default()).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let Outcome::Measurement(measurement) = session.run(1, BOARD, &nothing()).await else { panic!() };
    assert!(measurement.samples.is_empty() && measurement.provenance.is_empty(), "{measurement:?}");
    assert!(measurement.reasons[0].contains("noop"), "{measurement:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_given_back_at_once_and_what_runs_is_not() {
    let lab = Lab::idling(long(), Limits::default()).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(BOARD).await;
    start(&mut session, 1..=4).await;
    assert_eq!(next(&mut session).await, "started 1");
    session.send(recall(1)).await;
    session.send(recall(3)).await;
    assert_eq!(next(&mut session).await, "recalled 3");
    session.send(cancel(4)).await;
    assert_eq!(next(&mut session).await, "cancelled 4");
    session.send(cancel(1)).await;
    assert_eq!(next(&mut session).await, "cancelled 1");
    assert_eq!(next(&mut session).await, "started 2");
    session.start(3, 3, BOARD, &nothing()).await;
    assert_eq!(next(&mut session).await, "fenced 3", "what was given back does not come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_ends_what_runs_and_the_next_one_starts() {
    let lab = Lab::idling(long(), Limits::default()).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(BOARD).await;
    start(&mut session, 1..=2).await;
    assert_eq!(next(&mut session).await, "started 1");
    session.send(To::Reset(v1::ResetNow { board: BOARD.into() })).await;
    let result = session.result().await;
    let Some(Outcome::Error(error)) = result.outcome else { panic!("{result:?}") };
    assert_eq!((error.class.as_str(), error.code.as_str()), ("infrastructure", "board_reset"));
    assert_eq!(next(&mut session).await, "started 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_gives_back_what_waits_and_ends_what_takes_too_long() {
    let limits = Limits { drain_grace: Duration::from_millis(300), ..Limits::default() };
    let lab = Lab::idling(long(), limits).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(BOARD).await;
    start(&mut session, 1..=2).await;
    assert_eq!(next(&mut session).await, "started 1");
    let daemon = lab.daemon.as_ref().unwrap();
    let talk = async {
        let draining = |frame| matches!(frame, From::Heartbeat(beat) if beat.draining).then_some(());
        session.until(draining).await;
        assert_eq!(next(&mut session).await, "draining 2");
        session.start(3, 3, BOARD, &nothing()).await;
        assert_eq!(next(&mut session).await, "draining 3");
        assert_eq!(next(&mut session).await, "draining 1", "it had been running");
    };
    let drained = async { tokio::join!(daemon.drain(), talk) };
    tokio::time::timeout(SOON, drained).await.expect("it drains, though something runs for an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_lets_what_runs_finish_and_waits_for_the_acknowledgement() {
    let lab = Lab::idling(Duration::from_millis(200), Limits::default()).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(BOARD).await;
    start(&mut session, 1..=1).await;
    assert_eq!(next(&mut session).await, "started 1");
    let daemon = lab.daemon.as_ref().unwrap();
    let drained = daemon.drain();
    tokio::pin!(drained);
    let result = tokio::select! {
        () = &mut drained => panic!("a result was not waited for"),
        result = session.result() => result,
    };
    assert_eq!(word(&result), "result");
    session.ack(&result).await;
    tokio::time::timeout(SOON, drained).await.expect("it drains once the result is acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_without_a_session_is_drained_at_once() {
    let lab = Lab::idling(Duration::ZERO, Limits::default()).await;
    lab.daemon.as_ref().unwrap().drain().await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    assert!(session.hello.draining && session.hello.boards.iter().all(|board| !board.idle));
    start(&mut session, 1..=1).await;
    assert_eq!(next(&mut session).await, "draining 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_silence_nothing_starts_before_the_coordinator_has_greeted_anew() {
    let lab = Lab::idling(Duration::from_secs(5), Limits::default()).await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    session.good(BOARD).await;
    start(&mut session, 1..=2).await;
    assert_eq!(next(&mut session).await, "started 1");
    session.fall_silent();
    let status = loop {
        if let Err(status) = session.next().await {
            break status;
        }
    };
    assert_eq!(status.code(), tonic::Code::Aborted, "{status}");
    // What ran goes on to its end; what waited is where it was, though its board has nothing to do.
    lab.keeps_a_result().await;
    let mut session = Session::open(&lab.address(), &LIFE).await.unwrap();
    let states: Vec<_> = session.hello.held.iter().map(|held| held.state.as_str()).collect();
    assert_eq!(states, ["staged", "outbox"]);
    let mut said = vec![next(&mut session).await, next(&mut session).await];
    said.sort();
    assert_eq!(said, ["result 1", "started 2"]);
}
