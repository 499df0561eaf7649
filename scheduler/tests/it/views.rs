//! What is shown: stories, positions, and when things are likely to end.

use std::time::Duration;

use edgeprof_common::{ErrorClass, TaskError, TaskState};
use edgeprof_scheduler::{Event, Frame, HeldState, NewTask, Outcome, RejectReason, Step};

use super::rig::{Rig, held, image, lab_fault, new_task, peer, task};

/// The steps of task 1's story that the last event wrote.
fn steps(rig: &Rig) -> Vec<Step> {
    rig.stories().into_iter().filter(|(id, ..)| *id == task(1)).map(|(_, step, _)| step).collect()
}

#[test]
fn a_story_tells_each_step_with_its_reason() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.event(Event::Submitted { tasks: vec![NewTask { image: None, ..new_task(1) }] });
    assert_eq!(steps(&rig), [Step::Submitted]);
    rig.event(Event::Ready { tasks: vec![task(1)], image: image() });
    assert_eq!(
        rig.stories(),
        [(task(1), Step::Prepared, None), (task(1), Step::Offered, Some("token 1.1".into())),]
    );
    rig.frame(&peer("a", 1), Frame::Accepted(rig.lease(1)));
    assert_eq!(steps(&rig), [Step::Accepted]);
    rig.frame(&peer("a", 1), Frame::Started(rig.lease(1)));
    assert_eq!(steps(&rig), [Step::Started]);
    rig.result(&peer("a", 1), &rig.lease(1), lab_fault());
    assert_eq!(
        rig.stories(),
        [(task(1), Step::Failed, Some("no answer".into())), (task(1), Step::Backoff, Some("1 s".into())),]
    );
    let canary = rig.canary().unwrap();
    rig.result(&peer("a", 1), &canary, Outcome::Succeeded);
    assert_eq!(rig.stories(), [(task(1), Step::Judged, Some("a/0 passed its canary run".into()))]);
    rig.tick_at(1000);
    assert_eq!(steps(&rig), [Step::Offered]);
    rig.reject(&peer("a", 1), &rig.lease(1), RejectReason::Busy);
    assert_eq!(rig.stories(), [(task(1), Step::Rejected, Some("no".into()))]);
    rig.frame(&peer("a", 1), Frame::Board(super::rig::board("a/0", true)));
    rig.frame(&peer("a", 1), Frame::Started(rig.lease(1)));
    rig.fall_silent("a", 1);
    assert_eq!(steps(&rig), [Step::Lost]);
    rig.up("b", 2, &["b/0"]);
    rig.result(&peer("b", 2), &rig.lease(1), Outcome::Succeeded);
    assert_eq!(steps(&rig), [Step::Succeeded]);
}

#[test]
fn a_story_ends_with_how_the_task_ended() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    let error = TaskError::new(ErrorClass::Model, "bad_logits", "not finite");
    rig.result(&peer("a", 1), &rig.lease(1), Outcome::Failed(error));
    assert_eq!(steps(&rig), [Step::Failed, Step::Ended]);
    let mut rig = Rig::new();
    rig.submit([1]);
    rig.cancel(1);
    assert_eq!(steps(&rig), [Step::Cancelled]);
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    rig.start(&peer("a", 1), 1);
    let lease = rig.lease(1);
    for second in 1..=600 {
        rig.now = second * 1000;
        rig.beat(&peer("a", 1), &["a/0"], vec![held(&lease, HeldState::Running)], 9);
    }
    assert_eq!(steps(&rig), [Step::Overdue]);
}

#[test]
fn nothing_is_said_of_an_end_that_nobody_knows() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1, 2]);
    assert_eq!([1, 2].map(|n| rig.scheduler.eta(task(n))), [None, None]);
}

#[test]
fn an_end_is_foretold_from_runs_before() {
    let mut rig = Rig::new();
    rig.up_with("a", 1, 1, &["a/0"]);
    rig.submit([1]);
    rig.work(&peer("a", 1), 1, 1000);
    rig.submit([2, 3, 4, 5]);
    rig.start(&peer("a", 1), 2);
    rig.now += 400;
    rig.frame(&peer("a", 1), Frame::Heard);
    let eta = [2, 3, 4, 5].map(|n| rig.scheduler.eta(task(n)));
    assert_eq!(eta, [600, 1600, 3000, 4000].map(|ms| Some(Duration::from_millis(ms))));
    let view = rig.scheduler.boards().next().unwrap();
    assert_eq!((view.busy_for, view.waiting), (Some(Duration::from_millis(1600)), 1));
    rig.now += 900;
    rig.frame(&peer("a", 1), Frame::Heard);
    assert_eq!(rig.scheduler.eta(task(2)), Some(Duration::ZERO), "it is late");
    rig.fall_silent("a", 1);
    assert_eq!((rig.state(5), rig.scheduler.eta(task(5))), (TaskState::Queued, None), "there is no board");
}

#[test]
fn the_place_of_a_task_among_a_hundred_thousand_is_known() {
    let mut rig = Rig::new();
    rig.submit(1..500);
    rig.submit_apart(500);
    rig.submit(501..=100_000);
    for n in [1, 2, 1023, 1024, 1025, 77_777, 100_000] {
        assert_eq!(rig.scheduler.position(task(n)), Some(n as usize));
    }
    rig.cancel(500);
    assert_eq!([499, 501].map(|n| rig.scheduler.position(task(n))), [Some(499), Some(500)]);
}

#[test]
fn a_fresh_task_is_not_written_before_something_happens_to_it() {
    let mut rig = Rig::new();
    rig.event(Event::Submitted { tasks: vec![NewTask { image: None, ..new_task(1) }, new_task(2)] });
    assert!(rig.fx.writes.is_empty());
    rig.event(Event::Ready { tasks: vec![task(1)], image: image() });
    assert!(rig.fx.writes.is_empty());
    assert_eq!(rig.scheduler.next_seq(), 2);
    rig.restart();
    assert_eq!([1, 2].map(|n| rig.scheduler.position(task(n))), [None, Some(1)], "its image is made again");
    rig.up("a", 1, &["a/0"]);
    assert_eq!(rig.put(), vec![task(2)]);
}

#[test]
fn what_waits_is_counted_by_class_and_kind_of_board() {
    use edgeprof_common::Priority;
    let mut rig = Rig::new();
    assert_eq!(rig.scheduler.backlog(), []);
    rig.submit([1, 2]);
    rig.now += 1500;
    rig.event(Event::Submitted { tasks: vec![NewTask { priority: Priority::High, ..new_task(3) }] });
    rig.now += 500;
    rig.event(Event::Tick);
    let seen = |rig: &Rig| {
        let seen = rig.scheduler.backlog().into_iter();
        seen.map(|b| (b.class, b.kind, b.depth, b.age.as_millis())).collect::<Vec<_>>()
    };
    let none = || "none".to_owned();
    assert_eq!(seen(&rig), [(Priority::Normal, none(), 2, 2000), (Priority::High, none(), 1, 500)]);
    rig.up_with("a", 1, 0, &["a/0"]);
    let kind = rig.scheduler.boards().next().unwrap().report.kind.clone();
    assert_eq!(seen(&rig), [(Priority::Normal, kind, 2, 2000)], "the first of the higher class runs");
}

#[test]
fn silence_raises_suspicion_and_a_heartbeat_takes_it_away() {
    let mut rig = Rig::new();
    let a = super::rig::worker("a");
    assert_eq!(rig.scheduler.suspicion(&a), None);
    rig.up("a", 1, &["a/0"]);
    assert_eq!(rig.scheduler.suspicion(&a), Some(0.0));
    rig.tick_at(4600);
    assert!(rig.scheduler.suspicion(&a).is_some_and(|phi| phi > 1.0));
    rig.beat(&peer("a", 1), &["a/0"], vec![], 9);
    assert_eq!(rig.scheduler.suspicion(&a), Some(0.0));
}
