//! The keys of the rows.

use edgeprof_common::{BoardId, Digest, JobId, Quant, RunId, TaskId, Token, WorkerId};

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) = $text:literal;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name($($arg: $type),*) -> Vec<u8> { format!($text).into_bytes() })*
    };
}

keys! {
    /// A job's row.
    job(id: JobId) = "job/{id}";
    /// That a job has not ended.
    open(id: JobId) = "open/{id}";
    /// The job that an idempotency key made.
    key(key: &str) = "key/{key}";
    /// What a task is.
    def(id: TaskId) = "def/{id}";
    /// Where a task is.
    task(id: TaskId) = "task/{id}";
    /// What a worker needs for a workload.
    prep(of: Digest) = "prep/{of}";
    /// A board's last token.
    token(id: &BoardId) = "token/{id}";
    /// What is kept of a board.
    board(id: &BoardId) = "board/{id}";
    /// An operator's word on a worker.
    drained(id: &WorkerId) = "drained/{id}";
    /// What was learned of run times.
    estimate(image: Digest, kind: &str) = "estimate/{image}/{kind}";
    /// A record.
    run(id: RunId) = "run/{id}";
    /// A bearer token.
    bearer(name: &str) = "bearer/{name}";
    /// What a submitter has uploaded lately.
    uploads(submitter: &str) = "uploads/{submitter}";
    /// A board image.
    image(model: Digest, quant: Quant) = "image/{model}/{quant}";
}

/// How a job ended, by the place of its first task in the order of submission. They sort with the newest first.
#[must_use]
pub fn ended(first_seq: u64) -> Vec<u8> {
    format!("ended/{:020}", u64::MAX - first_seq).into_bytes()
}

/// A transcript; those of a task sort by lease.
#[must_use]
pub fn log(task: TaskId, token: Token) -> Vec<u8> {
    format!("log/{task}/{:020}-{:020}", token.epoch.0, token.counter).into_bytes()
}

/// A result kept aside.
#[must_use]
pub fn aside(number: u64) -> Vec<u8> {
    [b"aside/".as_slice(), &number.to_be_bytes()].concat()
}

/// A line of the audit log.
#[must_use]
pub fn audit(number: u64) -> Vec<u8> {
    [b"audit/".as_slice(), &number.to_be_bytes()].concat()
}

/// The number at the end of a key.
#[must_use]
pub fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk()?))
}
