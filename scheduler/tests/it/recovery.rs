//! What a new life of the coordinator makes of the store.

use edgeprof_common::{Epoch, TaskState, Token};
use edgeprof_scheduler::{Config, EpochNotNew, Event, Frame, HeldState, Now, Outcome, Scheduler};

use super::rig::{Rig, held, lab_fault, peer, task, worker};
use TaskState::{Backoff, Leased, Queued, Succeeded};

fn running() -> Rig {
    let mut rig = Rig::new();
    rig.up("a", 1, &["a/0"]);
    rig.submit_apart(1);
    rig.submit([2]);
    rig.frame(&peer("a", 1), Frame::Started(rig.lease(1)));
    rig
}

#[test]
fn leases_stand_and_a_worker_that_still_holds_them_goes_on() {
    let mut rig = running();
    let lease = rig.lease(1);
    rig.restart();
    assert_eq!((rig.lease(1), rig.state(2)), (lease.clone(), Queued));
    assert_eq!(rig.scheduler.issued(&worker("a")), rig.tokens);
    rig.hello("a", 2, 1, &["a/0"], vec![held(&lease, HeldState::Running)]);
    assert_eq!((rig.lease(1), rig.state(2)), (lease.clone(), Queued));
    rig.result(&peer("a", 2), &lease, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.state(2), rig.acks()), (Succeeded, Leased, vec![false]));
    assert!(rig.lease(2).token > lease.token);
}

#[test]
fn a_restart_charges_no_attempt() {
    let mut rig = running();
    rig.restart();
    rig.hello("a", 2, 1, &["a/0"], vec![]);
    assert_eq!((rig.state(1), rig.row(1).standing.spent), (Leased, 0), "the worker does not hold it");

    let mut rig = running();
    rig.restart();
    rig.hello("a", 2, 2, &["a/0"], vec![]);
    assert_eq!((rig.row(1).standing.spent, rig.row(1).standing.deaths), (0, 0), "the worker restarted too");

    let mut rig = running();
    rig.now = 1000;
    rig.restart();
    rig.tick_at(30_999);
    assert_eq!(rig.state(1), Leased);
    rig.tick_at(31_000);
    assert_eq!((rig.state(1), rig.row(1).standing.spent), (Queued, 0), "the worker never came");
}

#[test]
fn an_unheard_worker_is_gone_if_its_host_refuses_twice() {
    let mut rig = running();
    rig.restart();
    rig.event(Event::DialRefused { worker: worker("a") });
    rig.now += 1000;
    rig.event(Event::DialRefused { worker: worker("a") });
    assert_eq!((rig.state(1), rig.row(1).standing.spent), (Queued, 0));
}

#[test]
fn a_result_that_comes_before_its_worker_is_reconciled_counts() {
    let mut rig = running();
    let lease = rig.lease(1);
    rig.restart();
    rig.hello("a", 2, 1, &["a/0"], vec![held(&lease, HeldState::Outbox)]);
    assert_eq!(rig.state(1), Leased);
    rig.result(&peer("a", 2), &lease, Outcome::Succeeded);
    rig.restart();
    rig.hello("a", 3, 1, &["a/0"], vec![held(&lease, HeldState::Outbox)]);
    rig.result(&peer("a", 3), &lease, Outcome::Succeeded);
    assert_eq!((rig.state(1), rig.acks()), (Succeeded, vec![true]));
}

#[test]
fn a_backoff_starts_anew() {
    let mut rig = running();
    rig.result(&peer("a", 1), &rig.lease(1), lab_fault());
    assert_eq!(rig.state(1), Backoff);
    rig.now = 900;
    rig.restart();
    rig.tick_at(1899);
    assert_eq!((rig.state(1), rig.scheduler.waiting()), (Backoff, 2));
    rig.tick_at(1900);
    assert_eq!(rig.state(1), Queued);
}

#[test]
fn a_cancelled_attempt_that_outlived_the_coordinator_is_told_again() {
    let mut rig = running();
    let lease = rig.lease(1);
    rig.cancel(1);
    rig.restart();
    rig.hello("a", 2, 1, &["a/0"], vec![held(&lease, HeldState::Running)]);
    assert_eq!((rig.cancelled(), rig.state(2)), (vec![lease.clone()], Queued));
    rig.result(&peer("a", 2), &lease, Outcome::Cancelled);
    assert_eq!((rig.acks(), rig.state(2)), (vec![true], Leased));
}

#[test]
fn order_of_submission_outlives_the_process() {
    let mut rig = running();
    rig.restart();
    rig.submit([3]);
    assert_eq!([2, 3].map(|n| rig.scheduler.position(task(n))), [Some(1), Some(2)]);
}

#[test]
fn an_epoch_that_the_store_has_seen_is_refused() {
    let rig = running();
    let recovered = rig.recovered();
    let stored = Token { epoch: Epoch(1), counter: 1 };
    let refused = Scheduler::new(Now(0), Config::default(), Epoch(1), recovered);
    assert_eq!(refused.err(), Some(EpochNotNew { epoch: 1, stored }));
}
