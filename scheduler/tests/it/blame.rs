//! Whose fault it was: canary runs, quarantine, and tasks that fail on boards that are well.

use std::time::Duration;

use edgeprof_common::{BoardHealth, ErrorClass, TaskError, TaskState};
use edgeprof_scheduler::{
    AttemptPhase, CANARY, Config, Event, Frame, HeldState, LeaseRef, Mark, Outcome, RejectReason, Verdict,
    Write,
};

use super::rig::{Rig, board, held, lab_fault, model_fault, peer, task};
use TaskState::{Backoff, Failed, Leased, Queued};

/// Task 1 has just failed on `a/0`, for the lab's fault.
fn failed(boards: &[&str]) -> Rig {
    let mut rig = Rig::new();
    rig.up("a", 1, boards);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    rig.result(&peer("a", 1), &rig.lease(1), lab_fault());
    rig
}

fn quarantined(rig: &Rig, id: &str) -> Option<String> {
    match rig.kept.get(&id.parse().unwrap())?.mark.as_ref()? {
        Mark::Quarantined { by, .. } => Some(by.clone()),
        Mark::Reserved { .. } => None,
    }
}

/// Beats to `to`, with this attempt on the board.
fn pass(rig: &mut Rig, to: u64, lease: &LeaseRef) {
    while rig.now < to {
        rig.now = (rig.now + 1000).min(to);
        rig.beat(&peer("a", 1), &["a/0"], vec![held(lease, HeldState::Running)], 99);
    }
}

#[test]
fn a_lab_fault_makes_the_board_run_a_canary_before_anything_else_runs_there() {
    let mut rig = failed(&["a/0"]);
    let canary = rig.canary().unwrap();
    assert_eq!(
        (rig.state(1), canary.task, canary.token > rig.row(1).standing.past[0].token),
        (Backoff, CANARY, true)
    );
    assert!(
        rig.fx
            .writes
            .iter()
            .any(|write| matches!(write, Write::PutLastToken { token, .. } if *token == canary.token))
    );
    assert_eq!(rig.put(), vec![task(1)], "a canary is no task");
    rig.submit([2]);
    rig.tick_at(1000);
    assert_eq!([1, 2].map(|n| rig.state(n)), [Queued, Queued]);
    rig.frame(&peer("a", 1), Frame::Accepted(canary.clone()));
    rig.frame(&peer("a", 1), Frame::Started(canary.clone()));
    let occupant = rig.scheduler.boards().next().unwrap().occupant.unwrap();
    assert_eq!((occupant.task, occupant.phase), (CANARY, AttemptPhase::Running));
    rig.result(&peer("a", 1), &canary, Outcome::Succeeded);
    assert_eq!((rig.acks(), rig.state(1), rig.kept.len()), (vec![false], Leased, 0));
    assert_eq!(rig.row(1).standing.cleared.len(), 1);
}

#[test]
fn a_models_fault_and_a_stop_by_the_worker_blame_no_board() {
    for outcome in [model_fault(), Outcome::Cancelled] {
        let mut rig = Rig::new();
        rig.up("a", 1, &["a/0"]);
        rig.submit([1]);
        rig.start(&peer("a", 1), 1);
        rig.result(&peer("a", 1), &rig.lease(1), outcome);
        assert_eq!((rig.canary(), rig.kept.len()), (None, 0));
    }
}

#[test]
fn a_board_that_fails_its_canary_is_quarantined_and_the_task_is_not_charged() {
    let mut rig = failed(&["a/0"]);
    assert_eq!(rig.row(1).standing.failures, 1);
    let canary = rig.canary().unwrap();
    rig.up("b", 2, &["b/0"]);
    rig.result(&peer("a", 1), &canary, lab_fault());
    assert_eq!((rig.row(1).standing.failures, quarantined(&rig, "a/0").as_deref()), (0, Some("edgeprof")));
    assert_eq!((rig.put(), rig.rows[&task(1)].standing.failures), (vec![task(1)], 0));
    rig.tick_at(1000);
    assert_eq!(rig.lease(1).board.as_str(), "b/0");
}

#[test]
fn a_task_whose_last_board_is_quarantined_ends_with_what_happened_there() {
    let mut rig = failed(&["a/0"]);
    let (lease, canary) = (rig.row(1).standing.past[0].token, rig.canary().unwrap());
    rig.result(&peer("a", 1), &canary, lab_fault());
    let error = rig.row(1).standing.error.clone().unwrap();
    assert_eq!((rig.state(1), error.code.as_str()), (Failed, "board_hung"));
    let hint = error.hint.unwrap();
    assert!(hint.starts_with("a/0 failed its canary run") && hint.contains("no other board"), "{hint}");
    let by = rig.fx.writes.iter().find_map(|write| match write {
        Write::RecordRun { lease, .. } => lease.clone(),
        _ => None,
    });
    assert_eq!(by.map(|by| by.token), Some(lease));
}

#[test]
fn a_task_that_fails_on_two_boards_which_pass_has_failed() {
    let mut rig = failed(&["a/0", "a/1"]);
    let canary = rig.canary().unwrap();
    rig.result(&peer("a", 1), &canary, Outcome::Succeeded);
    rig.tick_at(1000);
    assert_eq!(rig.lease(1).board.as_str(), "a/1");
    let last = rig.lease(1);
    rig.result(&peer("a", 1), &last, lab_fault());
    assert_eq!((rig.state(1), rig.row(1).standing.failures), (Backoff, 2));
    let canary = rig.canary().unwrap();
    rig.result(&peer("a", 1), &canary, Outcome::Succeeded);
    assert_eq!(rig.state(1), Failed);
    let (_, _, verdict) = rig.verdicts()[0];
    let Verdict::Failed(error) = verdict else { panic!("{verdict:?}") };
    assert_eq!(
        (error.code.as_str(), error.hint.as_ref().unwrap().contains("2 boards")),
        ("board_hung", true)
    );
    let record = |write: &Write| match write {
        Write::RecordRun { lease, .. } => lease.clone(),
        _ => None,
    };
    assert_eq!(rig.fx.writes.iter().find_map(record), Some(last));
}

#[test]
fn it_has_failed_even_if_it_runs_again_by_then() {
    let mut rig = failed(&["a/0", "a/1"]);
    let first = rig.canary().unwrap();
    rig.tick_at(1000);
    rig.result(&peer("a", 1), &rig.lease(1), lab_fault());
    let second = rig.canary().unwrap();
    rig.up("b", 2, &["b/0"]);
    rig.tick_at(3000);
    rig.frame(&peer("a", 1), Frame::Heard);
    let third = rig.lease(1);
    assert_eq!(third.board.as_str(), "b/0");
    rig.result(&peer("a", 1), &first, Outcome::Succeeded);
    assert_eq!(rig.state(1), Leased);
    rig.result(&peer("a", 1), &second, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.cancelled()), (Failed, vec![third]));
}

#[test]
fn without_a_canary_a_board_is_trusted_and_the_task_not_cleared() {
    let mut rig = failed(&["a/0"]);
    rig.event(Event::NoCanary { board: "a/0".parse().unwrap() });
    assert_eq!((rig.kept.len(), rig.row(1).standing.cleared.len()), (0, 0));
    rig.tick_at(1000);
    assert_eq!(rig.state(1), Leased);
}

#[test]
fn a_canary_that_takes_too_long_is_stopped_and_its_board_quarantined() {
    let mut rig = failed(&["a/0"]);
    let canary = rig.canary().unwrap();
    rig.frame(&peer("a", 1), Frame::Accepted(canary.clone()));
    pass(&mut rig, 119_000, &canary);
    assert!(rig.cancelled().is_empty());
    pass(&mut rig, 120_000, &canary);
    assert_eq!(rig.cancelled(), vec![canary.clone()]);
    let mut hung = failed(&["a/0"]);
    hung.frame(&peer("a", 1), Frame::Accepted(canary.clone()));
    pass(&mut hung, 135_000, &canary);
    rig.result(&peer("a", 1), &canary, Outcome::Cancelled);
    assert_eq!((quarantined(&rig, "a/0").is_some(), rig.resets().len()), (true, 0));
    assert_eq!((quarantined(&hung, "a/0").is_some(), hung.resets().len()), (true, 1));
}

#[test]
fn a_canary_whose_worker_is_lost_or_turns_it_away_runs_again_later() {
    let mut rig = failed(&["a/0"]);
    let first = rig.canary().unwrap();
    rig.frame(&peer("a", 1), Frame::Started(first.clone()));
    rig.hello("a", 2, 2, &["a/0"], vec![]);
    let second = rig.canary().unwrap();
    assert!(second.token > first.token);
    rig.reject(&peer("a", 2), &second, RejectReason::Busy);
    assert_eq!(rig.canary(), None);
    rig.frame(&peer("a", 2), Frame::Board(board("a/0", true)));
    assert!(rig.canary().is_some());
    assert_eq!(rig.row(1).standing.failures, 1);
}

#[test]
fn a_suspicion_outlives_the_coordinator_and_an_old_canary_judges_nothing() {
    let mut rig = failed(&["a/0"]);
    let old = rig.canary().unwrap();
    rig.restart();
    rig.hello("a", 2, 1, &["a/0"], vec![held(&old, HeldState::Running)]);
    assert_eq!((rig.canary(), rig.cancelled()), (None, vec![old.clone()]));
    rig.result(&peer("a", 2), &old, Outcome::Succeeded);
    assert_eq!((rig.acks(), rig.kept.len()), (vec![true], 1));
    let canary = rig.canary().unwrap();
    assert!(canary.token > old.token);
    rig.result(&peer("a", 2), &canary, Outcome::Succeeded);
    assert_eq!((rig.kept.len(), rig.row(1).standing.cleared.len()), (0, 1));
}

#[test]
fn what_waits_behind_a_failure_is_recalled() {
    let mut rig = Rig::new();
    rig.up_with("a", 1, 9, &["a/0"]);
    rig.submit([1, 2]);
    rig.start(&peer("a", 1), 1);
    rig.frame(&peer("a", 1), Frame::Accepted(rig.lease(2)));
    let waits = rig.lease(2);
    rig.result(&peer("a", 1), &rig.lease(1), lab_fault());
    assert_eq!((rig.recalled(), rig.canary()), (vec![waits.clone()], None));
    rig.reject(&peer("a", 1), &waits, RejectReason::Recalled);
    assert_eq!((rig.state(2), rig.canary().is_some()), (Queued, true));
}

#[test]
fn a_hung_board_that_does_not_come_back_after_its_restart_is_quarantined() {
    let mut rig = Rig::with(Config { deadline_min: Duration::from_secs(10), ..Config::default() });
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    let lease = rig.lease(1);
    pass(&mut rig, 25_000, &lease);
    assert_eq!((rig.resets(), rig.row(1).standing.spent), (vec![lease.board.clone()], 1));
    let bad = |rig: &mut Rig| {
        let report = edgeprof_scheduler::BoardReport { health: BoardHealth::Bad, ..board("a/0", false) };
        rig.frame(&peer("a", 1), Frame::Board(report));
    };
    while rig.now < 84_000 {
        rig.now += 1000;
        bad(&mut rig);
    }
    assert_eq!(quarantined(&rig, "a/0"), None);
    rig.now += 1000;
    bad(&mut rig);
    assert_eq!(quarantined(&rig, "a/0").as_deref(), Some("edgeprof"));
}

#[test]
fn what_is_not_ours_and_ignores_cancels_has_its_board_restarted() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    let stranger = LeaseRef {
        token: edgeprof_common::Token { epoch: edgeprof_common::Epoch(0), counter: 7 },
        task: task(77),
        board: "a/0".parse().unwrap(),
    };
    let mut resets = Vec::new();
    for second in 1..=40 {
        rig.now = second * 1000;
        rig.beat(&peer("a", 1), &["a/0"], vec![held(&stranger, HeldState::Running)], 9);
        if !rig.resets().is_empty() {
            resets.push(second);
        }
    }
    assert_eq!(resets, [16, 36]);
}

#[test]
fn a_rejection_as_nonsense_is_no_boards_fault() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.reject(&peer("a", 1), &rig.lease(1), RejectReason::BadRequest);
    assert_eq!((rig.state(1), rig.kept.len()), (Backoff, 0));
    let error = TaskError::new(ErrorClass::Infrastructure, "board_hung", "no answer");
    assert_ne!(rig.row(1).standing.error, Some(error));
}

#[test]
fn a_quarantine_after_a_lost_attempt_takes_back_no_failure_on_another_board() {
    let mut rig = Rig::with(Config { deadline_min: Duration::from_secs(10), ..Config::default() });
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.reject(&peer("a", 1), &rig.lease(1), RejectReason::BadRequest);
    assert_eq!((rig.state(1), rig.row(1).standing.failures), (Backoff, 1));
    rig.up("b", 2, &["b/0"]);
    rig.tick_at(1000);
    let lease = rig.lease(1);
    assert_eq!(lease.board.as_str(), "b/0");
    rig.start(&peer("b", 2), 1);
    // It hears no cancel: it is lost, which is no failure, and its board is suspected.
    while rig.resets().is_empty() {
        rig.now += 1000;
        rig.beat(&peer("b", 2), &["b/0"], vec![held(&lease, HeldState::Running)], 99);
    }
    rig.beat(&peer("b", 2), &["b/0"], vec![], 99);
    let canary = rig.canary().unwrap();
    rig.result(&peer("b", 2), &canary, lab_fault());
    assert_eq!((quarantined(&rig, "b/0").is_some(), rig.row(1).standing.failures), (true, 1));
}
