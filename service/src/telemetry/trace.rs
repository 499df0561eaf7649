//! Spans. They are made with times and ids of the caller's choice, and handed over once they have ended: what a
//! task went through is told after it happened, and goes on over restarts of the process that tells it.

use std::{
    borrow::Cow,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, InstrumentationScope,
    trace::{SpanId, Status, TraceContextExt, TraceFlags, TraceState},
};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

pub use opentelemetry::{
    KeyValue,
    context::FutureExt,
    trace::{SpanContext, SpanId as Id, SpanKind as Kind},
};

use super::flow::FLOWS;

/// The header, and the field, that carries a span's context: W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";

pub(super) static SINK: OnceLock<Sink> = OnceLock::new();

/// Where ended spans go.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) processor: BatchSpanProcessor,
    pub(super) ratio: f64,
    pub(super) scope: InstrumentationScope,
}

/// Whether spans go anywhere.
pub fn is_on() -> bool {
    SINK.get().is_some()
}

/// A context as `traceparent` has it: `00-TRACE-SPAN-FLAGS`.
pub fn to_text(context: &SpanContext) -> String {
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags)
}

/// A context from the text of a `traceparent`; nothing where it is none.
pub fn from_text(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let shaped = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    // Later versions may have more parts; the first has not.
    if !shaped || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace.into(), span.into(), flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// The context that the caller's work belongs to, as far as it has one.
pub fn current() -> Option<SpanContext> {
    let context = Context::current().span().span_context().clone();
    context.is_valid().then_some(context)
}

/// The same, for the work of a future: give it to [`FutureExt::with_context`].
pub fn within(context: &SpanContext) -> Context {
    Context::new().with_remote_span_context(context.clone())
}

/// Something that takes time. Nothing is told of it before it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    context: SpanContext,
    parent: SpanId,
    remote: bool,
    kind: Kind,
    name: Cow<'static, str>,
    start: SystemTime,
    end: Option<SystemTime>,
    attributes: Vec<KeyValue>,
    error: Option<String>,
}

impl Span {
    /// The first of a trace, which is kept or not by the configured ratio.
    pub fn root(name: impl Into<Cow<'static, str>>) -> Self {
        let trace = RandomIdGenerator::default().new_trace_id();
        let flags = match SINK.get() {
            Some(sink) if kept(u128::from_be_bytes(trace.to_bytes()), sink.ratio) => TraceFlags::SAMPLED,
            _ => TraceFlags::default(),
        };
        let parent = SpanContext::new(trace, SpanId::INVALID, flags, false, TraceState::default());
        Self::child(&parent, name)
    }

    /// A part of what `parent` is about.
    pub fn child(parent: &SpanContext, name: impl Into<Cow<'static, str>>) -> Self {
        let id =
            if parent.is_sampled() { RandomIdGenerator::default().new_span_id() } else { SpanId::INVALID };
        Self {
            context: sibling(parent, id),
            parent: parent.span_id(),
            remote: parent.is_remote(),
            kind: Kind::Internal,
            name: name.into(),
            start: SystemTime::now(),
            end: None,
            attributes: Vec::new(),
            error: None,
        }
    }

    /// With an id that others know already.
    #[must_use]
    pub fn with_id(mut self, id: SpanId) -> Self {
        self.context = sibling(&self.context, id);
        self
    }

    /// Of another kind than internal.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// With another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Of a time that the caller knows.
    #[must_use]
    pub fn between(mut self, start: SystemTime, end: SystemTime) -> Self {
        self.start = start;
        self.end = Some(end.max(start));
        self
    }

    /// That began before.
    #[must_use]
    pub fn since(mut self, start: SystemTime) -> Self {
        self.start = start;
        self
    }

    /// With an attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<opentelemetry::Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// That did not do what it was to do, and why.
    #[must_use]
    pub fn failed(mut self, why: impl Into<String>) -> Self {
        self.error = Some(why.into());
        self
    }

    /// Its context, for what is part of it.
    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the span that it is a part of.
    pub fn parent(&self) -> SpanId {
        self.parent
    }

    /// How long it took, once it has ended.
    pub fn took(&self) -> Option<Duration> {
        self.end?.duration_since(self.start).ok()
    }

    /// Hands it over. It ends now, unless the caller knew when.
    pub fn end(self) {
        let Some(sink) = SINK.get().filter(|_| self.context.is_sampled()) else { return };
        if !FLOWS[0].enter() {
            return;
        }
        let Self { context, parent, remote, kind, name, start, end, attributes, error } = self;
        sink.processor.on_end(SpanData {
            span_context: context,
            parent_span_id: parent,
            parent_span_is_remote: remote,
            span_kind: kind,
            name,
            start_time: start,
            end_time: end.unwrap_or_else(SystemTime::now),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: sink.scope.clone(),
        });
    }
}

/// The context of another span of the same trace, in this process.
pub fn sibling(context: &SpanContext, id: SpanId) -> SpanContext {
    SpanContext::new(context.trace_id(), id, context.trace_flags(), false, TraceState::default())
}

/// By the trace's id alone: whoever else samples by a ratio comes to the same answer.
fn kept(trace: u128, ratio: f64) -> bool {
    // The low 63 bits, as OpenTelemetry's own sampler has it.
    let low = (trace as u64) >> 1;
    ratio >= 1.0 || (low as f64) < ratio * (1_u64 << 63) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_crosses_the_wire_unchanged() {
        let context = from_text(TEXT).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(to_text(&context), TEXT);
        let not = from_text(&TEXT.replace("-01", "-00")).unwrap();
        assert!(!not.is_sampled());
        // A later version may bring more, and other flags.
        assert!(from_text(&format!("01{}-more", &TEXT[2..])).is_some());
    }

    #[test]
    fn what_is_no_context_is_none() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let cases = ["", "00", "-", zero_trace, zero_span, "é-é-é-é"];
        let damaged = [
            TEXT.to_uppercase(),
            format!("ff{}", &TEXT[2..]),
            format!("{TEXT}-x"),
            TEXT.replace("4bf9", "+bf9"),
            TEXT[..54].to_owned(),
        ];
        for text in cases.into_iter().chain(damaged.iter().map(String::as_str)) {
            assert_eq!(from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_ratio_keeps_its_share_and_the_same_traces_everywhere() {
        let kept_of =
            |ratio| (0..1000_u128).filter(|n| kept(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), ratio)).count();
        assert_eq!((kept_of(0.0), kept_of(1.0)), (0, 1000));
        assert!((200..300).contains(&kept_of(0.25)), "{}", kept_of(0.25));
    }

    #[test]
    fn a_part_has_the_trace_of_the_whole() {
        let parent = from_text(TEXT).unwrap();
        let span = Span::child(&parent, "part");
        assert_eq!(span.context().trace_id(), parent.trace_id());
        assert_eq!(span.parent(), parent.span_id());
        assert!(span.context().is_valid() && span.context().is_sampled());
    }
}
