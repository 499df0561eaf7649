//! The queue's order: classes, submitters by their weights, ageing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edgeprof_common::{Priority, TaskState};
use edgeprof_scheduler::{Config, Event, Frame, Image, NewTask, Outcome, Requirement};

use super::rig::{Rig, image, new_task, peer, task};
use TaskState::{Leased, Queued};

fn of(submitter: &str, n: u128) -> NewTask {
    NewTask { submitter: submitter.into(), ..new_task(n) }
}

fn submit(rig: &mut Rig, tasks: Vec<NewTask>) {
    rig.event(Event::Submitted { tasks });
}

/// Runs everything on the one board; ann's tasks take `ann` ms and bob's `bob`. Gives the time of each in the first
/// minute.
fn minute(rig: &mut Rig, run: BTreeMap<&str, u64>) -> BTreeMap<String, u64> {
    let mut time = BTreeMap::new();
    while rig.now < 60_000 {
        let leased =
            (1..2000).find(|n| rig.scheduler.task(task(*n)).is_some_and(|t| t.row.lease().is_some()));
        let n = leased.expect("work for the whole minute");
        let who = rig.row(n).submitter.clone();
        let ms = run[who.as_str()];
        rig.work(&peer("a", 1), n, ms);
        *time.entry(who).or_default() += ms;
    }
    time
}

/// Ann and bob with 600 tasks each, of images of their own.
fn ann_and_bob(weights: &[(&str, u32)]) -> Rig {
    let weights = weights.iter().map(|(who, weight)| ((*who).to_owned(), *weight)).collect();
    let mut rig = Rig::with(Config { weights, ..Config::default() });
    for (who, first) in [("ann", 1), ("bob", 601)] {
        let image = Image { digest: edgeprof_common::Digest::of(who.as_bytes()), ..image() };
        let task = |n| NewTask { image: Some(image.clone()), ..of(who, n) };
        submit(&mut rig, (first..first + 600).map(task).collect());
    }
    rig.up("a", 1, &["a/0"]);
    rig
}

#[test]
fn submitters_share_a_board_by_its_time_not_by_tasks() {
    let time = minute(&mut ann_and_bob(&[]), BTreeMap::from([("ann", 100), ("bob", 500)]));
    assert!(time["ann"].abs_diff(time["bob"]) <= 1500, "{time:?}");
}

#[test]
fn a_submitter_of_three_times_the_weight_gets_three_times_the_time() {
    let time = minute(&mut ann_and_bob(&[("bob", 3)]), BTreeMap::from([("ann", 100), ("bob", 500)]));
    assert!((3 * time["ann"]).abs_diff(time["bob"]) <= 3000, "{time:?}");
}

#[test]
fn a_late_submitter_waits_for_one_task_and_not_for_the_whole_queue() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    submit(&mut rig, (1..=50).map(|n| of("ann", n)).collect());
    rig.work(&peer("a", 1), 1, 100);
    submit(&mut rig, vec![of("bob", 100)]);
    assert_eq!((rig.state(2), rig.scheduler.position(task(100))), (Leased, Some(1)));
    rig.work(&peer("a", 1), 2, 100);
    assert_eq!(rig.state(100), Leased);
}

#[test]
fn what_is_rejected_is_not_charged_to_its_submitter() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    submit(&mut rig, vec![of("ann", 1), of("ann", 2), of("bob", 3), of("bob", 4)]);
    for _ in 0..5 {
        rig.reject(&peer("a", 1), &rig.lease(1), edgeprof_scheduler::RejectReason::Busy);
        rig.frame(&peer("a", 1), Frame::Board(super::rig::board("a/0", true)));
        assert_eq!(rig.state(1), Leased, "bob does not get ann's turn");
    }
}

#[test]
fn within_a_submitter_what_lost_an_attempt_goes_first_then_the_order_of_submission() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([5, 4, 3]);
    rig.frame(&peer("a", 1), Frame::Started(rig.lease(5)));
    rig.fall_silent("a", 1);
    assert_eq!([5, 4, 3].map(|n| rig.scheduler.position(task(n)).unwrap()), [1, 2, 3]);
    rig.submit([2]);
    rig.up("b", 2, &["b/0"]);
    for n in [5, 4, 3, 2] {
        assert_eq!(rig.state(n), Leased, "task {n}");
        rig.result(&peer("b", 2), &rig.lease(n), Outcome::Succeeded);
    }
}

fn ageing() -> Rig {
    let mut rig = Rig::with(Config { ageing: Duration::from_secs(10), ..Config::default() });
    let class = |n, priority| NewTask { priority, ..new_task(n) };
    submit(&mut rig, vec![class(1, Priority::Low)]);
    rig.tick_at(5000);
    submit(&mut rig, vec![class(2, Priority::Normal), class(3, Priority::High)]);
    rig
}

#[test]
fn a_task_that_waits_long_moves_up_one_class_after_the_other() {
    let mut rig = ageing();
    let order = |rig: &Rig| [1, 2, 3].map(|n| rig.scheduler.position(task(n)).unwrap());
    assert_eq!(order(&rig), [3, 2, 1]);
    assert_eq!(rig.scheduler.next_wakeup().unwrap().0, 10_000);
    // Low becomes normal: it came before the other normal one.
    rig.tick_at(10_000);
    assert_eq!(order(&rig), [2, 3, 1]);
    // Normal becomes high, high becomes critical.
    rig.tick_at(15_000);
    assert_eq!(order(&rig), [3, 2, 1]);
    // Both are high.
    rig.tick_at(20_000);
    assert_eq!(order(&rig), [2, 3, 1]);
    for now in [25_000, 30_000] {
        rig.tick_at(now);
    }
    assert_eq!(order(&rig), [1, 2, 3], "all are critical");
    assert_eq!(rig.scheduler.next_wakeup(), None);
    rig.up("a", 1, &["a/0"]);
    assert_eq!(rig.state(1), Leased);
}

#[test]
fn what_moved_up_stays_up_when_it_is_turned_away() {
    let mut rig = ageing();
    for now in [10_000, 15_000, 20_000, 25_000, 30_000] {
        rig.tick_at(now);
    }
    rig.up("a", 1, &["a/0"]);
    rig.reject(&peer("a", 1), &rig.lease(1), edgeprof_scheduler::RejectReason::Busy);
    assert_eq!(rig.scheduler.position(task(1)), Some(1));
}

#[test]
fn many_that_age_at_once_move_some_at_a_time() {
    let mut rig = Rig::with(Config { ageing: Duration::from_secs(10), ..Config::default() });
    rig.submit(1..=600);
    submit(&mut rig, vec![NewTask { priority: Priority::High, ..new_task(601) }]);
    rig.tick_at(9999);
    submit(&mut rig, vec![NewTask { priority: Priority::High, ..new_task(602) }]);
    let last = |rig: &Rig| rig.scheduler.position(task(602)).unwrap();
    let mut seen = vec![last(&rig)];
    for now in 10_000..10_004 {
        rig.tick_at(now);
        seen.push(last(&rig));
    }
    assert_eq!(seen, [2, 257, 513, 602, 602]);
}

#[test]
fn a_lane_that_finds_no_board_lets_the_others_of_its_submitter_by() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    let elsewhere = |n| NewTask { requirement: Requirement::kind("riscv"), ..new_task(n) };
    submit(&mut rig, vec![elsewhere(1), elsewhere(2), new_task(3)]);
    assert_eq!([1, 2, 3].map(|n| rig.state(n)), [Queued, Queued, Leased]);
    let named =
        |n, board: &str| NewTask { requirement: Requirement::board(board.parse().unwrap()), ..new_task(n) };
    submit(&mut rig, vec![named(4, "a/7"), named(5, "a/0")]);
    rig.result(&peer("a", 1), &rig.lease(3), Outcome::Succeeded);
    assert_eq!([4, 5].map(|n| rig.state(n)), [Queued, Leased]);
    // Boards that come later get what waited for them.
    let mut riscv = super::rig::board("a/1", true);
    riscv.kind = "riscv".into();
    rig.frame(&peer("a", 1), Frame::Board(riscv));
    rig.frame(&peer("a", 1), Frame::Board(super::rig::board("a/7", true)));
    assert_eq!([1, 2, 4].map(|n| rig.state(n)), [Leased, Queued, Leased]);
}

#[test]
fn a_board_that_becomes_another_kind_gets_other_tasks() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    submit(&mut rig, vec![NewTask { requirement: Requirement::label("rack", "3"), ..new_task(1) }]);
    assert_eq!(rig.state(1), Queued);
    let mut report = super::rig::board("a/0", true);
    report.labels = Arc::new(BTreeMap::from([("rack".into(), "3".into())]));
    rig.frame(&peer("a", 1), Frame::Board(report));
    assert_eq!(rig.state(1), Leased);
}
