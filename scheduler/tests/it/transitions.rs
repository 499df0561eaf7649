//! The transition table, a test for each row, by the row's words.

use edgeprof_common::{AttemptNo, TaskState};
use edgeprof_scheduler::{
    AttemptPhase, Closed, Event, Frame, HeldState, Notice, Outcome, RejectReason, Verdict, Write,
};

use super::rig::{Rig, board, held, lab_fault, model_fault, peer, task};
use TaskState::{Backoff, Cancelled, Failed, Leased, Queued, Succeeded};

/// One task leased on the one board of worker `a`, session 1.
fn offered() -> Rig {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig
}

fn running() -> Rig {
    let mut rig = offered();
    let lease = rig.lease(1);
    rig.frame(&peer("a", 1), Frame::Accepted(lease.clone()));
    rig.frame(&peer("a", 1), Frame::Started(lease));
    rig
}

#[test]
fn queued_with_an_able_idle_board_becomes_leased_with_a_new_token_before_its_start_leaves() {
    let mut rig = Rig::new();
    rig.submit([1]);
    assert_eq!((rig.state(1), rig.put(), rig.started().len()), (Queued, vec![], 0));
    rig.up("a", 1, &["a/0"]);
    assert_eq!((rig.state(1), rig.put()), (Leased, vec![task(1)]));
    assert_eq!(rig.started(), vec![(rig.lease(1), AttemptNo(1))]);
    assert!(rig.fx.writes.iter().any(|write| matches!(write, Write::PutLastToken { .. })));
}

#[test]
fn submission_and_first_lease_share_one_row() {
    let rig = offered();
    assert_eq!((rig.state(1), rig.put()), (Leased, vec![task(1)]));
}

#[test]
fn accepted_and_started_change_the_attempt_and_commit_nothing() {
    let mut rig = offered();
    for (frame, phase) in [
        (Frame::Accepted(rig.lease(1)), AttemptPhase::Staged),
        (Frame::Started(rig.lease(1)), AttemptPhase::Running),
        (Frame::Accepted(rig.lease(1)), AttemptPhase::Running),
    ] {
        rig.frame(&peer("a", 1), frame);
        assert_eq!(rig.scheduler.task(task(1)).unwrap().attempt, Some(phase));
        assert!(rig.fx.writes.is_empty());
    }
}

#[test]
fn rejected_as_busy_is_queued_uncharged_and_waits_for_the_boards_next_credit() {
    let mut rig = offered();
    let first = rig.lease(1);
    rig.reject(&peer("a", 1), &first, RejectReason::Busy);
    assert_eq!((rig.state(1), rig.row(1).standing.spent, rig.put()), (Queued, 0, vec![task(1)]));
    rig.tick_at(900);
    assert_eq!(rig.state(1), Queued);
    rig.frame(&peer("a", 1), Frame::Board(board("a/0", true)));
    assert_eq!(rig.state(1), Leased);
    assert!(rig.lease(1).token > first.token);
}

#[test]
fn other_rejections_cost_nothing_but_a_bad_request() {
    for (reason, state, failures) in [
        (RejectReason::Fenced, Queued, 0),
        (RejectReason::Draining, Queued, 0),
        (RejectReason::UnknownBoard, Queued, 0),
        (RejectReason::BadRequest, Backoff, 1),
    ] {
        let mut rig = offered();
        rig.reject(&peer("a", 1), &rig.lease(1), reason);
        assert_eq!((rig.state(1), rig.row(1).standing.failures), (state, failures), "{reason:?}");
    }
}

#[test]
fn an_offer_in_silence_is_resent_with_its_token_three_times_and_then_lost() {
    let mut rig = offered();
    let first = rig.lease(1);
    for n in 1..=20 {
        rig.now = n * 1000;
        rig.frame(&peer("a", 1), Frame::Heard);
        match n {
            5 | 10 | 15 => assert_eq!(rig.started(), vec![(first.clone(), AttemptNo(1))]),
            20 => {}
            _ => assert!(rig.fx.is_empty(), "at {n} s"),
        }
    }
    assert_eq!((rig.state(1), rig.row(1).standing.spent, rig.closes()), (Queued, 1, 1));
    assert_eq!(rig.row(1).standing.past[0].closed, Closed::Lost);
}

#[test]
fn leased_on_a_dead_worker_is_lost_and_goes_first() {
    let mut rig = running();
    rig.submit([2, 3]);
    rig.tick_at(3000);
    rig.tick_at(7000);
    assert_eq!((rig.state(1), rig.row(1).standing.spent, rig.row(1).standing.front), (Queued, 1, true));
    rig.up("b", 2, &["b/0"]);
    assert_eq!((rig.state(1), rig.state(2)), (Leased, Queued));
}

#[test]
fn reconciled_as_never_accepted_is_queued_uncharged() {
    let mut rig = offered();
    let before = rig.lease(1);
    rig.beat(&peer("a", 1), &["a/0"], vec![], 0);
    assert_eq!(rig.lease(1), before, "the worker has not seen its start");
    rig.beat(&peer("a", 1), &["a/0"], vec![], 1);
    assert_eq!((rig.state(1), rig.row(1).standing.spent), (Leased, 0));
    assert_ne!(rig.lease(1), before);

    let mut rig = offered();
    let before = rig.lease(1);
    rig.up("a", 2, &["a/0"]);
    assert_eq!(rig.row(1).standing.spent, 0);
    assert_ne!(rig.lease(1), before);
}

#[test]
fn reconciled_as_accepted_and_gone_is_lost() {
    let mut rig = running();
    rig.beat(&peer("a", 1), &["a/0"], vec![], 1);
    assert_eq!((rig.row(1).standing.spent, rig.row(1).standing.past[0].closed), (1, Closed::Lost));
    let mut rig = running();
    rig.up("a", 2, &["a/0"]);
    assert_eq!((rig.row(1).standing.spent, rig.row(1).standing.past[0].closed), (1, Closed::Lost));
}

#[test]
fn reconciled_as_held_goes_on() {
    for state in [HeldState::Staged, HeldState::Running, HeldState::Outbox] {
        let mut rig = offered();
        let lease = rig.lease(1);
        rig.hello("a", 2, 1, &["a/0"], vec![held(&lease, state)]);
        assert_eq!(rig.lease(1), lease);
        rig.result(&peer("a", 2), &lease, Outcome::Succeeded);
        assert_eq!((rig.state(1), rig.acks()), (Succeeded, vec![false]));
    }
}

#[test]
fn a_success_of_the_current_token_ends_the_task_and_shares_its_commit_with_the_next_lease() {
    let mut rig = running();
    rig.submit([2]);
    rig.result(&peer("a", 1), &rig.lease(1), Outcome::Succeeded);
    assert_eq!(rig.verdicts(), vec![(task(1), AttemptNo(1), &Verdict::Succeeded)]);
    assert_eq!((rig.state(1), rig.state(2), rig.acks()), (Succeeded, Leased, vec![false]));
    assert_eq!(rig.put(), vec![task(1), task(2)]);
    let image = |n| rig.row(n).standing.image.is_some();
    assert_eq!((image(1), image(2)), (false, true), "no board is looked for any more");
}

#[test]
fn a_lab_fault_backs_off_twice_and_the_third_fails() {
    let mut rig = offered();
    for (failures, wait) in [(1, 1000), (2, 2000)] {
        rig.result(&peer("a", 1), &rig.lease(1), lab_fault());
        assert_eq!(
            (rig.state(1), rig.row(1).standing.failures, rig.acks()),
            (Backoff, failures, vec![false])
        );
        rig.event(Event::NoCanary { board: "a/0".parse().unwrap() });
        let at = rig.now + wait;
        rig.now = at - 1;
        rig.frame(&peer("a", 1), Frame::Heard);
        assert_eq!(rig.state(1), Backoff);
        rig.tick_at(at);
        assert_eq!(rig.state(1), Leased);
    }
    rig.result(&peer("a", 1), &rig.lease(1), lab_fault());
    assert_eq!((rig.state(1), rig.verdicts().len(), rig.acks()), (Failed, 1, vec![false]));
}

#[test]
fn a_model_fault_fails_at_once() {
    let mut rig = offered();
    rig.result(&peer("a", 1), &rig.lease(1), model_fault());
    assert_eq!(
        (rig.state(1), rig.row(1).standing.error.as_ref().unwrap().code.as_str()),
        (Failed, "bad_logits")
    );
}

/// The first attempt was lost with worker `a`; the second runs on `b`.
fn overtaken() -> (Rig, edgeprof_scheduler::LeaseRef) {
    let mut rig = running();
    let old = rig.lease(1);
    rig.tick_at(3000);
    rig.tick_at(7000);
    rig.up("b", 2, &["b/0"]);
    assert_ne!(rig.lease(1), old);
    (rig, old)
}

#[test]
fn a_success_of_any_token_wins_and_the_other_attempt_is_superseded() {
    let (mut rig, old) = overtaken();
    let current = rig.lease(1);
    rig.result(&peer("a", 1), &old, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.acks()), (Succeeded, vec![false]));
    assert_eq!(rig.verdicts(), vec![(task(1), AttemptNo(1), &Verdict::Succeeded)]);
    assert_eq!(rig.cancelled(), vec![current.clone()]);
    let closed: Vec<_> = rig.row(1).standing.past.iter().map(|past| past.closed).collect();
    assert_eq!(closed, [Closed::Succeeded, Closed::Superseded]);
    // Its board is not given away before its worker shows that it ended.
    rig.submit([2]);
    assert_eq!(rig.state(2), Queued);
    rig.result(&peer("b", 2), &current, Outcome::Cancelled);
    assert_eq!((rig.state(2), rig.acks(), rig.verdicts().len()), (Leased, vec![true], 0));
}

#[test]
fn a_failure_of_an_older_token_is_acknowledged_and_changes_nothing() {
    let (mut rig, old) = overtaken();
    let before = rig.row(1).clone();
    rig.result(&peer("a", 1), &old, model_fault());
    assert_eq!((rig.row(1), rig.acks(), rig.put()), (&before, vec![true], vec![]));
}

#[test]
fn any_result_of_an_ended_task_is_acknowledged_as_a_duplicate() {
    for outcome in [Outcome::Succeeded, lab_fault(), Outcome::Cancelled] {
        let mut rig = running();
        let lease = rig.lease(1);
        rig.result(&peer("a", 1), &lease, Outcome::Succeeded);
        rig.result(&peer("a", 1), &lease, outcome);
        assert_eq!((rig.acks(), rig.fx.writes.len()), (vec![true], 0));
    }
}

#[test]
fn a_result_of_an_unknown_task_is_kept_aside_and_acknowledged() {
    let mut rig = running();
    let mut lease = rig.lease(1);
    lease.task = task(99);
    rig.result(&peer("a", 1), &lease, Outcome::Succeeded);
    assert!(matches!(&rig.fx.writes[..], [Write::SetAside { .. }]));
    assert_eq!((rig.acks(), rig.state(1)), (vec![true], Leased));
}

#[test]
fn a_cancel_ends_the_task_wherever_it_is() {
    let mut queued = Rig::new();
    queued.submit([1]);
    let mut backoff = offered();
    backoff.result(&peer("a", 1), &backoff.lease(1), lab_fault());
    for mut rig in [queued, backoff] {
        rig.cancel(1);
        assert_eq!((rig.state(1), rig.verdicts().len()), (Cancelled, 1));
        assert_eq!(rig.scheduler.waiting(), 0);
        rig.tick_at(60_000);
        assert_eq!(rig.state(1), Cancelled);
    }
}

#[test]
fn a_cancel_tells_the_running_attempt_and_a_later_success_is_a_duplicate() {
    let mut rig = running();
    let lease = rig.lease(1);
    rig.event(Event::CancelJob { job: super::rig::JOB });
    assert_eq!((rig.state(1), rig.cancelled()), (Cancelled, vec![lease.clone()]));
    assert_eq!(rig.scheduler.job(super::rig::JOB).unwrap().state.as_str(), "cancelling");
    rig.result(&peer("a", 1), &lease, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.acks(), rig.verdicts().len()), (Cancelled, vec![true], 0));
    assert_eq!(rig.scheduler.job(super::rig::JOB).unwrap().state.as_str(), "cancelled");
    assert!(rig.fx.notices.iter().any(|notice| matches!(notice, Notice::Job { .. })));
}

#[test]
fn a_success_before_the_cancel_stands() {
    let mut rig = running();
    rig.result(&peer("a", 1), &rig.lease(1), Outcome::Succeeded);
    rig.cancel(1);
    assert_eq!((rig.state(1), rig.fx.is_empty()), (Succeeded, true));
}

/// Beats every second until `to`, so that only deadlines pass.
fn pass(rig: &mut Rig, to: u64, lease: &edgeprof_scheduler::LeaseRef) {
    while rig.now < to {
        rig.now = (rig.now + 1000).min(to);
        rig.beat(&peer("a", 1), &["a/0"], vec![held(lease, HeldState::Running)], 9);
    }
}

#[test]
fn past_its_deadline_an_attempt_is_cancelled_and_retried() {
    let mut rig = running();
    let lease = rig.lease(1);
    pass(&mut rig, 599_000, &lease);
    assert!(rig.cancelled().is_empty());
    pass(&mut rig, 600_000, &lease);
    assert_eq!((rig.state(1), rig.cancelled()), (Leased, vec![lease.clone()]));
    rig.result(&peer("a", 1), &lease, Outcome::Cancelled);
    assert_eq!((rig.state(1), rig.row(1).standing.failures), (Backoff, 1));
    assert_eq!(rig.row(1).standing.error.as_ref().unwrap().code, "deadline");
}

#[test]
fn an_unanswered_cancel_loses_the_attempt_and_restarts_the_board_which_proves_itself_before_the_next() {
    let mut rig = running();
    let lease = rig.lease(1);
    pass(&mut rig, 614_000, &lease);
    assert_eq!((rig.state(1), rig.resets().len()), (Leased, 0));
    pass(&mut rig, 615_000, &lease);
    assert_eq!((rig.state(1), rig.row(1).standing.past[0].closed), (Queued, Closed::Lost));
    assert_eq!((rig.resets(), rig.canary()), (vec![lease.board.clone()], None));
    rig.now += 1000;
    rig.beat(&peer("a", 1), &["a/0"], vec![], 9);
    let canary = rig.canary().expect("the board is idle and good again");
    assert_eq!(rig.state(1), Queued);
    rig.result(&peer("a", 1), &canary, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.acks()), (Leased, vec![false]));
}

#[test]
fn the_deadline_is_ten_times_the_prediction_if_that_is_more() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    let lease = rig.lease(1);
    pass(&mut rig, 120_000, &lease);
    rig.result(&peer("a", 1), &lease, Outcome::Succeeded);
    rig.submit([2]);
    let lease = rig.lease(2);
    rig.frame(&peer("a", 1), Frame::Accepted(lease.clone()));
    pass(&mut rig, 1_319_000, &lease);
    assert!(rig.cancelled().is_empty());
    pass(&mut rig, 1_320_000, &lease);
    assert_eq!(rig.cancelled(), vec![lease]);
}

#[test]
fn eight_lost_attempts_are_the_last() {
    let mut rig = Rig::new();
    rig.submit([1]);
    for n in 1..=8 {
        assert_eq!(rig.state(1), Queued);
        rig.up("a", n, &["a/0"]);
        rig.frame(&peer("a", n), Frame::Started(rig.lease(1)));
        rig.event(Event::SessionLost { peer: peer("a", n) });
        rig.now += 10_000;
        rig.event(Event::Tick);
    }
    assert_eq!((rig.state(1), rig.row(1).standing.spent, rig.verdicts().len()), (Failed, 8, 1));
}
