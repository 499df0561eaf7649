//! Instruments that values are recorded with. Until telemetry is started, and where it is off, recording does
//! nothing.

pub mod table;

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{AsyncInstrument, Meter},
};
use prometheus_client::metrics::{
    exemplar::HistogramWithExemplars,
    family::{Family, MetricConstructor},
};

use super::trace::SpanContext;
use table::{ALL, Instrument, Kind};

/// The scope of all instruments.
const SCOPE: &str = "edgeprof";

static ON: AtomicBool = AtomicBool::new(false);

/// A name and a value.
pub type Label<'a> = (&'static str, &'a str);

/// Prometheus' names have no dots.
type Labels = Vec<(String, String)>;

/// What a scraped bucket says of the trace that fell into it last.
type TraceLabel = [(&'static str, String); 1];

/// A histogram as it is scraped: OpenTelemetry's has no exemplars.
pub(super) type Scraped = Family<Labels, HistogramWithExemplars<TraceLabel>, Buckets>;

/// Bounds of a histogram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets(&'static [f64]);

impl MetricConstructor<HistogramWithExemplars<TraceLabel>> for Buckets {
    fn new_metric(&self) -> HistogramWithExemplars<TraceLabel> {
        HistogramWithExemplars::new(self.0.iter().copied())
    }
}

/// All that are scraped, by name.
pub(super) static HISTOGRAMS: LazyLock<BTreeMap<&'static str, (Instrument, Scraped)>> = LazyLock::new(|| {
    let histograms = ALL.iter().filter_map(|instrument| match instrument.kind {
        Kind::Histogram(bounds) => {
            let family = Family::new_with_constructor(Buckets(bounds));
            Some((instrument.name, (*instrument, family)))
        }
        _ => None,
    });
    histograms.collect()
});

/// From now on values are recorded.
pub(super) fn switch_on() {
    ON.store(true, Relaxed);
}

/// Whether values are recorded: what is costly to find out need not be.
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

fn meter() -> Meter {
    global::meter(SCOPE)
}

/// Counts.
#[derive(Clone, Debug)]
pub struct Counter(opentelemetry::metrics::Counter<f64>);

impl Counter {
    /// The one of the table.
    pub fn new(of: &Instrument) -> Self {
        debug_assert_eq!(of.kind, Kind::Counter);
        Self(meter().f64_counter(of.name).with_unit(of.unit).with_description(of.what).build())
    }

    /// Adds one.
    pub fn one(&self, labels: &[Label<'_>]) {
        self.add(1.0, labels);
    }

    /// Adds.
    pub fn add(&self, n: f64, labels: &[Label<'_>]) {
        if is_on() {
            self.0.add(n, &attributes(labels));
        }
    }
}

/// Sees how values are distributed.
#[derive(Clone, Debug)]
pub struct Histogram {
    sent: opentelemetry::metrics::Histogram<f64>,
    scraped: Option<Scraped>,
}

impl Histogram {
    /// The one of the table.
    pub fn new(of: &Instrument) -> Self {
        let Kind::Histogram(bounds) = of.kind else { unreachable!("{} is no histogram", of.name) };
        let meter = meter();
        let sent = meter.f64_histogram(of.name).with_unit(of.unit).with_description(of.what);
        let sent = sent.with_boundaries(bounds.to_vec()).build();
        Self { sent, scraped: HISTOGRAMS.get(of.name).map(|(_, family)| family.clone()) }
    }

    /// Records a value, with the trace that it is of.
    pub fn record(&self, value: f64, labels: &[Label<'_>], trace: Option<&SpanContext>) {
        if !is_on() {
            return;
        }
        self.sent.record(value, &attributes(labels));
        if let Some(family) = &self.scraped {
            let labels =
                labels.iter().map(|(key, value)| (key.replace('.', "_"), (*value).to_owned())).collect();
            let trace = trace.filter(|trace| trace.is_sampled());
            let trace = trace.map(|trace| [("trace_id", trace.trace_id().to_string())]);
            family.get_or_create_owned(&labels).observe(value, trace, None);
        }
    }

    /// Records a span of time.
    pub fn took(&self, time: Duration, labels: &[Label<'_>], trace: Option<&SpanContext>) {
        self.record(time.as_secs_f64(), labels, trace);
    }
}

fn attributes(labels: &[Label<'_>]) -> Vec<KeyValue> {
    labels.iter().map(|(key, value)| KeyValue::new(*key, (*value).to_owned())).collect()
}

/// Takes present values.
#[allow(missing_debug_implementations)]
pub struct Observer<'a>(&'a dyn AsyncInstrument<f64>);

impl Observer<'_> {
    /// This is one of the values.
    pub fn is(&self, value: f64, labels: &[Label<'_>]) {
        self.0.observe(value, &attributes(labels));
    }
}

/// Has `look` asked whenever values are wanted: for gauges, and for counters that somebody else keeps. It must not
/// wait for anything.
pub fn observe(of: &Instrument, look: impl Fn(&Observer<'_>) + Send + Sync + 'static) {
    if !is_on() {
        return;
    }
    let (meter, look) = (meter(), move |instrument: &dyn AsyncInstrument<f64>| look(&Observer(instrument)));
    match of.kind {
        Kind::Gauge => {
            let gauge = meter.f64_observable_gauge(of.name).with_unit(of.unit).with_description(of.what);
            gauge.with_callback(look).build();
        }
        Kind::Counter => {
            let counter = meter.f64_observable_counter(of.name).with_unit(of.unit).with_description(of.what);
            counter.with_callback(look).build();
        }
        Kind::Histogram(_) => unreachable!("{} is a histogram: values are recorded with it", of.name),
    }
}
