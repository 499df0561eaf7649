//! A worker that stops reading costs the others nothing.

use std::{sync::atomic::Ordering, time::Duration};

use super::lab::{Lab, Shape};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Bytes that a stream may have under way, since that is what an HTTP/2 server of hyper's has room for: orders beyond
/// them wait in the coordinator.
const WINDOW: usize = 1 << 20;

/// The longest time that a board of the well worker had nothing between two runs. It is never given work ahead, so that
/// each of its results has to come in, and the next order to go out, before it goes on.
fn longest_gap(stuck: bool) -> Duration {
    let mut lab = Lab::start(&Shape {
        tick: ms(1),
        latency: ms(1),
        boards: vec![400, 4],
        takes: ms(50),
        queue: 0,
        prompt: 3000,
        ..Shape::default()
    });
    lab.until("both sessions", ms(5000), |lab| lab.is_heard("w0") && lab.is_heard("w1"));
    let (other, well) = (lab.workers[0].clone(), lab.workers[1].clone());
    other.reading.stuck.store(stuck, Ordering::Relaxed);
    for (worker, tasks) in [(&well, 40), (&other, 400), (&well, 40)] {
        lab.submit_for(tasks, &worker.any_board());
    }
    lab.until("the well worker's runs", ms(10_000), |_| well.notes.taken() == 80);
    assert_eq!(other.notes.taken(), if stuck { 0 } else { 400 });
    let read = other.reading.bytes.load(Ordering::Relaxed);
    assert!(stuck || read > 2 * WINDOW, "no order has to wait: all are {read} bytes");
    well.notes.longest_gap().expect("some board had two runs")
}

/// In simulated time, which a machine under load does not stretch.
#[test]
fn a_worker_that_does_not_read_delays_no_other_by_ten_milliseconds() {
    let (well, stuck) = (longest_gap(false), longest_gap(true));
    assert!(stuck <= well + ms(10), "{stuck:?} beside a stuck worker, else {well:?}");
}
