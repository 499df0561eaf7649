//! Tasks under which a worker died: they run alone, and not for ever.

use edgeprof_common::{Priority, TaskState};
use edgeprof_scheduler::{Event, Frame, HeldState, NewTask, Outcome, RejectReason, Requirement};

use super::rig::{Rig, held, lab_fault, new_task, peer, worker};
use TaskState::{Exhausted, Leased, Queued};

/// Task 1 runs on the one board of worker `a`, session 1.
fn running() -> Rig {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    rig
}

#[test]
fn two_started_attempts_under_which_a_process_died_exhaust_a_task() {
    let mut rig = running();
    rig.hello("a", 2, 2, &["a/0", "a/1"], vec![]);
    assert_eq!((rig.state(1), rig.row(1).standing.deaths), (Leased, 1));
    // It shares its worker with no other task.
    rig.submit([2]);
    assert_eq!(rig.state(2), Queued);
    rig.frame(&peer("a", 2), Frame::Started(rig.lease(1)));
    rig.hello("a", 3, 3, &["a/0", "a/1"], vec![]);
    assert_eq!((rig.state(1), rig.state(2)), (Exhausted, Leased));
    assert_eq!(rig.row(1).standing.error.as_ref().unwrap().code, "workers_died");
}

#[test]
fn a_death_that_tasks_shared_counts_half_so_that_a_hosts_tasks_go_on_side_by_side() {
    let mut rig = Rig::new();
    let boards = ["a/0", "a/1"];
    rig.up("a", 1, &boards);
    rig.submit([1, 2]);
    let guilt = |rig: &Rig| [1, 2].map(|n| (rig.row(n).standing.guilt(), rig.row(n).standing.alone()));
    for life in 2..=3 {
        let before = peer("a", life - 1);
        rig.start(&before, 1);
        rig.start(&before, 2);
        rig.hello("a", life, life, &boards, vec![]);
        let expected = (u32::try_from(life).unwrap() - 1, life == 3);
        assert_eq!(guilt(&rig), [expected; 2]);
        assert_eq!((rig.state(1), rig.state(2)), (Leased, if life == 2 { Leased } else { Queued }));
    }
    // Both are suspects now. The guilty one dies by itself, the other never does.
    rig.start(&peer("a", 3), 1);
    rig.hello("a", 4, 4, &boards, vec![]);
    assert_eq!((rig.state(1), rig.state(2), rig.row(2).standing.guilt()), (Exhausted, Leased, 2));
}

#[test]
fn the_end_of_a_task_that_had_to_be_alone_frees_its_whole_worker() {
    let mut rig = running();
    rig.hello("a", 2, 2, &["a/0", "a/1"], vec![]);
    rig.submit_apart(2);
    let lease = rig.lease(1);
    rig.cancel(1);
    assert_eq!(rig.state(2), Queued, "it may still run");
    rig.reject(&peer("a", 2), &lease, RejectReason::Busy);
    assert_ne!(rig.lease(2).board, lease.board);
}

#[test]
fn a_task_that_must_be_alone_gets_a_worker_emptied_for_it() {
    let mut rig = running();
    rig.hello("a", 2, 2, &["a/0"], vec![]);
    rig.result(&peer("a", 2), &rig.lease(1), lab_fault());
    rig.event(Event::Drain { worker: worker("a"), on: true });
    rig.up("b", 3, &["b/0", "b/1"]);
    rig.submit([2]);
    rig.now = 1000;
    rig.frame(&peer("b", 3), Frame::Heard);
    assert_eq!((rig.state(1), rig.state(2)), (Queued, Leased), "task 1 waits for b to be empty");
    rig.submit([3]);
    assert_eq!(rig.state(3), Queued, "and nothing overtakes it there");
    rig.result(&peer("b", 3), &rig.lease(2), Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.state(3)), (Leased, Queued));
}

#[test]
fn a_cancel_of_the_task_that_kept_a_worker_from_others_gives_it_back() {
    let mut rig = running();
    rig.up("b", 9, &["b/0", "b/1"]);
    rig.submit_apart(2);
    assert_eq!(rig.lease(2).board.as_str(), "b/0");
    rig.event(Event::SessionLost { peer: peer("a", 1) });
    for now in [100, 1100] {
        rig.now = now;
        rig.event(Event::DialRefused { worker: worker("a") });
    }
    rig.submit_apart(3);
    assert_eq!((rig.row(1).standing.deaths, rig.state(1), rig.state(3)), (1, Queued, Queued));
    rig.cancel(1);
    assert_eq!(rig.state(3), Leased);
}

/// The host of a worker is there, its process is not.
fn dies(rig: &mut Rig, name: &str, session: u64) {
    rig.event(Event::SessionLost { peer: peer(name, session) });
    for _ in 0..2 {
        rig.event(Event::DialRefused { worker: worker(name) });
        rig.now += 1100;
    }
}

/// Task 1, which ran on `a` when that died, waits for `b` to be empty, where task 2 runs on `b/0`.
fn waits_for_b() -> Rig {
    let mut rig = running();
    rig.up("b", 2, &["b/0", "b/1"]);
    rig.submit([2]);
    rig.start(&peer("b", 2), 2);
    dies(&mut rig, "a", 1);
    assert_eq!(
        (rig.state(1), rig.row(1).standing.alone(), rig.lease(2).board.as_str()),
        (Queued, true, "b/0")
    );
    rig
}

#[test]
fn a_task_that_has_no_worker_to_be_alone_on_holds_up_no_other() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.up("b", 2, &["b/0"]);
    let bound =
        |n, board: &str| NewTask { requirement: Requirement::board(board.parse().unwrap()), ..new_task(n) };
    rig.event(Event::Submitted { tasks: vec![bound(1, "a/0"), bound(2, "b/0")] });
    rig.start(&peer("a", 1), 1);
    rig.start(&peer("b", 2), 2);
    dies(&mut rig, "a", 1);
    rig.hello("b", 3, 2, &["b/0"], vec![]);
    assert_eq!([1, 2].map(|n| (rig.state(n), rig.row(n).standing.alone())), [(Queued, true), (Leased, true)]);
}

#[test]
fn a_worker_that_is_kept_for_a_task_is_given_to_what_outranks_it() {
    let mut rig = waits_for_b();
    rig.event(Event::Submitted { tasks: vec![NewTask { priority: Priority::High, ..new_task(3) }] });
    assert_eq!((rig.state(1), rig.state(3)), (Queued, Leased));
    // It is kept again then.
    rig.result(&peer("b", 2), &rig.lease(3), Outcome::Succeeded);
    rig.submit([4]);
    rig.result(&peer("b", 2), &rig.lease(2), Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.state(4)), (Leased, Queued));
}

#[test]
fn what_waits_for_a_board_that_is_away_outranks_nobody() {
    let mut rig = waits_for_b();
    let away = Requirement::board("a/0".parse().unwrap());
    let high = NewTask { priority: Priority::High, requirement: away, ..new_task(3) };
    rig.event(Event::Submitted { tasks: vec![high] });
    rig.result(&peer("b", 2), &rig.lease(2), Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.state(3)), (Leased, Queued));
}

#[test]
fn a_worker_that_comes_back_with_work_is_kept_for_a_task_that_must_be_alone() {
    let mut rig = waits_for_b();
    let lease = rig.lease(2);
    rig.event(Event::SessionLost { peer: peer("b", 2) });
    rig.hello("b", 3, 1, &["b/0", "b/1"], vec![held(&lease, HeldState::Running)]);
    rig.submit([3]);
    assert_eq!([1, 2, 3].map(|n| rig.state(n)), [Queued, Leased, Queued]);
}
