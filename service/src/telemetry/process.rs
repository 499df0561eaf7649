//! What the process takes of its machine, and what it did not get rid of.

use std::{fs, sync::atomic::Ordering::Relaxed};

use tokio::runtime::Handle;

use super::{
    flow::FLOWS,
    metrics::{
        observe,
        table::{
            CPU, DESCRIPTORS, MEMORY, RUNTIME_BUSY, RUNTIME_THREADS, TASKS, TELEMETRY_DROPPED, TELEMETRY_SENT,
        },
    },
};

/// Observes it from now on.
pub(super) fn watch(runtime: &Handle) {
    let of = |runtime: &Handle| runtime.metrics();
    let handle = runtime.clone();
    observe(&TASKS, move |seen| seen.is(of(&handle).num_alive_tasks() as f64, &[]));
    let handle = runtime.clone();
    observe(&RUNTIME_THREADS, move |seen| seen.is(of(&handle).num_workers() as f64, &[]));
    let handle = runtime.clone();
    observe(&RUNTIME_BUSY, move |seen| {
        let metrics = of(&handle);
        let busy = (0..metrics.num_workers()).map(|n| metrics.worker_total_busy_duration(n).as_secs_f64());
        seen.is(busy.sum(), &[]);
    });
    observe(&MEMORY, |seen| {
        if let Some(pages) = field("/proc/self/statm", 1) {
            seen.is(pages * system(nix::unistd::SysconfVar::PAGE_SIZE), &[]);
        }
    });
    observe(&DESCRIPTORS, |seen| {
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // Reading them is one.
            seen.is(open.count().saturating_sub(1) as f64, &[]);
        }
    });
    observe(&CPU, |seen| {
        let ticks = field("/proc/self/stat", 13).zip(field("/proc/self/stat", 14));
        if let Some((user, kernel)) = ticks {
            seen.is((user + kernel) / system(nix::unistd::SysconfVar::CLK_TCK), &[]);
        }
    });
    observe(&TELEMETRY_SENT, |seen| {
        for flow in &*FLOWS {
            seen.is(flow.sent.load(Relaxed) as f64, &[("signal", flow.signal)]);
        }
    });
    observe(&TELEMETRY_DROPPED, |seen| {
        for flow in &*FLOWS {
            for (reason, count) in [("full", &flow.full), ("refused", &flow.refused)] {
                seen.is(count.load(Relaxed) as f64, &[("reason", reason), ("signal", flow.signal)]);
            }
        }
    });
}

/// A number from a line of `/proc`. Our programs' names, which stand in some, have no blank.
fn field(path: &str, at: usize) -> Option<f64> {
    fs::read_to_string(path).ok()?.split_ascii_whitespace().nth(at)?.parse().ok()
}

fn system(what: nix::unistd::SysconfVar) -> f64 {
    nix::unistd::sysconf(what).ok().flatten().unwrap_or_default() as f64
}
