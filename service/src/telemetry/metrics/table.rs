//! Every instrument, with its name, unit and meaning. `docs/telemetry.md` shows this table.

/// What an instrument measures with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// A present value.
    Gauge,
    /// How values are distributed, with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// One instrument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instrument {
    /// Its name, as OpenTelemetry has it.
    pub name: &'static str,
    /// Its unit in UCUM; what is counted stands in braces.
    pub unit: &'static str,
    /// What it measures with.
    pub kind: Kind,
    /// The attributes that its values have.
    pub attributes: &'static [&'static str],
    /// Who has it.
    pub of: &'static str,
    /// What it tells.
    pub what: &'static str,
}

impl Instrument {
    /// The unit that its name ends with in Prometheus; empty where it has none.
    pub fn suffix(&self) -> &'static str {
        match (self.unit, self.kind) {
            ("s", _) => "seconds",
            ("By", _) => "bytes",
            _ => "",
        }
    }

    /// Its name in Prometheus.
    pub fn scraped(&self) -> String {
        let mut name = self.name.replace('.', "_");
        if !self.suffix().is_empty() {
            name = format!("{name}_{}", self.suffix());
        }
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }
}

macro_rules! instruments {
    ($($id:ident = $kind:expr, $of:literal, $name:literal, $unit:literal, [$($attribute:literal),*], $what:literal;)*) => {
        $(
            #[doc = $what]
            pub const $id: Instrument = Instrument {
                name: $name, unit: $unit, kind: $kind, attributes: &[$($attribute),*], of: $of, what: $what,
            };
        )*
        /// All of them.
        pub const ALL: &[Instrument] = &[$($id),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

/// From half a millisecond to a minute: commits, requests, offers.
const SHORT: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// From ten milliseconds to a day: what waits for boards, or runs on them.
const LONG: &[f64] =
    &[0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// How many at once.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

instruments! {
    QUEUE_DEPTH = Gauge, "coordinator", "edgeprof.queue.depth", "{task}", ["class", "kind"],
        "Tasks that wait for a board, by priority class and kind of board; `any` where several kinds would do.";
    QUEUE_AGE = Gauge, "coordinator", "edgeprof.queue.age", "s", ["class", "kind"],
        "How long the oldest of them has waited.";
    QUEUE_WAIT = Histogram(LONG), "coordinator", "edgeprof.queue.wait", "s", ["class"],
        "From when a task could run to its lease.";
    DISPATCH = Histogram(SHORT), "coordinator", "edgeprof.dispatch.duration", "s", [],
        "From a lease to the worker's word that it has it: the commit is part of it.";
    ATTEMPTS = Counter, "coordinator", "edgeprof.attempts", "{attempt}", ["kind", "outcome"],
        "Attempts that ended: succeeded, failed, rejected, recalled, lost, cancelled, overdue.";
    ATTEMPT_DURATION = Histogram(LONG), "coordinator", "edgeprof.attempt.duration", "s", ["kind", "outcome"],
        "From the start on a board to the result.";
    LEASES_LOST = Counter, "coordinator", "edgeprof.leases.lost", "{lease}", ["kind"],
        "Leases whose worker died, forgot them, or did not answer.";
    JOBS = Counter, "coordinator", "edgeprof.jobs", "{job}", ["state"],
        "Jobs that ended, by how.";
    BOARDS = Gauge, "coordinator", "edgeprof.boards", "{board}", ["kind", "state"],
        "Boards: idle, busy, suspected, reserved, quarantined, unavailable.";
    BOARD_UTILIZATION = Gauge, "coordinator", "edgeprof.board.utilization", "1", ["kind"],
        "Share of the usable boards that have an attempt.";
    WORKERS = Gauge, "coordinator", "edgeprof.workers", "{worker}", ["health"],
        "Workers by health.";
    PHI = Gauge, "coordinator", "edgeprof.worker.phi", "1", ["worker"],
        "Suspicion that a worker is dead, beyond the pause that is forgiven: at 8 it is given up.";
    SILENCE = Gauge, "coordinator", "edgeprof.worker.silence", "s", ["worker"],
        "Since anything was heard of a worker.";
    HEARTBEATS = Counter, "coordinator", "edgeprof.heartbeats", "{heartbeat}", [],
        "Heartbeats of all workers.";
    COMMIT = Histogram(SHORT), "coordinator", "edgeprof.commit.duration", "s", [],
        "What one commit of the store took, with its fsync.";
    COMMIT_BATCH = Histogram(BATCH), "coordinator", "edgeprof.commit.transactions", "{transaction}", [],
        "Transactions that shared a commit.";
    STORE_SIZE = Gauge, "coordinator", "edgeprof.store.size", "By", [],
        "Size of the store's file.";
    ARTIFACTS_SIZE = Gauge, "coordinator", "edgeprof.artifacts.size", "By", [],
        "Uploads and board images together.";
    DISK_FREE = Gauge, "coordinator", "edgeprof.disk.free", "By", [],
        "Free space where the store is.";
    DISK_RESERVE = Gauge, "coordinator", "edgeprof.disk.reserve", "By", [],
        "Free space below which submissions are refused.";
    COMMAND = Histogram(LONG), "client", "edgeprof.command.duration", "s", ["command", "outcome"],
        "From a command's start to its end.";
    RPC = Histogram(SHORT), "both", "rpc.server.call.duration", "s", ["rpc.method", "rpc.response.status_code"],
        "From a request to the head of its answer: of a stream it is what opening it took.";
    SESSIONS = Gauge, "both", "edgeprof.sessions", "{session}", [],
        "Sessions that are up.";
    CONNECTIONS = Gauge, "both", "edgeprof.connections", "{connection}", [],
        "Connections that others have opened.";
    REFUSED = Counter, "both", "edgeprof.refusals", "{refusal}", ["reason"],
        "Connections, requests and messages that were refused; docs/security.md has the reasons.";
    CALLS_REFUSED = Counter, "coordinator", "edgeprof.calls.refused", "{call}", ["reason"],
        "Calls that their caller may not make; docs/security.md has the reasons.";
    BOARD_BUSY = Counter, "worker", "edgeprof.board.busy", "s", ["board", "kind"],
        "Time that a board ran attempts, each added at its end.";
    IDLE_GAP = Histogram(SHORT), "worker", "edgeprof.board.idle_gap", "s", ["kind"],
        "From an attempt's end to the start of the next, where that one waited already.";
    PHASE = Histogram(LONG), "worker", "edgeprof.phase.duration", "s", ["kind", "phase"],
        "What a phase of an attempt took on the worker's clock: stage, load, repetition.";
    OUTBOX_DEPTH = Gauge, "worker", "edgeprof.outbox.depth", "{result}", [],
        "Results that the coordinator has not acknowledged.";
    OUTBOX_LIMIT = Gauge, "worker", "edgeprof.outbox.limit", "{result}", [],
        "Results that may wait; beyond, boards take no work.";
    CACHE_SIZE = Gauge, "worker", "edgeprof.cache.size", "By", [],
        "Bytes of cached blobs.";
    MEMORY = Gauge, "both", "process.memory.usage", "By", [],
        "Resident memory.";
    DESCRIPTORS = Gauge, "both", "process.unix.file_descriptor.count", "{file_descriptor}", [],
        "Open file descriptors.";
    CPU = Counter, "both", "process.cpu.time", "s", [],
        "Processor time of all threads.";
    TASKS = Gauge, "both", "edgeprof.runtime.tasks", "{task}", [],
        "Tasks of the async runtime.";
    RUNTIME_BUSY = Counter, "both", "edgeprof.runtime.busy", "s", [],
        "Time that the runtime's threads were busy.";
    RUNTIME_THREADS = Gauge, "both", "edgeprof.runtime.threads", "{thread}", [],
        "Threads of the runtime: the rate of its busy time over this is the busy ratio.";
    TELEMETRY_SENT = Counter, "both", "edgeprof.telemetry.sent", "{item}", ["signal"],
        "Spans, log lines and metrics that the collector took.";
    TELEMETRY_DROPPED = Counter, "both", "edgeprof.telemetry.dropped", "{item}", ["reason", "signal"],
        "Those that it never got: the queue was full (`full`), or it did not take them (`refused`).";
}

/// The table of `docs/telemetry.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "| name | unit | kind | attributes | of | what it tells |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for instrument in ALL {
        let Instrument { name, unit, kind, attributes, of, what } = instrument;
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram(_) => "histogram",
        };
        let attributes: Vec<_> = attributes.iter().map(|attribute| format!("`{attribute}`")).collect();
        let attributes = attributes.join(", ");
        text.push_str(&format!("| `{name}` | `{unit}` | {kind} | {attributes} | {of} | {what} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_have_one_name_and_all_are_well_formed() {
        let names: BTreeSet<_> = ALL.iter().map(Instrument::scraped).collect();
        assert_eq!(names.len(), ALL.len());
        for Instrument { name, attributes, what, kind, .. } in ALL {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_')), "{name}");
            assert!(attributes.is_sorted() && what.ends_with('.') && what.is_ascii(), "{name}");
            if let Histogram(bounds) = kind {
                assert!(bounds.is_sorted(), "{name}");
            }
        }
    }

    /// What people read is what the program has. `UPDATE_DOCS=1` writes it anew.
    #[test]
    fn the_documentation_shows_every_instrument() {
        const BEGIN: &str =
            "<!-- instruments: written by `UPDATE_DOCS=1 cargo test -p edgeprof-service` -->\n";
        const END: &str = "<!-- end of instruments -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/telemetry.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the page has a mark where the table begins");
        let (table, after) = rest.split_once(END).expect("the page has a mark where the table ends");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", markdown())).unwrap();
        } else {
            assert_eq!(table, markdown(), "run `UPDATE_DOCS=1 cargo test -p edgeprof-service`");
        }
    }
}
