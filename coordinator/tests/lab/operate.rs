//! What operators do to workers and boards, and the stories of tasks.

use edgeprof_coordinator::daemon::Daemon;
use edgeprof_proto::v1::{self, mark_board_request::Mark};
use edgeprof_service::status::hint;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::support::{Client, Lab, Played, config, program, soon};

const BOARD: &str = "w/riscv32-0";

fn reserve(seconds: u64) -> Mark {
    Mark::Reserve(v1::Reserve { seconds })
}

fn take_back(mark: &str) -> Mark {
    Mark::Unmark(v1::Unmark { mark: mark.into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_cannot_be_drained_or_marked() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    lab.client.until_boards().await;
    let status = lab.client.drain("x", false).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no worker x"));
    assert!(hint(&status).unwrap().contains("edgeprof workers"));
    let status = lab.client.mark("w/x", reserve(1)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no board w/x"));
    for seconds in [0, 31 * 24 * 3600] {
        let status = lab.client.mark(BOARD, reserve(seconds)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("30 days"), "{status:?}");
    }
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitter_is_shown_and_has_to_be_printable() {
    let mut lab = Lab::start(&[]).await;
    let mut spec = lab.client.spec(&["riscv32"]).await;
    spec.wait_for_board_ms = Some(3_600_000);
    let job = lab.client.try_submit(spec.clone(), "").await.unwrap();
    assert_eq!(job.submitter, "tester");
    for submitter in ["x".repeat(65), "bell\u{7}".into()] {
        let request =
            v1::SubmitJobRequest { spec: Some(spec.clone()), idempotency_key: String::new(), submitter };
        let status = lab.client.0.submit_job(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("submitter") && status.message().contains("64"), "{status:?}");
    }
    lab.daemon.stop().await;
}

async fn console(client: &mut Client) -> Result<tonic::Streaming<v1::ConsoleOutput>, tonic::Status> {
    let typed =
        ["", "hello"].map(|data| v1::ConsoleInput { board: BOARD.into(), data: data.as_bytes().to_vec() });
    // The reader stays: only the end of the reservation ends the line.
    let typed = tokio_stream::iter(typed).chain(tokio_stream::pending());
    Ok(client.0.console(typed).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_a_board_is_for_who_reserved_it_and_as_long() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    lab.client.until_boards().await;
    let status = console(&mut lab.client).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(hint(&status).unwrap().contains("edgeprof board reserve w/riscv32-0"), "{status:?}");

    let board = lab.client.mark(BOARD, reserve(3600)).await.unwrap();
    assert_eq!((board.mark.as_deref(), board.marked_by.as_deref()), (Some("reserved"), Some("ann")));
    assert!((3_500_000..=3_600_000).contains(&board.reserved_ms.unwrap()), "{board:?}");
    let mut line = console(&mut lab.client).await.unwrap();
    let mut said = Vec::new();
    while said.len() < 2 * BOARD.len() + 5 {
        said.extend(soon("an echo", line.message()).await.unwrap().expect("the line is open").data);
    }
    assert_eq!(said, format!("{BOARD}{BOARD}hello").into_bytes());
    // Taken back, the line is cut.
    lab.client.mark(BOARD, take_back("reserved")).await.unwrap();
    assert_eq!(soon("the end", line.message()).await.unwrap(), None);
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_mark_is_not_taken_for_another_nor_a_reservation_from_its_owner() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    lab.client.until_boards().await;
    let status = lab.client.mark(BOARD, take_back("")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let board = lab.client.mark(BOARD, take_back("reserved")).await.unwrap();
    assert_eq!(board.mark, None, "whoever lost the first answer asks again");

    lab.client.mark(BOARD, reserve(3600)).await.unwrap();
    let status = lab.client.mark(BOARD, take_back("quarantined")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "w/riscv32-0 is not quarantined");
    assert!(hint(&status).unwrap().contains("reserved by ann"), "{status:?}");
    let bob = v1::MarkBoardRequest { board: BOARD.into(), mark: Some(reserve(60)), by: "bob".into() };
    let status = lab.client.0.mark_board(bob).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(hint(&status).unwrap().contains("reserved by ann"), "{status:?}");
    let board = lab.client.mark(BOARD, reserve(7200)).await.unwrap();
    assert!(board.reserved_ms.unwrap() > 3_600_000, "its owner may lengthen it: {board:?}");

    let quarantine = Mark::Quarantine(v1::Quarantine { reason: "it smells".into() });
    lab.client.mark(BOARD, quarantine).await.unwrap();
    // Nor is a quarantine ended by a reservation.
    for mark in [take_back("reserved"), reserve(60)] {
        let status = lab.client.mark(BOARD, mark).await.unwrap_err();
        assert!(hint(&status).unwrap().contains("quarantined by ann: it smells"), "{status:?}");
    }
    let board = lab.client.mark(BOARD, take_back("quarantined")).await.unwrap();
    assert_ne!(board.mark.as_deref(), Some("quarantined"), "{board:?}");
    lab.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_and_drains_outlive_the_coordinator() {
    let worker = Played::start("w", &["riscv32", "mps2-an386"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    lab.client.until_boards().await;
    lab.client.mark(BOARD, reserve(3600)).await.unwrap();
    let bad = Mark::Quarantine(v1::Quarantine { reason: "it smells".into() });
    lab.client.mark("w/mps2-an386-1", bad).await.unwrap();
    assert!(lab.client.drain("w", false).await.unwrap().draining);
    lab.daemon.stop().await;

    let daemon = Daemon::start(&config(lab.folder.path(), &[&worker]), program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    let boards = soon("boards", async {
        loop {
            let list = client.0.list_boards(v1::ListBoardsRequest::default()).await.unwrap().into_inner();
            if list.boards.len() == 2 {
                return list.boards;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let of = |id: &str| boards.iter().find(|board| board.id == id).unwrap();
    assert_eq!(of(BOARD).mark.as_deref(), Some("reserved"));
    assert!(of(BOARD).reserved_ms.unwrap() <= 3_600_000);
    let board = of("w/mps2-an386-1");
    assert_eq!((board.mark.as_deref(), board.reason.as_deref()), (Some("quarantined"), Some("it smells")));
    let workers = client.0.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    assert!(workers.iter().any(|worker| worker.id == "w" && worker.draining), "{workers:?}");
    assert!(!client.drain("w", true).await.unwrap().draining);
    daemon.stop().await;
}

/// After a restart, before their worker was found or without it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_can_be_taken_back() {
    let worker = Played::start("w", &["riscv32", "mps2-an386"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    lab.client.until_boards().await;
    let bad = Mark::Quarantine(v1::Quarantine { reason: "it smells".into() });
    lab.client.mark(BOARD, bad).await.unwrap();
    lab.client.mark("w/mps2-an386-1", reserve(3600)).await.unwrap();
    lab.client.drain("w", false).await.unwrap();
    lab.daemon.stop().await;

    let daemon = Daemon::start(&config(lab.folder.path(), &[]), program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    let board = client.mark(BOARD, take_back("quarantined")).await.unwrap();
    assert_eq!((board.worker.as_str(), board.health.as_str(), board.mark), ("w", "unknown", None));
    let board = client.mark("w/mps2-an386-1", take_back("reserved")).await.unwrap();
    assert_eq!((board.id.as_str(), &board.mark), ("w/mps2-an386-1", &None));
    let again = client.mark("w/mps2-an386-1", take_back("reserved")).await.unwrap();
    assert_eq!(again, board, "who has lost the answer gets it again");
    let status = client.mark("w/mps2-an386-1", reserve(60)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "nothing is known of it any more");
    let status = client.drain("w", true).await.unwrap();
    assert_eq!((status.id.as_str(), status.draining), ("w", false));
    assert_eq!(client.drain("w", true).await.unwrap(), status, "the same");
    for undo in [false, true] {
        let other = if undo { "v" } else { "w" };
        assert_eq!(client.drain(other, undo).await.unwrap_err().code(), Code::NotFound);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_tells_its_story_before_and_after_a_restart() {
    let worker = Played::start("w", &["riscv32"]).await;
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    lab.client.watch(&job.job_id).await;
    let events = lab.client.events(&job.job_id).await;
    let told: Vec<_> = events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(told, ["submitted", "prepared", "offered", "accepted", "started", "succeeded"]);
    assert!(events.is_sorted_by_key(|event| event.at.trim_end_matches('Z').to_owned()), "{events:?}");
    assert_eq!((events[2].board.as_deref(), events[2].attempt), (Some(BOARD), 1));
    assert_eq!(lab.client.events(&events[0].task_id).await, events);
    lab.daemon.stop().await;

    let daemon = Daemon::start(&config(lab.folder.path(), &[&worker]), program()).await.unwrap();
    let mut client = Client::to(&format!("http://{}", daemon.address())).await;
    assert_eq!(client.events(&job.job_id).await, events);
    daemon.stop().await;
}

/// The model fails on it, the canary does not: the fault is not the board's.
#[tokio::test(flavor = "multi_thread")]
async fn a_board_that_failed_is_judged_by_a_canary_that_is_no_run() {
    let worker = Played::start("w", &["riscv32"]).await;
    worker.spoil(|result| {
        if result.task_id != edgeprof_scheduler::CANARY.to_string() {
            let error =
                v1::Error { class: "infrastructure".into(), code: "hung".into(), ..Default::default() };
            result.outcome = Some(v1::result::Outcome::Error(error));
        }
    });
    let mut lab = Lab::start(&[&worker]).await;
    let spec = lab.client.spec(&["riscv32"]).await;
    let job = lab.client.submit(spec).await;
    let judged = soon("a verdict", async {
        loop {
            let events = lab.client.events(&job.job_id).await;
            if let Some(event) = events.into_iter().find(|event| event.what == "judged") {
                return event;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(judged.why.as_deref().unwrap().contains("passed"), "{judged:?}");
    let boards =
        lab.client.0.list_boards(v1::ListBoardsRequest::default()).await.unwrap().into_inner().boards;
    assert_eq!(boards[0].mark, None, "{boards:?}");
    let canary = edgeprof_common::RunId::from(edgeprof_scheduler::CANARY).to_string();
    let request = v1::GetResultsRequest { id: canary };
    assert_eq!(lab.client.0.get_results(request).await.unwrap_err().code(), Code::NotFound);
    lab.daemon.stop().await;
}
