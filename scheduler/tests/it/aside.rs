//! Workers that are drained, boards that are set aside.

use std::time::Duration;

use edgeprof_common::{BoardHealth, TaskState, WorkerHealth};
use edgeprof_scheduler::{
    Config, Event, Frame, HeldState, LeaseRef, Mark, Notice, Outcome, RejectReason, Write,
};

use super::rig::{Rig, board, held, lab_fault, peer, task, worker};
use TaskState::{Leased, Queued, Succeeded};

fn drain(rig: &mut Rig, name: &str, on: bool) {
    rig.event(Event::Drain { worker: worker(name), on });
}

fn mark(rig: &mut Rig, id: &str, mark: Option<Mark>) {
    rig.event(Event::Mark { board: id.parse().unwrap(), mark });
}

fn quarantined() -> Option<Mark> {
    Some(Mark::Quarantined { by: "ann".into(), reason: "smells burnt".into() })
}

fn reserved(seconds: u64) -> Option<Mark> {
    Some(Mark::Reserved { by: "ann".into(), left: Duration::from_secs(seconds) })
}

fn health(rig: &Rig) -> BoardHealth {
    rig.scheduler.boards().next().unwrap().health
}

/// Task 1 runs on the one board of `a`, task 2 waits behind it.
fn busy() -> (Rig, [LeaseRef; 2]) {
    let mut rig = Rig::new();
    rig.up_with("a", 1, 9, &["a/0"]);
    rig.submit([1, 2]);
    rig.start(&peer("a", 1), 1);
    rig.frame(&peer("a", 1), Frame::Accepted(rig.lease(2)));
    let leases = [rig.lease(1), rig.lease(2)];
    (rig, leases)
}

/// Beats every second to `to`, with task 1 running.
fn pass(rig: &mut Rig, to: u64, lease: &LeaseRef) {
    while rig.now < to {
        rig.now = (rig.now + 1000).min(to);
        rig.beat(&peer("a", 1), &["a/0"], vec![held(lease, HeldState::Running)], 99);
    }
}

#[test]
fn a_drained_worker_gives_back_what_waits_and_ends_what_runs_and_gets_nothing_new() {
    let (mut rig, [first, second]) = busy();
    drain(&mut rig, "a", true);
    assert_eq!((rig.recalled(), rig.cancelled()), (vec![second.clone()], vec![]));
    assert!(rig.fx.writes.contains(&Write::PutDrained { worker: worker("a"), on: true }));
    let view = rig.scheduler.workers().next().unwrap();
    assert_eq!((view.health, view.draining, view.attempts), (WorkerHealth::Draining, true, 2));
    rig.reject(&peer("a", 1), &second, RejectReason::Recalled);
    assert_eq!((rig.state(2), rig.row(2).standing.spent), (Queued, 0));
    rig.result(&peer("a", 1), &first, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.state(2)), (Succeeded, Queued));
    drain(&mut rig, "a", false);
    assert_eq!((rig.state(2), rig.scheduler.workers().next().unwrap().health), (Leased, WorkerHealth::Alive));
}

#[test]
fn what_still_runs_after_the_grace_is_stopped_and_goes_back_uncharged() {
    let (mut rig, [first, second]) = busy();
    drain(&mut rig, "a", true);
    rig.reject(&peer("a", 1), &second, RejectReason::Recalled);
    pass(&mut rig, 59_000, &first);
    assert!(rig.cancelled().is_empty());
    pass(&mut rig, 60_000, &first);
    assert_eq!(rig.cancelled(), vec![first.clone()]);
    rig.result(&peer("a", 1), &first, Outcome::Cancelled);
    let row = rig.row(1);
    assert_eq!(
        (row.state(), row.standing.failures, row.standing.spent, rig.acks()),
        (Queued, 0, 0, vec![false])
    );
    assert!(rig.kept.is_empty(), "and its board is not suspected");
    assert_eq!(
        rig.scheduler.next_wakeup().map(|at| at.0 <= 63_000),
        Some(true),
        "only silence is waited for"
    );
}

#[test]
fn a_drain_outlives_sessions_and_restarts_and_needs_no_worker() {
    let mut rig = Rig::new();
    drain(&mut rig, "a", true);
    rig.submit([1]);
    rig.up("a", 1, &["a/0"]);
    assert_eq!(rig.state(1), Queued);
    rig.restart();
    rig.up("a", 2, &["a/0"]);
    assert_eq!((rig.state(1), rig.scheduler.workers().next().unwrap().draining), (Queued, true));
    drain(&mut rig, "a", false);
    assert_eq!(rig.state(1), Leased);
    drain(&mut rig, "a", false);
    assert!(rig.fx.is_empty(), "nothing changes");
}

#[test]
fn a_worker_that_is_about_to_stop_says_so_itself_for_as_long_as_it_lives() {
    let (mut rig, [first, second]) = busy();
    let beat = |held, draining| Frame::Heartbeat {
        boards: [board("a/0", false)].into(),
        held,
        last_command: edgeprof_scheduler::Command(9),
        draining,
    };
    let all = vec![held(&first, HeldState::Running), held(&second, HeldState::Staged)];
    rig.frame(&peer("a", 1), beat(all, true));
    assert_eq!(rig.recalled(), vec![second.clone()]);
    assert!(!rig.fx.writes.iter().any(|write| matches!(write, Write::PutDrained { .. })));
    rig.reject(&peer("a", 1), &second, RejectReason::Draining);
    rig.reject(&peer("a", 1), &first, RejectReason::Draining);
    assert_eq!([1, 2].map(|n| (rig.state(n), rig.row(n).standing.spent)), [(Queued, 0), (Queued, 0)]);
    rig.hello("a", 2, 2, &["a/0"], vec![]);
    assert_eq!(rig.state(1), Leased);
}

#[test]
fn a_recall_is_repeated_after_a_broken_session() {
    let (mut rig, [first, second]) = busy();
    drain(&mut rig, "a", true);
    let all = vec![held(&first, HeldState::Running), held(&second, HeldState::Staged)];
    rig.hello("a", 2, 1, &["a/0"], all);
    assert_eq!(rig.recalled(), vec![second]);
}

#[test]
fn a_quarantined_board_ends_what_runs_gives_back_what_waits_and_gets_nothing() {
    let (mut rig, [first, second]) = busy();
    mark(&mut rig, "a/0", quarantined());
    assert_eq!((rig.recalled(), health(&rig)), (vec![second.clone()], BoardHealth::Bad));
    rig.reject(&peer("a", 1), &second, RejectReason::Recalled);
    rig.result(&peer("a", 1), &first, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.state(2), rig.canary()), (Succeeded, Queued, None));
    rig.restart();
    rig.up("a", 2, &["a/0"]);
    assert_eq!((rig.state(2), health(&rig)), (Queued, BoardHealth::Bad));
}

#[test]
fn a_board_that_is_taken_back_from_quarantine_runs_its_canary_first() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    mark(&mut rig, "a/0", quarantined());
    rig.submit([1]);
    mark(&mut rig, "a/0", None);
    let canary = rig.canary().unwrap();
    assert_eq!(rig.state(1), Queued);
    rig.result(&peer("a", 1), &canary, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.kept.len(), health(&rig)), (Leased, 0, BoardHealth::Good));
}

#[test]
fn a_reservation_ends_by_itself_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    mark(&mut rig, "a/0", reserved(10));
    rig.submit([1]);
    assert_eq!((rig.state(1), health(&rig)), (Queued, BoardHealth::Maintenance));
    rig.tick_at(2000);
    rig.restart();
    rig.up("a", 2, &["a/0"]);
    rig.tick_at(4000);
    rig.frame(&peer("a", 2), Frame::Heard);
    rig.tick_at(6000);
    rig.frame(&peer("a", 2), Frame::Heard);
    rig.tick_at(8000);
    rig.frame(&peer("a", 2), Frame::Heard);
    rig.now = 9999;
    rig.frame(&peer("a", 2), Frame::Heard);
    assert_eq!(rig.state(1), Queued);
    rig.tick_at(10_000);
    assert_eq!((rig.state(1), rig.kept.len()), (Leased, 0));
}

#[test]
fn a_reservation_of_a_quarantined_board_does_not_whitewash_it() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    mark(&mut rig, "a/0", quarantined());
    mark(&mut rig, "a/0", reserved(1));
    rig.submit([1]);
    rig.tick_at(1000);
    assert!(rig.canary().is_some());
    assert_eq!(rig.state(1), Queued);
}

#[test]
fn a_mark_of_an_unknown_board_is_ignored_and_one_of_a_board_that_is_away_is_kept() {
    let mut rig = Rig::new();
    mark(&mut rig, "a/0", quarantined());
    assert!(rig.fx.is_empty());
    rig.up("a", 1, &["a/0"]);
    mark(&mut rig, "a/0", quarantined());
    assert!(
        rig.fx
            .notices
            .iter()
            .any(|notice| { matches!(notice, Notice::Board { health: Some(BoardHealth::Bad), .. }) })
    );
    rig.restart();
    mark(&mut rig, "a/0", None);
    rig.up("a", 2, &["a/0"]);
    assert!(rig.canary().is_some(), "it was taken back while it was away");
}

#[test]
fn a_failure_on_a_reserved_board_is_looked_into_after_the_reservation() {
    let mut rig = Rig::with(Config { backoff: Duration::from_secs(100), ..Config::default() });
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    mark(&mut rig, "a/0", reserved(1));
    rig.result(&peer("a", 1), &rig.lease(1), lab_fault());
    assert_eq!(rig.canary(), None);
    rig.tick_at(1000);
    assert!(rig.canary().is_some());
    assert_eq!(rig.row(1).id, task(1));
}

#[test]
fn a_reservation_is_made_anew_by_the_same_words_and_by_nothing_else() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    let lease = rig.lease(1);
    let left = |rig: &Rig| match rig.kept.values().next().and_then(|row| row.mark.clone()) {
        Some(Mark::Reserved { left, .. }) => left.as_secs(),
        other => panic!("{other:?}"),
    };
    mark(&mut rig, "a/0", reserved(3600));
    rig.now += 600_000;
    rig.result(&peer("a", 1), &lease, lab_fault());
    assert!(rig.kept.values().any(|row| row.suspicion.is_some()), "the board is suspected meanwhile");
    assert_eq!(left(&rig), 3000, "what is written is what is left");
    mark(&mut rig, "a/0", reserved(3600));
    assert_eq!(left(&rig), 3600);
    rig.tick_at(3_600_001);
    assert_eq!(health(&rig), BoardHealth::Maintenance, "the first end is no end any more");
    rig.tick_at(4_200_001);
    assert_ne!(health(&rig), BoardHealth::Maintenance);
}
