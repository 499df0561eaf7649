//! Silence, proofs of death, and the guards against believing them too early.

use std::time::Duration;

use edgeprof_common::{BoardHealth, TaskState, WorkerHealth};
use edgeprof_scheduler::{Config, Event, Frame, HeldState, NewTask, Notice, Outcome};

use super::rig::{Rig, board, held, new_task, peer, task, worker};
use TaskState::{Leased, Queued};

fn health(rig: &Rig, name: &str) -> WorkerHealth {
    rig.scheduler.workers().find(|known| *known.id == worker(name)).unwrap().health
}

/// Workers `a`, `b`, `c` with a board each, and a running task on each.
fn three() -> Rig {
    let mut rig = Rig::new();
    for (n, (name, board)) in [("a", "a/0"), ("b", "b/0"), ("c", "c/0")].into_iter().enumerate() {
        rig.up(name, n as u64 + 1, &[board]);
    }
    rig.submit([1, 2, 3]);
    for (n, name) in [(1, "a"), (2, "b"), (3, "c")] {
        rig.frame(&peer(name, n), Frame::Started(rig.lease(u128::from(n))));
    }
    rig
}

#[test]
fn a_silent_worker_is_suspect_at_three_seconds_and_dead_by_the_detector() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    for (now, expected) in [
        (2999, WorkerHealth::Alive),
        (3000, WorkerHealth::Suspect),
        (5121, WorkerHealth::Suspect),
        (5122, WorkerHealth::Dead),
    ] {
        rig.tick_at(now);
        assert_eq!(health(&rig, "a"), expected, "at {now}");
    }
    assert_eq!(rig.closes(), 1);
    assert_eq!(rig.scheduler.next_wakeup(), None);
}

#[test]
fn a_suspect_worker_gets_no_work_and_any_frame_clears_it() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.tick_at(3000);
    rig.submit([1]);
    assert_eq!(rig.state(1), Queued);
    rig.frame(&peer("a", 1), Frame::Heard);
    assert_eq!((rig.state(1), health(&rig, "a")), (Leased, WorkerHealth::Alive));
}

#[test]
fn a_broken_stream_makes_suspect_at_once_and_two_refused_dials_a_second_apart_kill() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.frame(&peer("a", 1), Frame::Started(rig.lease(1)));
    rig.event(Event::DialRefused { worker: worker("a") });
    rig.event(Event::SessionLost { peer: peer("a", 1) });
    assert_eq!(health(&rig, "a"), WorkerHealth::Suspect);
    for (now, expected, deaths) in
        [(100, WorkerHealth::Suspect, 0), (1099, WorkerHealth::Suspect, 0), (1100, WorkerHealth::Dead, 1)]
    {
        rig.now = now;
        rig.event(Event::DialRefused { worker: worker("a") });
        assert_eq!((health(&rig, "a"), rig.row(1).standing.deaths), (expected, deaths), "at {now}");
    }
    assert_eq!(rig.state(1), Queued);
}

#[test]
fn a_lost_session_that_was_replaced_means_nothing() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.up("a", 2, &["a/0"]);
    assert_eq!(rig.closes(), 1);
    rig.event(Event::SessionLost { peer: peer("a", 1) });
    assert_eq!(health(&rig, "a"), WorkerHealth::Alive);
    rig.frame(&peer("a", 1), Frame::Board(board("a/0", false)));
    rig.submit([1]);
    assert_eq!(rig.state(1), Leased, "a frame of the old session does not count");
}

#[test]
fn a_result_counts_whatever_session_brings_it() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    let lease = rig.lease(1);
    rig.hello("a", 2, 1, &["a/0"], vec![held(&lease, HeldState::Outbox)]);
    rig.result(&peer("a", 1), &lease, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.acks()), (TaskState::Succeeded, vec![false]));
}

#[test]
fn a_new_incarnation_proves_the_process_gone() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.frame(&peer("a", 1), Frame::Started(rig.lease(1)));
    rig.hello("a", 2, 2, &["a/0"], vec![]);
    assert_eq!((rig.row(1).standing.deaths, rig.row(1).standing.spent), (1, 1));
}

#[test]
fn a_stall_of_the_callers_loop_kills_nobody() {
    let mut rig = three();
    rig.now = 20_000;
    rig.event(Event::LoopStalled { by: Duration::from_secs(19) });
    assert_eq!(health(&rig, "a"), WorkerHealth::Alive);
    assert_eq!(rig.scheduler.next_wakeup().unwrap().0, 22_000);
    rig.tick_at(22_000);
    assert_eq!(health(&rig, "a"), WorkerHealth::Suspect);
}

#[test]
fn when_most_of_three_go_silent_together_none_is_given_up_for_fifteen_seconds() {
    let mut rig = three();
    for now in 1..=17 {
        rig.now = now * 1000;
        rig.frame(&peer("c", 3), Frame::Heard);
        assert_eq!((rig.state(1), rig.state(2)), (Leased, Leased), "at {now} s");
    }
    rig.now = 18_000;
    rig.frame(&peer("c", 3), Frame::Heard);
    assert_eq!((rig.state(1), rig.state(2)), (Queued, Queued));
    assert_eq!(health(&rig, "c"), WorkerHealth::Alive);
}

#[test]
fn a_proof_passes_the_hold_and_an_end_of_the_silence_lifts_it() {
    let mut rig = three();
    for name in [("a", 1), ("b", 2)] {
        rig.event(Event::SessionLost { peer: peer(name.0, name.1) });
    }
    rig.tick_at(2000);
    rig.frame(&peer("c", 3), Frame::Heard);
    rig.event(Event::DialRefused { worker: worker("a") });
    rig.now = 3000;
    rig.event(Event::DialRefused { worker: worker("a") });
    assert_eq!((health(&rig, "a"), health(&rig, "b")), (WorkerHealth::Dead, WorkerHealth::Suspect));
    rig.frame(&peer("c", 3), Frame::Heard);
    rig.tick_at(5200);
    assert_eq!(health(&rig, "b"), WorkerHealth::Dead, "one of two is no majority of three");
}

#[test]
fn two_machines_that_claim_one_id_get_no_work_until_the_dispute_is_over() {
    let mut rig = Rig::new();
    for (session, life) in [(1, 1), (2, 2), (3, 1)] {
        rig.hello("a", session, life, &["a/0"], vec![]);
    }
    assert!(rig.fx.notices.iter().any(|notice| matches!(notice, Notice::Contested { .. })));
    rig.submit([1]);
    assert_eq!(rig.state(1), Queued);
    for n in 1..30 {
        rig.now = n * 1000;
        rig.beat(&peer("a", 3), &["a/0"], vec![], 0);
        assert_eq!(rig.state(1), Queued);
    }
    rig.now = 30_000;
    rig.beat(&peer("a", 3), &["a/0"], vec![], 0);
    assert_eq!(rig.state(1), Leased);
}

#[test]
fn what_a_worker_should_not_run_is_told_to_stop_every_five_seconds() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    let mut stranger = rig.lease(1);
    rig.result(&peer("a", 1), &stranger, Outcome::Succeeded);
    stranger.task = task(77);
    for n in 1..=6 {
        rig.now = n * 1000;
        rig.beat(&peer("a", 1), &["a/0"], vec![held(&stranger, HeldState::Running)], 9);
        assert_eq!(rig.cancelled().len(), usize::from(n == 1 || n == 6), "at {n} s");
    }
    let beat = |held| Frame::Heartbeat {
        boards: [board("a/0", true)].into(),
        held,
        last_command: edgeprof_scheduler::Command(9),
        draining: false,
    };
    rig.frame(&peer("a", 1), beat(vec![held(&stranger, HeldState::Running)]));
    rig.submit([2]);
    assert_eq!(rig.state(2), Queued, "what is held occupies its board, even one that is called idle");
    rig.frame(&peer("a", 1), beat(vec![held(&stranger, HeldState::Outbox)]));
    assert_eq!(rig.state(2), Leased, "what waits in the outbox does not");
}

#[test]
fn a_lost_attempt_that_returns_may_finish_but_not_hold_its_board_for_ever() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    let lease = rig.lease(1);
    rig.frame(&peer("a", 1), Frame::Started(lease.clone()));
    rig.tick_at(6000);
    assert_eq!(rig.state(1), Queued);
    rig.hello("a", 2, 1, &["a/0"], vec![held(&lease, HeldState::Running)]);
    assert!(rig.cancelled().is_empty());
    let end = rig.now + 600_000;
    while rig.now < end {
        assert!(rig.cancelled().is_empty());
        rig.now += 1000;
        rig.beat(&peer("a", 2), &["a/0"], vec![held(&lease, HeldState::Running)], 9);
    }
    assert_eq!(rig.cancelled(), vec![lease]);
}

#[test]
fn only_good_idle_boards_of_the_worker_itself_get_work() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["b/0"]);
    rig.submit([1]);
    assert_eq!((rig.state(1), rig.scheduler.boards().count()), (Queued, 0));
    for health in [BoardHealth::Unknown, BoardHealth::Bad, BoardHealth::Maintenance] {
        let mut report = board("a/0", true);
        report.health = health;
        rig.frame(&peer("a", 1), Frame::Board(report));
        assert_eq!(rig.state(1), Queued, "{health}");
    }
    rig.frame(&peer("a", 1), Frame::Board(board("a/0", false)));
    assert_eq!(rig.state(1), Queued);
    rig.frame(&peer("a", 1), Frame::Board(board("a/0", true)));
    assert_eq!(rig.state(1), Leased);
}

#[test]
fn the_queue_is_first_come_first_served_within_a_class() {
    let mut rig = Rig::new();
    let class = |n, priority| NewTask { priority, ..new_task(n) };
    use edgeprof_common::Priority::{Critical, High, Low, Normal};
    let tasks = [(5, Low), (4, Normal), (3, Normal), (2, High), (1, Critical)];
    rig.event(Event::Submitted { tasks: tasks.map(|(n, priority)| class(n, priority)).to_vec() });
    assert_eq!([1, 2, 4, 3, 5].map(|n| rig.scheduler.position(task(n)).unwrap()), [1, 2, 3, 4, 5]);
    rig.up("a", 1, &["a/0"]);
    for n in [1, 2, 4, 3, 5] {
        assert_eq!(rig.state(n), Leased, "task {n}");
        rig.result(&peer("a", 1), &rig.lease(n), Outcome::Succeeded);
    }
}

#[test]
fn an_unprepared_task_waits_for_its_image_and_lets_others_by() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    let raw = NewTask { image: None, ..new_task(1) };
    rig.event(Event::Submitted { tasks: vec![raw.clone(), NewTask { id: task(3), ..raw }, new_task(2)] });
    assert_eq!((rig.state(1), rig.state(2)), (Queued, Leased));
    rig.result(&peer("a", 1), &rig.lease(2), Outcome::Succeeded);
    rig.event(Event::Ready { tasks: vec![task(1)], image: super::rig::image() });
    assert_eq!(rig.state(1), Leased);
    let error = edgeprof_common::TaskError::new(edgeprof_common::ErrorClass::Model, "bad_file", "no");
    rig.event(Event::PrepareFailed { task: task(3), error });
    assert_eq!((rig.state(3), rig.verdicts().len()), (TaskState::Failed, 1));
}

#[test]
fn a_full_queue_says_when_to_try_again() {
    let mut rig = Rig::with(Config { max_queued_tasks: 3, ..Config::default() });
    rig.submit([1, 2]);
    assert_eq!(rig.scheduler.admits(1), Ok(()));
    let full = rig.scheduler.admits(2).unwrap_err();
    assert_eq!((full.queued, full.limit, full.retry_after), (2, 3, Duration::from_secs(10)));
    rig.up("a", 1, &["a/0"]);
    assert_eq!(rig.scheduler.admits(2), Ok(()));
}

#[test]
fn a_retry_prefers_a_board_that_it_has_not_failed_on() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0", "a/1"]);
    rig.submit([1]);
    assert_eq!(rig.lease(1).board.as_str(), "a/0");
    rig.result(&peer("a", 1), &rig.lease(1), super::rig::lab_fault());
    rig.tick_at(1000);
    assert_eq!(rig.lease(1).board.as_str(), "a/1");
}
