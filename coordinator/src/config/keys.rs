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
        "Address for clients, as IP:PORT; port 0 takes a free one, 0.0.0.0 serves other hosts.",
    ),
    Key::new("data", "Folder of the store and the artifacts; one coordinator at a time."),
    Key::new("site", "Name of the lab: only workers of the same site are served."),
    Key::new("workers", "Addresses of workers that mDNS does not find, as \"HOST:PORT\"."),
    Key::new("discovery", "Whether to look for workers, and to announce this coordinator, over mDNS."),
    Key::new("firmware", "Folders that are searched for firmware images before the usual ones."),
    Key::new("max_artifact_bytes", "Largest artifact that a client may upload, in bytes; 16 GiB."),
    Key::new(
        "artifact_quota_bytes",
        "Bytes that uploads and board images together are kept below; 64 GiB. What no unfinished job needs\n\
         goes when room is wanted, the least recently used first.",
    ),
    Key::new(
        "reserve_bytes",
        "Free bytes of the disk that are kept for results; 64 MiB. With less, submissions are refused.",
    ),
    Key::new(
        "max_queued_tasks",
        "Tasks that may wait in all. A job beyond is refused whole, with when to try again.",
    ),
    Key::new("prepare_timeout", "Longest time that preparing a model may take between two steps."),
    Key::new(
        "reference_limit",
        "A workload is computed on the host as well, to verify boards by, if the model's parameters times\n\
         its tokens are at most this.",
    ),
    Key::new("log_format", "Shape of log lines: text or json."),
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
        "scheduler.policy",
        "Which of the able boards a task gets: \"least-completion\" (where it ends first, by what history\n\
         says), \"least-loaded\" (which has the fewest tasks) or \"round-robin\".",
    ),
    Key::new("scheduler.ageing", "A task that waits this long goes into the next higher priority class."),
    Key::new(
        "scheduler.wait_for_better",
        "A busy board that is free within this is waited for, if the task ends sooner there.",
    ),
    Key::new("scheduler.max_prefetch", "Most tasks that wait on a board behind the one in work."),
    Key::new(
        "scheduler.drain_grace",
        "How long tasks that run may go on when their worker is drained; then they run elsewhere.",
    ),
    Key::new("scheduler.canary_deadline", "A canary run that takes longer has failed."),
    Key::new(
        "scheduler.reset_grace",
        "A board that is restarted has to be good again within this; else it is quarantined.",
    ),
    Key::new(
        "scheduler.deadline_min",
        "A task that runs longer than this, and than ten times what history says, is stopped.",
    ),
    Key::new(
        "scheduler.max_failures",
        "A task is not retried after so many failures that were not its own doing.",
    ),
    Key::new(
        "scheduler.max_attempts",
        "A task is not retried after so many attempts that failed or were lost.",
    ),
    Key::unset(
        "scheduler.weights",
        "Shares of submitters in the boards, 1 to 1000; 1 for whoever is not named.",
        "weights = { ann = 3, nightly = 1 }",
    ),
    Key::unset(
        "quotas.jobs",
        "Jobs of one submitter that have not ended. A job beyond a quota is refused whole, with when to try\n\
         again; without one a submitter may have what there is room for.",
        "jobs = 100",
    ),
    Key::unset("quotas.tasks", "Tasks of one submitter that have not ended.", "tasks = 10000"),
    Key::unset(
        "quotas.upload_bytes",
        "Bytes that one submitter uploads in 24 hours.",
        "upload_bytes = 68719476736",
    ),
    Key::unset(
        "quotas.of",
        "The same for submitters by name; what is not said of them is as above.",
        "of.nightly = { tasks = 50000 }",
    ),
    Key::new("audit.keep", "Entries of the log of who did what leave it when they are older."),
    Key::new("audit.max_entries", "Most entries of that log; the oldest leave first."),
    telemetry::KEYS[0],
    telemetry::KEYS[1],
    telemetry::KEYS[2],
    telemetry::KEYS[3],
    telemetry::KEYS[4],
    telemetry::KEYS[5],
    telemetry::KEYS[6],
    telemetry::KEYS[7],
    telemetry::KEYS[8],
];
