//! What happened, for a reader; and what must not have.

use std::{collections::BTreeMap, fmt::Display};

use edgeprof_scheduler::{Frame, LeaseRef, Order, Phase, SessionId, Standing, TaskRow};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) what: String,
    /// Tasks, boards or workers that a reader wants to follow.
    pub(crate) about: Vec<String>,
}

pub(crate) fn violation(what: impl AsRef<str>, about: &dyn Display) -> Violation {
    Violation::new(what.as_ref(), [about.to_string()])
}

/// Task ids are small numbers here: the zeros before them say nothing.
fn short(text: &str) -> String {
    text.replace("t00000000000000000000000", "t")
}

impl Violation {
    pub(crate) fn new(what: &str, about: impl IntoIterator<Item = String>) -> Self {
        Self { what: short(what), about: about.into_iter().map(|name| short(&name)).collect() }
    }

    pub(crate) fn and(mut self, about: &dyn Display) -> Self {
        self.about.push(short(&about.to_string()));
        self
    }
}

/// The event log; keeps nothing unless it is wanted.
pub(crate) struct Log {
    wanted: bool,
    lines: Vec<String>,
    /// The last heartbeat of each session: it is told again only if it differs.
    beats: BTreeMap<SessionId, String>,
}

impl Log {
    pub(crate) const fn new(wanted: bool) -> Self {
        Self { wanted, lines: Vec::new(), beats: BTreeMap::new() }
    }

    pub(crate) fn line(&mut self, at: u64, text: impl FnOnce() -> String) {
        if self.wanted {
            self.lines.push(format!("{:>9.3}  {}", at as f64 / 1000.0, short(&text())));
        }
    }

    pub(crate) fn heard(&mut self, at: u64, session: SessionId, who: impl FnOnce() -> String, heard: &Frame) {
        if !self.wanted {
            return;
        }
        let text = format!("{}: {}", who(), frame(heard));
        let beat = matches!(heard, Frame::Heartbeat { .. });
        if !beat || self.beats.insert(session, text.clone()).as_ref() != Some(&text) {
            self.line(at, || text);
        }
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.lines
    }

    /// The last lines that name one of these, or a fault.
    pub(crate) fn about(&self, names: &[String], most: usize) -> Vec<&str> {
        let named = |line: &&String| line.contains(" !! ") || names.iter().any(|name| line.contains(name));
        let mut lines: Vec<&str> = self.lines.iter().rev().filter(named).take(most).map(|l| &**l).collect();
        lines.reverse();
        lines
    }
}

pub(crate) fn lease(lease: &LeaseRef) -> String {
    format!("{} under {} on {}", lease.task, lease.token, lease.board)
}

pub(crate) fn order(order: &Order) -> String {
    match order {
        Order::Start { lease: l, attempt } => format!("start {}, attempt {}", lease(l), attempt.0),
        Order::Canary { lease: l } => format!("canary {}", lease(l)),
        Order::Recall { lease: l } => format!("recall {}", lease(l)),
        Order::Reset { board } => format!("reset {board}"),
        Order::Cancel { lease: l } => format!("cancel {}", lease(l)),
        Order::Ack { lease: l, duplicate: false } => format!("ack {}", lease(l)),
        Order::Ack { lease: l, duplicate: true } => format!("ack duplicate {}", lease(l)),
    }
}

fn frame(frame: &Frame) -> String {
    match frame {
        Frame::Heard => "heard".into(),
        Frame::Heartbeat { held, last_command, draining, .. } => {
            let held = held.iter().map(|held| format!("{:?} {}", held.state, lease(&held.lease)));
            let held = held.collect::<Vec<_>>().join(", ");
            let draining = if *draining { ", draining" } else { "" };
            format!("heartbeat up to command {}, held: [{held}]{draining}", last_command.0)
        }
        Frame::Board(report) => {
            format!("board {} {}, idle: {}, queue {}", report.id, report.health, report.idle, report.queue)
        }
        Frame::Accepted(l) => format!("accepted {}", lease(l)),
        Frame::Rejected { lease: l, reason, .. } => format!("rejected {reason:?} {}", lease(l)),
        Frame::Started(l) => format!("started {}", lease(l)),
        Frame::Progress { lease: l, .. } => format!("progress {}", lease(l)),
        Frame::Result { lease: l, outcome } => format!("result {outcome:?} {}", lease(l)),
    }
}

pub(crate) fn row(row: &TaskRow) -> String {
    let Standing { phase, failures, spent, deaths, attempt, past, .. } = &row.standing;
    let phase = match phase {
        Phase::Leased(l) => format!("leased {} on {}", l.token, l.board),
        other => format!("{other:?}").to_lowercase(),
    };
    let counts = format!("failures {failures}, spent {spent}, deaths {deaths}");
    format!("row {} {phase}; attempt {}, {counts}, past {past:?}", row.id, attempt.0)
}
