//! One module a figure of the issue; each starts clusters of its own, and ends them.

pub(crate) mod alone;
pub(crate) mod failover;
pub(crate) mod fleet;
pub(crate) mod gap;
pub(crate) mod restart;
mod rounds;
pub(crate) mod telemetry;
pub(crate) mod throughput;

use std::time::Duration;

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Of microseconds.
fn millis_between(from: crate::log::Micros, to: crate::log::Micros) -> f64 {
    (to - from) as f64 / 1e3
}
