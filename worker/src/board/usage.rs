//! How a board's time is used: how long it runs, how long it stands idle with work waiting, what phases take.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime},
};

use edgeprof_common::BoardId;
use edgeprof_service::telemetry::{
    metrics::{Counter, Histogram, table},
    trace::{Span, SpanContext},
};

use super::queue::Attempt;

static BUSY: LazyLock<Counter> = LazyLock::new(|| Counter::new(&table::BOARD_BUSY));
static GAP: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(&table::IDLE_GAP));
static PHASE: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(&table::PHASE));

/// The use of one board.
#[derive(Debug)]
pub struct Usage {
    board: String,
    kind: &'static str,
    running: Option<Instant>,
    ended: Option<Instant>,
}

impl Usage {
    /// Of a board that has run nothing.
    pub fn new(board: &BoardId, kind: &'static str) -> Self {
        Self { board: board.to_string(), kind, running: None, ended: None }
    }

    /// An attempt starts on it.
    pub fn begin(&mut self, attempt: &Attempt) {
        attempt.log_start();
        let now = Instant::now();
        if let Some(ended) = self.ended {
            let could = ended.max(attempt.queued);
            GAP.took(now - could, &[("kind", self.kind)], attempt.trace.as_ref());
        }
        self.running = Some(now);
    }

    /// It has ended.
    pub fn end(&mut self, attempt: &Attempt) {
        attempt.log_end();
        let now = Instant::now();
        if let Some(began) = self.running.take() {
            BUSY.add((now - began).as_secs_f64(), &[("board", &self.board), ("kind", self.kind)]);
        }
        self.ended = Some(now);
    }
}

/// A part of an attempt, which is under way until this is ended.
#[derive(Debug)]
pub struct Phase {
    name: &'static str,
    kind: &'static str,
    began: Instant,
    trace: Option<SpanContext>,
    span: Option<Span>,
}

impl Phase {
    /// It begins.
    pub fn begin(name: &'static str, kind: &'static str, attempt: &Attempt) -> Self {
        let span = attempt.trace.as_ref().map(|trace| {
            Span::child(trace, name)
                .with("edgeprof.board", attempt.lease.board.to_string())
                .with("edgeprof.kind", kind)
        });
        Self { name, kind, began: Instant::now(), trace: attempt.trace.clone(), span }
    }

    /// With an attribute, if anybody sees it.
    pub fn with(mut self, key: &'static str, value: impl FnOnce() -> String) -> Self {
        self.span = self.span.map(|span| span.with(key, value()));
        self
    }

    /// It took until now. What failed is seen in the attempt's own span.
    pub fn end(self) {
        PHASE.took(self.began.elapsed(), &[("kind", self.kind), ("phase", self.name)], self.trace.as_ref());
        if let Some(span) = self.span {
            span.end();
        }
    }

    /// The parts of a repetition: until `prefilled` the prompt was computed, and then tokens were generated.
    pub fn end_repetition(
        self,
        began: SystemTime,
        prefilled: Option<SystemTime>,
        prompt: u32,
        generated: usize,
    ) {
        if let Some((whole, prefilled)) = self.span.as_ref().zip(prefilled) {
            let part = |name| Span::child(whole.context(), name);
            part("prefill").between(began, prefilled).with("edgeprof.tokens", i64::from(prompt)).end();
            let tokens = i64::try_from(generated).unwrap_or(i64::MAX);
            part("decode").between(prefilled, SystemTime::now()).with("edgeprof.tokens", tokens).end();
        }
        self.end();
    }
}
