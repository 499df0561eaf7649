//! Jobs that have ended, and are asked of the store from then on.

use edgeprof_common::{Epoch, TaskState};
use edgeprof_scheduler::{Config, Event, Now, Outcome, Recovered, Scheduler};

use super::rig::{JOB, Rig, new_task, peer, task};
use TaskState::{Leased, Succeeded};

#[test]
fn an_ended_job_can_be_forgotten_and_its_late_results_are_kept_aside() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit([1]);
    let lease = rig.lease(1);
    rig.event(Event::Forget { job: JOB });
    assert_eq!(rig.state(1), Leased);
    rig.result(&peer("a", 1), &lease, Outcome::Succeeded);
    rig.event(Event::Forget { job: JOB });
    assert!(rig.scheduler.task(task(1)).is_none());
    rig.result(&peer("a", 1), &lease, Outcome::Succeeded);
    assert_eq!((rig.acks(), rig.fx.writes.len()), (vec![true], 1));
}

#[test]
fn a_job_is_not_forgotten_while_an_attempt_of_it_occupies_a_board() {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.up("b", 2, &["b/0"]);
    rig.submit([1]);
    let first = rig.lease(1);
    rig.start(&peer("a", 1), 1);
    rig.beat(&peer("a", 1), &["a/0"], vec![], 99);
    let second = rig.lease(1);
    assert_eq!(second.board.as_str(), "b/0");
    // The attempt that was given up wins: the job is over, and the other one has its board still.
    rig.result(&peer("a", 1), &first, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.cancelled()), (Succeeded, vec![second.clone()]));
    rig.event(Event::Forget { job: JOB });
    assert!(rig.scheduler.task(task(1)).is_some());
    rig.result(&peer("b", 2), &second, Outcome::Cancelled);
    rig.event(Event::Forget { job: JOB });
    assert!(rig.scheduler.task(task(1)).is_none());
}

#[test]
fn what_is_submitted_comes_after_what_was_forgotten_before_a_restart() {
    let recovered = Recovered { next_seq: 7, ..Recovered::default() };
    let mut scheduler = Scheduler::new(Now(0), Config::default(), Epoch(2), recovered).unwrap();
    assert_eq!(scheduler.next_seq(), 7);
    scheduler.step(Now(0), Event::Submitted { tasks: vec![new_task(1)] });
    assert_eq!((scheduler.task(task(1)).unwrap().row.seq, scheduler.next_seq()), (7, 8));
}
