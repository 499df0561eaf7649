//! What daemons say in their logs of single commits and single attempts, with times to the microsecond.
//!
//! The clock is the machine's, the same for every process.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, de::Error as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Every daemon says what it says by default.
pub(crate) const PLAIN: &str = "warn,edgeprof_coordinator=info,edgeprof_worker=info,edgeprof_service=info";

/// And the coordinator each commit.
pub(crate) const COMMITS: &str = "edgeprof_coordinator::commits=debug";

/// And a worker the start and the end of each attempt.
pub(crate) const ATTEMPTS: &str = "edgeprof_worker::attempts=debug";

/// A time in microseconds since 1970.
pub(crate) type Micros = i64;

/// The time now.
pub(crate) fn now() -> Micros {
    micros(OffsetDateTime::from(SystemTime::now()))
}

fn micros(at: OffsetDateTime) -> Micros {
    at.unix_timestamp() * 1_000_000 + i64::from(at.microsecond())
}

/// A commit of the coordinator's store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Commit {
    /// Rows that were put or removed.
    pub(crate) rows: u64,
    /// The same by sort, which says where in the store they lie.
    #[serde(deserialize_with = "sorts")]
    pub(crate) sorts: Vec<Sort>,
}

/// Rows of one sort: their keys begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) name: String,
    /// How many were put.
    pub(crate) put: usize,
    /// Of their keys and values.
    pub(crate) bytes: usize,
    /// How many were removed.
    pub(crate) removed: usize,
}

/// `NAME:PUT:BYTES:REMOVED`, with a blank between sorts.
fn sorts<'a, D: Deserializer<'a>>(text: D) -> Result<Vec<Sort>, D::Error> {
    let text = String::deserialize(text)?;
    let sort = |text: &str| {
        let mut parts = text.split(':');
        let name = parts.next()?.to_owned();
        let mut number = || parts.next()?.parse().ok();
        Some(Sort { name, put: number()?, bytes: number()?, removed: number()? })
    };
    let bad = || D::Error::custom(format!("no sorts of rows: {text:?}"));
    text.split_whitespace().map(|text| sort(text).ok_or_else(bad)).collect()
}

/// A run on a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) task: String,
    pub(crate) board: String,
    /// Digest of what it ran.
    pub(crate) image: String,
    pub(crate) started: Micros,
    /// Absent while it runs, or where it was cut short.
    pub(crate) ended: Option<Micros>,
}

#[derive(Debug, Deserialize)]
struct Line<F> {
    timestamp: String,
    fields: F,
}

#[derive(Debug, Deserialize)]
struct Edge {
    message: String,
    task: String,
    board: String,
    #[serde(default)]
    image: String,
}

fn lines<F: for<'a> Deserialize<'a>>(log: &str, target: &str) -> Vec<(Micros, F)> {
    let wanted = format!("\"target\":\"{}\"", target.trim_end_matches("=debug"));
    let parsed = log.lines().filter(|line| line.contains(&wanted)).filter_map(|line| {
        let line: Line<F> = serde_json::from_str(line).ok()?;
        Some((micros(OffsetDateTime::parse(&line.timestamp, &Rfc3339).ok()?), line.fields))
    });
    parsed.collect()
}

/// Every commit in a coordinator's log, in order, with its time.
pub(crate) fn commits(log: &str) -> Vec<(Micros, Commit)> {
    lines(log, COMMITS)
}

/// Every run in a worker's log, in the order of their starts.
pub(crate) fn attempts(log: &str) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for (at, edge) in lines::<Edge>(log, ATTEMPTS) {
        let Edge { message, task, board, image } = edge;
        if message == "started" {
            attempts.push(Attempt { task, board, image, started: at, ended: None });
        } else if let Some(attempt) = attempts.iter_mut().rev().find(|a| a.board == board && a.task == task) {
            attempt.ended = Some(at);
        }
    }
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_the_line_of_its_start_and_that_of_its_end() {
        let line = |second: &str, message: &str, task: &str| {
            format!(
                r#"{{"timestamp":"2026-11-24T19:00:{second}Z","level":"DEBUG","fields":{{"message":"{message}","task":"{task}","board":"w/b"}},"target":"edgeprof_worker::attempts"}}"#
            )
        };
        let other =
            r#"{"timestamp":"2026-11-24T19:00:00Z","fields":{"message":"x"},"target":"edgeprof_worker"}"#;
        let log = [
            line("01.000001", "started", "a"),
            other.to_owned(),
            line("01.500001", "ended", "a"),
            line("01.500101", "started", "b"),
        ];
        let attempts = attempts(&log.join("\n"));
        assert_eq!(attempts.len(), 2);
        assert_eq!(attempts[0].ended.map(|ended| ended - attempts[0].started), Some(500_000));
        assert_eq!(attempts[0].ended.map(|ended| attempts[1].started - ended), Some(100));
        assert_eq!(attempts[1].ended, None);
    }

    #[test]
    fn a_commit_has_its_rows_by_sort() {
        let line = |sorts: &str| {
            format!(
                r#"{{"timestamp":"2026-11-24T19:00:00Z","fields":{{"message":"committed","rows":4,"bytes":900,"sorts":"{sorts}"}},"target":"edgeprof_coordinator::commits"}}"#
            )
        };
        let sort = |name: &str, put, bytes, removed| Sort { name: name.into(), put, bytes, removed };
        let sorts = vec![sort("def", 3, 890, 0), sort("open", 0, 0, 1)];
        assert_eq!(commits(&line("def:3:890:0 open:0:0:1"))[0].1, Commit { rows: 4, sorts });
        assert!(commits(&line("def:3")).is_empty());
    }
}
