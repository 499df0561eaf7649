//! A worker that stops reading costs the others nothing.

use std::{sync::atomic::Ordering, time::Duration};

use super::lab::{Lab, Shape};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The longest time that a board of the well worker had nothing between two runs.
fn longest_gap(stuck: bool) -> Duration {
    // The other one's orders come at once, more than a session keeps for a worker by default, and are more bytes
    // than a stream may have under way.
    let mut lab = Lab::start(&Shape {
        tick: ms(1),
        latency: ms(1),
        boards: vec![400, 4],
        takes: ms(50),
        prompt: 1000,
        ..Shape::default()
    });
    lab.until("both sessions", ms(5000), |lab| lab.is_heard("w0") && lab.is_heard("w1"));
    lab.workers[0].stuck.store(stuck, Ordering::Relaxed);
    for (worker, tasks) in [(1, 40), (0, 400), (1, 40)] {
        let boards = lab.workers[worker].any_board();
        lab.submit_for(tasks, &boards);
    }
    lab.until("the well worker's runs", ms(10_000), |lab| lab.workers[1].notes.taken() == 80);
    assert_eq!(lab.workers[0].notes.taken(), if stuck { 0 } else { 400 });
    lab.workers[1].notes.longest_gap().expect("some board had two runs")
}

/// In simulated time, which a machine under load does not stretch.
#[test]
fn a_worker_that_does_not_read_delays_no_other_by_ten_milliseconds() {
    let (well, stuck) = (longest_gap(false), longest_gap(true));
    assert!(stuck <= well + ms(10), "{stuck:?} beside a stuck worker, else {well:?}");
}
