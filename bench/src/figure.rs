//! A figure: what was measured how often, beside what, and whether that is good enough.

use std::borrow::Cow;

use edgeprof_report::{Column, Sheet};
use serde::{Deserialize, Serialize};

/// Median and extremes of repeated measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) n: usize,
}

/// The value below which `share` of all lie, by the nearest rank; absent where there is none.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

impl Spread {
    /// Absent where nothing was measured.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: quantile(values, 0.5)?,
            low: quantile(values, 0.0)?,
            high: quantile(values, 1.0)?,
            n: values.len(),
        })
    }
}

/// Another value of the same run and the same unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Beside {
    what: String,
    value: f64,
    ratio: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Goal {
    text: String,
    met: bool,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    name: String,
    unit: Cow<'static, str>,
    #[serde(flatten)]
    spread: Option<Spread>,
    beside: Vec<Beside>,
    goal: Option<Goal>,
    /// Where the numbers come from.
    source: String,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: &[f64], source: &str) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            spread: Spread::of(values),
            beside: Vec::new(),
            goal: None,
            source: source.to_owned(),
        }
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.spread.map(|spread| spread.median)
    }

    /// Says under what conditions that this machine does not have it was measured, in a word and in a sentence.
    pub(crate) fn emulated(mut self, word: &str, sentence: &str) -> Self {
        self.name = format!("{}, {word} (emulated)", self.name);
        self.source = format!("{}; {sentence}", self.source);
        self
    }

    /// Puts another value of the same unit beside it.
    pub(crate) fn beside(mut self, what: impl Into<String>, value: Option<f64>) -> Self {
        if let (Some(value), Some(median)) = (value, self.median()) {
            self.beside.push(Beside { what: what.into(), value, ratio: median / value });
        }
        self
    }

    /// The median is to be at least this.
    pub(crate) fn at_least(self, least: f64) -> Self {
        let met = self.median().is_some_and(|median| median >= least);
        let text = format!("≥ {}", shown(least));
        self.goal(text, met)
    }

    /// The median is to be below this.
    pub(crate) fn below(self, limit: f64) -> Self {
        let met = self.median().is_some_and(|median| median < limit);
        let text = format!("< {}", shown(limit));
        self.goal(text, met)
    }

    /// Not even the highest value is to reach this.
    pub(crate) fn always_below(self, limit: f64) -> Self {
        let met = self.spread.is_some_and(|spread| spread.high < limit);
        let text = format!("all < {}", shown(limit));
        self.goal(text, met)
    }

    fn goal(mut self, text: String, met: bool) -> Self {
        self.goal = Some(Goal { text, met });
        self
    }
}

/// Three digits that matter, or all of those before the point.
fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => edgeprof_report::number::count(value),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// All figures of a run, and the machine that gave them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: &'static str,
    cores: usize,
    figures: Vec<Figure>,
}

impl Default for Report {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Self { version: env!("CARGO_PKG_VERSION"), cores, figures: Vec::new() }
    }
}

impl Report {
    pub(crate) fn extend(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }

    /// One table, and under it where each figure comes from.
    pub(crate) fn table(&self) -> String {
        let mut sheet = Sheet::new([
            Column::words("figure"),
            Column::words("unit"),
            Column::figures("median", None),
            Column::figures("low", None),
            Column::figures("high", None),
            Column::figures("n", None),
            Column::words("goal"),
            Column::words("beside, in the same run"),
            Column::figures("its value", None),
            Column::figures("ratio", None),
        ]);
        for figure in &self.figures {
            let spread = figure.spread;
            let cell = |value: fn(&Spread) -> f64| spread.as_ref().map(|spread| shown(value(spread)));
            let mut rest = figure.beside.iter();
            let first = rest.next();
            sheet.row([
                Some(figure.name.clone()),
                Some(figure.unit.to_string()),
                cell(|s| s.median),
                cell(|s| s.low),
                cell(|s| s.high),
                spread.map(|spread| spread.n.to_string()),
                Some(figure.goal.as_ref().map_or_else(String::new, |goal| {
                    format!("{} {}", goal.text, if goal.met { "met" } else { "MISSED" })
                })),
                Some(first.map_or_else(String::new, |beside| beside.what.clone())),
                Some(first.map_or_else(String::new, |beside| shown(beside.value))),
                Some(first.map_or_else(String::new, |beside| format!("{}x", shown(beside.ratio)))),
            ]);
            for beside in rest {
                let blank = std::iter::repeat_n(Some(String::new()), 7);
                let cells = [beside.what.clone(), shown(beside.value), format!("{}x", shown(beside.ratio))];
                sheet.row(blank.chain(cells.into_iter().map(Some)));
            }
        }
        let mut text = format!("{} cores\n\n{}\n\n", self.cores, sheet.table());
        for figure in &self.figures {
            text += &format!("{}: {}\n", figure.name, figure.source);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 0.5), Some(10.0));
        assert_eq!(quantile(&values, 0.95), Some(19.0));
        assert_eq!(quantile(&values, 1.0), Some(20.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_missed_goal_is_said_plainly() {
        let figure =
            Figure::new("gap", "ms", &[1.0, 3.0, 2.5], "stamps").below(2.0).beside("task", Some(50.0));
        let report = Report { figures: vec![figure], ..Report::default() };
        let table = report.table();
        assert!(table.contains("< 2.00 MISSED"), "{table}");
        assert!(table.contains("0.050x"), "{table}");
        assert!(table.contains("gap: stamps"), "{table}");
    }

    /// A goal that could not be looked at is not met.
    #[test]
    fn nothing_measured_meets_no_goal() {
        let figure = Figure::new("gap", "ms", &[], "stamps").below(2.0);
        assert!(figure.goal.is_some_and(|goal| !goal.met));
    }
}
