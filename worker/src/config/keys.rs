//! What each key of the configuration file does.

use edgeprof_service::{
    config::Key,
    telemetry,
    tls::{CONNECTION_KEYS, TLS_KEYS},
};

/// In the order in which they are printed.
pub const KEYS: &[Key] = &[
    Key::new(
        "listen",
        "Address to serve on, as IP:PORT; port 0 takes a free one, 0.0.0.0 serves other hosts.",
    ),
    Key::new("data", "Folder for state and cache; one worker each."),
    Key::new("site", "Lab that this worker belongs to: coordinators of other sites do not dial it."),
    Key::unset(
        "name",
        "Name of this worker; without it one is made once and kept in the data folder.",
        "name = \"host-1\"",
    ),
    Key::new("log_format", "Shape of log lines: text or json."),
    Key::new("announce", "Whether to announce the worker over mDNS."),
    Key::unset(
        "allow_noop",
        "Offer boards of kind noop, which do nothing: for benchmarks.",
        "allow_noop = true",
    ),
    TLS_KEYS[0],
    TLS_KEYS[1],
    TLS_KEYS[2],
    TLS_KEYS[3],
    TLS_KEYS[4],
    CONNECTION_KEYS[0],
    CONNECTION_KEYS[1],
    CONNECTION_KEYS[2],
    CONNECTION_KEYS[3],
    Key::new(
        "limits.frame_timeout",
        "Longest silence of a board in a run, beyond what the model's size explains.",
    ),
    Key::new("limits.boot_timeout", "How long a board may take to answer after its start."),
    Key::new("limits.blob_timeout", "How long an attempt waits for the next piece of a blob."),
    Key::new(
        "limits.cancel_timeout",
        "How long a board may take to end a cancelled run before it is restarted.",
    ),
    Key::new("limits.blob_bytes", "Largest blob that is taken, in bytes; 1 GiB."),
    Key::new("limits.cache_bytes", "Bytes that the cache of blobs is kept below; 4 GiB."),
    Key::new("limits.outbox", "Results that may wait for a coordinator; beyond that boards take no work."),
    Key::new("limits.queue", "Attempts that a board takes behind the one in work."),
    Key::new("limits.drain_grace", "How long attempts that run may go on when the worker is told to stop."),
    telemetry::KEYS[0],
    telemetry::KEYS[1],
    telemetry::KEYS[2],
    telemetry::KEYS[3],
    telemetry::KEYS[4],
    telemetry::KEYS[5],
    telemetry::KEYS[6],
    telemetry::KEYS[7],
    telemetry::KEYS[8],
    Key::unset(
        "board",
        "Boards. More may lie in boards.d/*.toml beside this file; `edgeprof-worker scan` prints stanzas\n\
         for what is plugged in.",
        "[[board]]\nkind = \"riscv32\"",
    ),
];
