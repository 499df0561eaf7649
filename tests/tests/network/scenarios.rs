//! One fault at a time.

use std::time::Duration;

use edgeprof_common::run::RunState;

use super::lab::{COORDINATOR, Lab, Shape};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One worker with one board, so that everything goes over one way.
fn pair() -> Lab {
    let mut lab = Lab::start(&Shape { boards: vec![1], ..Shape::default() });
    lab.until("a session", s(5), |lab| lab.is_heard("w0"));
    lab
}

/// Without any fault: each task runs once, and its record is good.
#[test]
fn an_undisturbed_lab_runs_every_task_once() {
    let mut lab = Lab::start(&Shape::default());
    lab.submit(30);
    lab.until("every task", s(30), |lab| lab.is_done());
    let runs: Vec<_> = lab.tasks().filter_map(|task| lab.coordinator.ledger.record(task)).collect();
    assert!(runs.iter().all(|run| run.state == RunState::Ok), "{:?}", runs[0]);
    assert_eq!((runs.len(), lab.finished()), (30, 30));
}

/// Whichever way is cut, the task is given to another worker, and the session comes back after the repair.
#[test]
fn a_worker_behind_a_cut_loses_its_task_and_comes_back_after_the_repair() {
    for ways in
        [&[(COORDINATOR, "w0"), ("w0", COORDINATOR)][..], &[(COORDINATOR, "w0")], &[("w0", COORDINATOR)]]
    {
        let mut lab = Lab::start(&Shape { boards: vec![1, 1], takes: s(3), ..Shape::default() });
        lab.submit(2);
        lab.until("both boards to work", s(5), |lab| lab.taken() == 2);
        ways.iter().for_each(|(from, to)| lab.cut(from, to));
        // What a worker that hears nothing finishes is heard all the same.
        lab.until("every task", s(40), |lab| lab.is_done());
        lab.until("the session to be given up", s(40), |lab| !lab.is_heard("w0"));
        ways.iter().for_each(|(from, to)| lab.mend(from, to));
        lab.until("the session", s(30), |lab| lab.is_heard("w0"));
        let before = lab.finished();
        lab.submit(6);
        // One board alone would take 18 seconds.
        lab.until("the work after it", s(14), |lab| lab.is_done());
        assert_eq!(lab.finished(), before + 6);
        lab.until("every acknowledgement", s(10), |lab| lab.outboxes_are_empty());
    }
}

/// A pause that the detector forgives costs nothing: what was on the way arrives.
#[test]
fn a_short_hold_repeats_no_run() {
    let mut lab = Lab::start(&Shape { boards: vec![1, 1], ..Shape::default() });
    lab.submit(2);
    lab.until("both boards to work", s(5), |lab| lab.taken() == 2);
    lab.hold(COORDINATOR, "w0");
    // The other board ends its task meanwhile, and could have this one.
    lab.pass(s(3));
    lab.release(COORDINATOR, "w0");
    lab.until("every task", s(20), |lab| lab.is_done());
    assert_eq!((lab.taken(), lab.finished()), (2, 2));
}

/// A result that nobody acknowledged survives its worker's crash, and its task does not run again.
#[test]
fn a_result_waits_out_a_partition_and_a_crash() {
    let mut lab = pair();
    lab.submit(1);
    lab.until("the board to work", s(5), |lab| lab.taken() == 1);
    lab.cut("w0", COORDINATOR);
    lab.until("the end of the run", s(5), |lab| !lab.outboxes_are_empty());
    lab.crash("w0");
    lab.pass(s(1));
    lab.mend("w0", COORDINATOR);
    assert!(!lab.is_done());
    lab.bounce("w0");
    lab.until("the record", s(30), |lab| lab.is_done());
    assert_eq!(lab.finished(), 1);
    lab.until("the acknowledgement", s(5), |lab| lab.outboxes_are_empty());
}

/// However long the commit takes: what leaves an outbox unrecorded fails the step.
#[test]
fn a_result_is_acknowledged_once_it_is_durable() {
    let mut lab = Lab::start(&Shape { boards: vec![1], commit: s(2), ..Shape::default() });
    lab.submit(1);
    lab.until("the end of the run", s(20), |lab| !lab.outboxes_are_empty());
    lab.pass(s(1));
    assert!(!lab.is_done() && !lab.outboxes_are_empty());
    lab.until("the acknowledgement", s(10), |lab| lab.outboxes_are_empty());
    assert!(lab.is_done());
}

/// A run goes on over a restart of the coordinator, and is recorded by the next life.
#[test]
fn a_run_outlives_the_coordinator() {
    let mut lab = pair();
    lab.submit(2);
    lab.until("the board to work", s(5), |lab| lab.taken() == 1);
    lab.crash(COORDINATOR);
    lab.until("the end of the run", s(5), |lab| lab.finished() == 1);
    assert_eq!(lab.coordinator.ledger.written().0, 0);
    lab.bounce(COORDINATOR);
    lab.until("every task", s(30), |lab| lab.is_done());
    assert_eq!(lab.finished(), 2);
}

/// Two lives of one cluster: the worker obeys the newer one from its first word on, and the older one ends.
#[test]
fn an_older_life_is_refused_and_ends() {
    let mut lab = pair();
    lab.hold(COORDINATOR, "w0");
    let newer = lab.start_copy("newer");
    // The older life's order is on its way when the newer one takes over, which knows nothing of the job.
    lab.submit(1);
    lab.until("the order", s(5), |lab| lab.coordinator.ledger.has_lease());
    lab.until("the newer claim", s(10), |lab| lab.workers[0].epoch() == Some(2));
    lab.release(COORDINATOR, "w0");
    lab.until("the older life to end", s(60), |lab| lab.coordinator.ended.lock().unwrap().is_some());
    let why = lab.coordinator.ended.lock().unwrap().clone().unwrap();
    assert!(why.contains("a newer life of this coordinator"), "{why}");
    assert_eq!(lab.taken(), 0, "the older life's task was run");
    assert!(newer.ended.lock().unwrap().is_none());
}

/// Blobs go over a connection of their own; one that breaks halfway is pushed again.
#[test]
fn a_blob_that_is_cut_off_arrives_after_the_repair() {
    let shape = Shape { boards: vec![1], image: 4 << 20, cached: false, ..Shape::default() };
    let mut lab = Lab::start(&shape);
    lab.submit(1);
    lab.until("the blob to be under way", s(5), |lab| lab.workers[0].is_receiving());
    lab.cut(COORDINATOR, "w0");
    lab.pass(s(20));
    assert!(!lab.is_done());
    lab.mend(COORDINATOR, "w0");
    lab.until("the record", s(120), |lab| lab.is_done());
}
