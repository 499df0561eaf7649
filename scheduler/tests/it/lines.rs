//! Several attempts on a board: the first is in work, the rest wait, and come back when that is better.

use edgeprof_common::{BoardHealth, TaskState};
use edgeprof_scheduler::{
    AttemptPhase, BoardReport, Config, Event, Frame, HeldState, Outcome, RejectReason, Write,
};

use super::rig::{Rig, board, held, new_task, peer, task};
use TaskState::{Leased, Queued, Succeeded};

/// Worker `a` with one board that takes `queue` attempts behind the one in work.
fn one(queue: u32) -> Rig {
    let mut rig = Rig::new();
    rig.up_with("a", 1, queue, &["a/0"]);
    rig
}

/// The board's line, first in line first, as far as tasks 1 to 9 are in it.
fn line(rig: &Rig) -> Vec<u128> {
    let leased = |n: &u128| rig.scheduler.task(task(*n)).is_some_and(|task| task.row.lease().is_some());
    let mut line: Vec<u128> = (1..10).filter(leased).collect();
    line.sort_by_key(|n| rig.lease(*n).token);
    line
}

#[test]
fn a_board_takes_one_attempt_behind_the_one_in_work_and_none_if_it_has_no_room() {
    let mut rig = one(0);
    rig.submit([1, 2, 3]);
    assert_eq!(line(&rig), [1]);
    let mut rig = one(9);
    rig.submit([1, 2, 3]);
    assert_eq!(line(&rig), [1, 2]);
    let view = rig.scheduler.boards().next().unwrap();
    assert_eq!((view.occupant.unwrap().task, view.waiting), (task(1), 1));
}

#[test]
fn a_result_lets_the_next_begin_and_another_wait_in_one_commit() {
    let mut rig = one(9);
    rig.submit([1, 2, 3]);
    rig.start(&peer("a", 1), 1);
    rig.result(&peer("a", 1), &rig.lease(1), Outcome::Succeeded);
    assert_eq!((rig.state(1), line(&rig)), (Succeeded, vec![2, 3]));
    assert_eq!(rig.put(), vec![task(1), task(3)]);
}

#[test]
fn as_many_wait_as_end_while_one_is_on_its_way() {
    let mut rig = one(9);
    rig.submit([1, 2, 3, 4, 5, 6, 7, 8]);
    // 40 ms from lease to acceptance, runs of 10 ms.
    rig.now += 40;
    rig.start(&peer("a", 1), 1);
    rig.now += 10;
    rig.result(&peer("a", 1), &rig.lease(1), Outcome::Succeeded);
    assert_eq!(line(&rig).len(), 1 + 4);
    let mut rig = Rig::with(Config { max_prefetch: 2, ..Config::default() });
    rig.up_with("a", 1, 9, &["a/0"]);
    rig.submit([1, 2, 3, 4, 5, 6, 7, 8]);
    rig.now += 40;
    rig.start(&peer("a", 1), 1);
    rig.now += 10;
    rig.result(&peer("a", 1), &rig.lease(1), Outcome::Succeeded);
    assert_eq!(line(&rig).len(), 1 + 2);
}

#[test]
fn nothing_waits_behind_another_while_an_able_board_is_idle() {
    let mut rig = Rig::new();
    rig.up_with("a", 1, 9, &["a/0", "a/1", "a/2"]);
    rig.submit([1, 2]);
    rig.submit([3]);
    let boards: Vec<_> = [1, 2, 3].map(|n| rig.lease(n).board.to_string()).into();
    assert_eq!(boards, ["a/0", "a/1", "a/2"]);
}

#[test]
fn the_death_of_a_worker_charges_what_had_started_and_nothing_that_waited() {
    let mut rig = one(9);
    rig.submit([1, 2]);
    rig.start(&peer("a", 1), 1);
    rig.frame(&peer("a", 1), Frame::Accepted(rig.lease(2)));
    rig.hello("a", 2, 2, &["a/0"], vec![]);
    assert_eq!((rig.row(1).standing.spent, rig.row(1).standing.deaths), (1, 1));
    assert_eq!((rig.row(2).standing.spent, rig.row(2).standing.deaths), (0, 0));
    let mut rig = one(9);
    rig.submit([1, 2]);
    rig.start(&peer("a", 1), 1);
    rig.frame(&peer("a", 1), Frame::Accepted(rig.lease(2)));
    rig.tick_at(3000);
    rig.tick_at(7000);
    assert_eq!((rig.row(1).standing.spent, rig.row(2).standing.spent), (1, 0));
    assert!(rig.row(1).standing.front && rig.row(2).standing.front);
}

#[test]
fn a_task_that_must_be_alone_has_nothing_behind_it() {
    let mut rig = one(9);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    rig.hello("a", 2, 2, &[], vec![]);
    let report = BoardReport { queue: 9, ..board("a/0", true) };
    rig.frame(&peer("a", 2), Frame::Board(report));
    rig.submit([2]);
    assert_eq!((rig.row(1).standing.deaths, line(&rig)), (1, vec![1]));
}

#[test]
fn nothing_is_put_behind_what_nobody_here_has_given() {
    let mut rig = one(9);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    let ours = held(&rig.lease(1), HeldState::Running);
    let mut unknown = rig.lease(1);
    (unknown.task, unknown.token.counter) = (task(77), 0);
    let unknown = held(&unknown, HeldState::Staged);
    let beat = |held| Frame::Heartbeat {
        boards: [BoardReport { queue: 9, ..board("a/0", false) }].into(),
        held,
        last_command: edgeprof_scheduler::Command(9),
        draining: false,
    };
    rig.frame(&peer("a", 1), beat(vec![ours.clone(), unknown]));
    rig.submit([2]);
    assert_eq!(line(&rig), [1], "when that ends, nobody knows");
    rig.frame(&peer("a", 1), beat(vec![ours]));
    assert_eq!(line(&rig), [1, 2]);
}

#[test]
fn the_deadline_of_what_waits_counts_from_when_it_is_in_work() {
    let mut rig = one(9);
    rig.submit([1, 2]);
    rig.start(&peer("a", 1), 1);
    rig.frame(&peer("a", 1), Frame::Accepted(rig.lease(2)));
    let leases = [rig.lease(1), rig.lease(2)];
    let beat = |rig: &mut Rig, to: u64, first: usize| {
        while rig.now < to {
            rig.now += 1000;
            let states = [HeldState::Running, HeldState::Staged];
            let all = leases[first..].iter().zip(states).map(|(lease, state)| held(lease, state)).collect();
            let boards = [BoardReport { queue: 9, ..board("a/0", false) }].into();
            let last_command = edgeprof_scheduler::Command(9);
            rig.frame(&peer("a", 1), Frame::Heartbeat { boards, held: all, last_command, draining: false });
        }
    };
    beat(&mut rig, 500_000, 0);
    rig.result(&peer("a", 1), &leases[0], Outcome::Succeeded);
    beat(&mut rig, 1_099_000, 1);
    assert!(rig.cancelled().is_empty());
    beat(&mut rig, 1_100_000, 1);
    assert_eq!(rig.cancelled(), vec![leases[1].clone()]);
}

#[test]
fn a_full_line_is_left_alone_until_the_board_is_heard_of_again() {
    let mut rig = one(9);
    rig.submit([1, 2, 3]);
    rig.reject(&peer("a", 1), &rig.lease(2), RejectReason::Busy);
    assert_eq!((line(&rig), rig.row(2).standing.spent), (vec![1], 0));
    rig.frame(&peer("a", 1), Frame::Board(BoardReport { queue: 9, ..board("a/0", false) }));
    assert_eq!(line(&rig), [1, 2]);
}

#[test]
fn what_is_reported_held_keeps_its_place() {
    let mut rig = one(9);
    rig.submit([1, 2, 3]);
    let (first, second) = (rig.lease(1), rig.lease(2));
    let all = vec![held(&first, HeldState::Running), held(&second, HeldState::Staged)];
    rig.restart();
    rig.hello("a", 2, 1, &["a/0"], all);
    assert_eq!((rig.lease(1), rig.lease(2), rig.state(3)), (first.clone(), second, Queued));
    rig.result(&peer("a", 2), &first, Outcome::Succeeded);
    assert_eq!(line(&rig)[0], 2);
}

/// Boards `a/0` and `b/0`, both busy, with task 3 behind task 1 on `a/0` and task 4 behind task 2 on `b/0`.
fn two_lines() -> Rig {
    let mut rig = Rig::new();
    rig.up_with("a", 1, 9, &["a/0"]);
    rig.up_with("b", 2, 9, &["b/0"]);
    rig.submit([1, 2, 3]);
    rig.submit_apart(4);
    for (name, session, n) in [("a", 1, 1), ("b", 2, 2)] {
        rig.start(&peer(name, session), n);
    }
    assert_eq!([1, 2, 3, 4].map(|n| rig.lease(n).board.to_string()), ["a/0", "b/0", "a/0", "b/0"]);
    rig
}

#[test]
fn an_idle_board_asks_for_what_waits_elsewhere_and_gets_it_uncharged() {
    let mut rig = two_lines();
    rig.cancel(4);
    rig.result(&peer("b", 2), &rig.lease(2), Outcome::Succeeded);
    let waiting = rig.lease(3);
    assert!(rig.recalled().is_empty(), "task 4 may still be there");
    let cancelled = rig.row(4).standing.past[0].token;
    let lease =
        edgeprof_scheduler::LeaseRef { token: cancelled, task: task(4), board: "b/0".parse().unwrap() };
    rig.result(&peer("b", 2), &lease, Outcome::Cancelled);
    assert_eq!(rig.recalled(), vec![waiting.clone()]);
    rig.reject(&peer("a", 1), &waiting, RejectReason::Recalled);
    assert_eq!(
        (rig.lease(3).board.as_str(), rig.row(3).standing.spent, rig.row(3).standing.front),
        ("b/0", 0, false)
    );
}

/// As [`two_lines`], and `b/0` has run out of work.
fn one_line() -> Rig {
    let mut rig = two_lines();
    for n in [2, 4] {
        rig.result(&peer("b", 2), &rig.lease(n), Outcome::Succeeded);
    }
    rig
}

#[test]
fn what_starts_after_all_stays_where_it_is() {
    let mut rig = one_line();
    assert_eq!(rig.recalled(), vec![rig.lease(3)]);
    rig.result(&peer("a", 1), &rig.lease(1), Outcome::Succeeded);
    rig.frame(&peer("a", 1), Frame::Started(rig.lease(3)));
    rig.reject(&peer("a", 1), &rig.lease(3), RejectReason::Recalled);
    assert_eq!((rig.state(3), rig.lease(3).board.as_str()), (Leased, "a/0"));
}

#[test]
fn a_board_that_got_what_it_asked_for_asks_again_when_it_is_idle_again() {
    let mut rig = one_line();
    rig.reject(&peer("a", 1), &rig.lease(3), RejectReason::Recalled);
    rig.start(&peer("b", 2), 3);
    rig.submit([5, 6]);
    let on =
        |rig: &Rig, name: &str| [5, 6].into_iter().find(|n| rig.lease(*n).board.as_str() == name).unwrap();
    let (far, here) = (rig.lease(on(&rig, "a/0")), on(&rig, "b/0"));
    rig.result(&peer("b", 2), &rig.lease(3), Outcome::Succeeded);
    rig.result(&peer("b", 2), &rig.lease(here), Outcome::Succeeded);
    assert_eq!(rig.recalled(), vec![far]);
}

#[test]
fn a_recalled_attempt_that_is_gone_after_a_broken_session_costs_nothing() {
    let mut rig = one_line();
    rig.frame(&peer("a", 1), Frame::Accepted(rig.lease(3)));
    let first = rig.lease(1);
    rig.hello("a", 3, 1, &["a/0"], vec![held(&first, HeldState::Running)]);
    assert_eq!(
        (rig.row(3).standing.spent, rig.row(3).standing.past.len(), rig.lease(3).board.as_str()),
        (0, 0, "b/0")
    );
}

#[test]
fn a_task_is_recalled_once_and_not_played_with() {
    let mut rig = one_line();
    let waiting = rig.lease(3);
    // The board that asked is taken by something else before the answer is in.
    rig.submit([5]);
    assert_eq!(rig.lease(5).board.as_str(), "b/0");
    rig.reject(&peer("a", 1), &waiting, RejectReason::Recalled);
    assert_eq!(rig.state(3), Leased);
    rig.result(&peer("b", 2), &rig.lease(5), Outcome::Succeeded);
    assert!(rig.recalled().is_empty());
}

/// Boards `a/0` and `b/0` on which runs are known to take 10 s; task 3 waits behind task 1 on `a/0`.
fn known(run_left: u64) -> Rig {
    let mut rig = Rig::new();
    rig.up_with("a", 1, 9, &["a/0"]);
    rig.submit([9]);
    rig.work(&peer("a", 1), 9, 10_000);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    rig.submit([3]);
    rig.frame(&peer("a", 1), Frame::Accepted(rig.lease(3)));
    while rig.now < 20_000 - run_left {
        rig.now = (rig.now + 1000).min(20_000 - run_left);
        rig.frame(&peer("a", 1), Frame::Heard);
    }
    rig.up_with("b", 2, 9, &["b/0"]);
    rig
}

#[test]
fn a_short_wait_is_not_worth_a_recall_and_a_long_one_is() {
    assert!(known(200).recalled().is_empty());
    assert_eq!(known(300).recalled().len(), 1);
}

#[test]
fn what_was_to_start_soon_and_is_late_is_recalled() {
    let mut rig = known(200);
    rig.now += 200;
    rig.frame(&peer("a", 1), Frame::Heard);
    assert!(rig.recalled().is_empty());
    rig.tick_at(rig.scheduler.next_wakeup().unwrap().0);
    assert_eq!((rig.now, rig.recalled()), (20_250, vec![rig.lease(3)]));
}

/// `a/0`, on which runs take 1 s, and `a/1`, on which they take 4 s; both idle at 5 s.
fn fast_and_slow() -> Rig {
    let mut rig = one(9);
    rig.submit([1]);
    rig.work(&peer("a", 1), 1, 1000);
    let slow = BoardReport { kind: "m3".into(), queue: 9, ..board("a/1", true) };
    rig.frame(&peer("a", 1), Frame::Board(slow));
    rig.submit([2]);
    assert_eq!(rig.lease(2).board.as_str(), "a/1", "nobody knows yet how slow it is");
    rig.start(&peer("a", 1), 2);
    while rig.now < 5000 {
        rig.now += 1000;
        rig.frame(&peer("a", 1), Frame::Heard);
    }
    rig.result(&peer("a", 1), &rig.lease(2), Outcome::Succeeded);
    rig
}

#[test]
fn a_fast_board_that_is_free_soon_is_waited_for_instead_of_a_slow_one() {
    let mut rig = fast_and_slow();
    rig.submit([3]);
    rig.start(&peer("a", 1), 3);
    rig.submit([4, 5]);
    assert_eq!(
        [3, 4, 5].map(|n| rig.lease(n).board.to_string()),
        ["a/0", "a/0", "a/0"],
        "3 s there, 4 s on the other"
    );
    rig.submit([6]);
    assert_eq!(rig.lease(6).board.as_str(), "a/1", "4 s on either, and this one is idle");
}

#[test]
fn what_would_end_later_on_the_idle_board_is_not_recalled() {
    let mut rig = fast_and_slow();
    rig.submit([3, 4]);
    rig.start(&peer("a", 1), 3);
    let idle = BoardReport { kind: "m3".into(), queue: 8, ..board("a/1", true) };
    rig.frame(&peer("a", 1), Frame::Board(BoardReport { idle: false, ..idle.clone() }));
    rig.frame(&peer("a", 1), Frame::Board(idle));
    assert!(rig.recalled().is_empty(), "it starts there in 1 s and ends in 2 s, here in 4 s");
    let fast = BoardReport { queue: 9, ..board("a/2", true) };
    rig.frame(&peer("a", 1), Frame::Board(fast));
    assert_eq!(rig.recalled(), vec![rig.lease(4)]);
}

#[test]
fn a_board_that_is_bad_gets_nothing_behind_what_it_has() {
    let mut rig = one(9);
    rig.submit([1]);
    let bad = BoardReport { health: BoardHealth::Bad, queue: 9, ..board("a/0", false) };
    rig.frame(&peer("a", 1), Frame::Board(bad));
    rig.submit([2]);
    assert_eq!(line(&rig), [1]);
}

#[test]
fn nothing_is_learned_of_a_run_whose_end_was_told_late() {
    let mut rig = one(9);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    let lease = rig.lease(1);
    rig.event(Event::SessionLost { peer: peer("a", 1) });
    rig.now += 3000;
    rig.hello("a", 2, 1, &["a/0"], vec![held(&lease, HeldState::Outbox)]);
    rig.result(&peer("a", 2), &lease, Outcome::Succeeded);
    assert!(!rig.fx.writes.iter().any(|write| matches!(write, Write::PutEstimate(_))));
    rig.submit([2]);
    assert_eq!(rig.scheduler.eta(task(2)), None);
}

#[test]
fn progress_of_what_waits_is_no_start() {
    let mut rig = one(9);
    rig.submit([1, 2]);
    let lease = rig.lease(2);
    let frame = Frame::Progress { lease, phase: "stage".into(), done: 1, total: 2 };
    rig.frame(&peer("a", 1), frame);
    assert_eq!(rig.scheduler.task(task(2)).unwrap().attempt, Some(AttemptPhase::Staged));
}

#[test]
fn a_priority_that_comes_later_waits_only_for_what_is_on_the_board() {
    let mut rig = one(9);
    rig.submit([1, 2, 3]);
    let urgent = edgeprof_scheduler::NewTask { priority: edgeprof_common::Priority::Critical, ..new_task(4) };
    rig.event(Event::Submitted { tasks: vec![urgent] });
    rig.result(&peer("a", 1), &rig.lease(1), Outcome::Succeeded);
    assert_eq!((line(&rig), rig.state(3)), (vec![2, 4], Queued));
}
