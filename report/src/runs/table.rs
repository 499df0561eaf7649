//! Runs for people: one row a cell, what is common above, how the figures came to be below.

use std::collections::BTreeSet;

use edgeprof_common::run::{Counter, Provenance, RunRecord, RunState};

use super::{
    Context,
    cell::{check_word, counter, decode_per_token, prefill_per_token, state_word, unit},
    notes,
};
use crate::{
    number,
    sheet::{Column, Sheet},
    text::{one_line, wrapped},
};

/// Columns that a narrow terminal can do without, the first to go first.
const SPARE: [&str; 4] = ["weights", "cpu", "check", "arena"];

/// Runs as an aligned table, with what is common above, and the generated text below.
pub fn table(runs: &[RunRecord], context: &Context) -> String {
    render(runs, context, false)
}

/// Runs as a GitHub table with the same lines around it.
pub fn markdown(runs: &[RunRecord], context: &Context) -> String {
    render(runs, context, true)
}

fn render(runs: &[RunRecord], context: &Context, markdown: bool) -> String {
    if runs.is_empty() {
        return "no runs\n".to_owned();
    }
    let (varying, constant) = settings(runs);
    let sheet = sheet(runs, context, &varying);
    let common = constant.join(" · ");
    let (problems, footer) = (notes::problems(runs), notes::provenance(runs));
    let texts = notes::texts(runs, context);
    let mut out = String::new();
    if markdown {
        if !common.is_empty() {
            out += &format!("{common}\n\n");
        }
        out += &sheet.markdown();
        for note in problems.iter().chain(&footer) {
            out += &format!("\n{}\n", note.text);
        }
        for (title, text) in texts {
            out += &format!("\n{title}\n\n");
            out += &wrapped(&text, "> ", usize::MAX);
        }
        return out;
    }
    if !common.is_empty() {
        // A line may end between two settings, not within one.
        let bound = constant.iter().map(|text| text.replace(' ', "\u{a0}")).collect::<Vec<_>>().join(" · ");
        out += &wrapped(&bound.replace(" · ", "\u{a0}· "), "", context.width).replace('\u{a0}', " ");
        out.push('\n');
    }
    let sheet = match context.terminal {
        Some(width) => sheet.fitting(width, &SPARE),
        None => sheet,
    };
    out += &sheet.table();
    out.push('\n');
    for note in problems.iter().chain(&footer) {
        out += &wrapped(&note.text, note.indent, context.width);
    }
    for (title, text) in texts {
        out += &format!("\n{title}\n");
        out += &wrapped(&text, "  ", context.width);
    }
    out
}

/// A column that tells one cell of a matrix from another.
struct Setting {
    name: &'static str,
    cells: Vec<Option<String>>,
    figures: bool,
}

/// Settings that differ between the runs, and those that are the same in all, ready to be read.
fn settings(runs: &[RunRecord]) -> (Vec<Setting>, Vec<String>) {
    type Get = fn(&RunRecord) -> Option<String>;
    let all: [(&'static str, bool, Get); 11] = [
        ("model", false, |r| Some(one_line(&r.model.name))),
        ("quant", false, |r| Some(r.model.quant.to_string())),
        ("kv", false, |r| Some(r.model.kv.to_string())),
        ("ctx", true, |r| r.model.ctx.map(|n| n.to_string())),
        ("prompt", true, |r| r.workload.n_prompt.map(|n| n.to_string())),
        ("gen", true, |r| Some(r.workload.n_gen_max.to_string())),
        ("depth", true, |r| Some(r.workload.n_depth.to_string())),
        ("temp", true, |r| Some(r.workload.temperature.to_string())),
        ("seed", true, |r| Some(r.workload.seed.to_string())),
        ("firmware", false, |r| r.firmware.as_ref().map(|f| one_line(&f.version))),
        ("suite", false, |r| r.suite.as_deref().map(one_line)),
    ];
    let (mut varying, mut constant) = (Vec::new(), Vec::new());
    for (name, figures, get) in all {
        let cells: Vec<_> = runs.iter().map(get).collect();
        // A cell that failed early lacks some of its settings: that alone does not make a column.
        let mut known = cells.iter().flatten();
        let Some(first) = known.next() else { continue };
        if known.any(|value| value != first) {
            varying.push(Setting { name, cells, figures });
        } else {
            constant.extend(sentence(name, first, &runs[0]));
        }
    }
    let labels: Vec<_> = runs[0].labels.iter().map(|(k, v)| one_line(&format!("{k}={v}"))).collect();
    if !labels.is_empty() && runs.iter().all(|run| run.labels == runs[0].labels) {
        constant.push(labels.join(" "));
    }
    (varying, constant)
}

/// A setting that is the same in every run, or nothing where it is the default.
fn sentence(name: &str, value: &str, run: &RunRecord) -> Option<String> {
    Some(match name {
        "model" => match run.model.params {
            Some(params) => format!("model {value} ({} parameters)", number::params(params)),
            None => format!("model {value}"),
        },
        "quant" => format!("weights {value}"),
        "kv" => format!("kv {value}"),
        "ctx" => format!("context {value}"),
        "prompt" => format!("prompt {value} tokens"),
        "gen" => format!("generate up to {value}"),
        "depth" if value == "0" => return None,
        "temp" if value == "0" => "greedy".to_owned(),
        "temp" => format!("temperature {value}"),
        // Greedy sampling draws nothing.
        "seed" if run.workload.temperature == 0.0 => return None,
        name => format!("{name} {value}"),
    })
}

fn sheet(runs: &[RunRecord], context: &Context, varying: &[Setting]) -> Sheet {
    let units: BTreeSet<&str> = runs.iter().filter_map(counter).map(unit).collect();
    // Counts of different counters cannot share a column's unit: each figure carries its own.
    let shared = (units.len() == 1).then(|| units.first().copied()).flatten();
    let per = shared.or((!units.is_empty()).then_some("per token"));
    let with_kind = runs.iter().filter_map(|r| r.board.as_ref()).any(|b| !b.id.as_str().contains(&b.kind));
    let mut columns = vec![Column::words("board")];
    if with_kind {
        columns.push(Column::words("kind"));
    }
    columns.push(Column::words("cpu"));
    columns.extend(varying.iter().map(|s| match s.figures {
        true => Column::figures(s.name, None),
        false => Column::words(s.name),
    }));
    columns.extend([
        Column::figures("prefill", per),
        Column::figures("decode", per),
        Column::figures("decode", Some("tok/s")),
        Column::figures("estimated", Some("tok/s")),
        Column::figures("arena", None),
        Column::figures("weights", None),
        Column::words("check"),
        Column::words("state"),
    ]);
    let mut sheet = Sheet::new(columns);
    let mut problem = 0;
    for (i, run) in runs.iter().enumerate() {
        let board = run.board.as_ref();
        let figure = |value: Option<f64>| {
            let text = number::count(value?);
            match (shared, counter(run)) {
                (None, Some(counter)) => Some(format!("{text} {}", unit(counter).trim_end_matches("/token"))),
                _ => Some(text),
            }
        };
        let mut row = vec![Some(notes::board_name(run, context))];
        if with_kind {
            row.push(board.map(|b| b.kind.clone()));
        }
        row.push(board.map(|b| b.cpu.clone()));
        row.extend(varying.iter().map(|setting| setting.cells[i].clone()));
        row.extend([
            figure(prefill_per_token(run)),
            figure(decode_per_token(run)),
            run.timing.as_ref().and_then(|t| t.decode_tokens_per_second).map(number::speed),
            run.estimate
                .as_ref()
                .map(|e| number::estimated(e.decode_tokens_per_second.low, e.decode_tokens_per_second.high)),
            run.memory.as_ref().map(|m| number::bytes(m.arena)),
            run.model.weight_bytes.map(number::bytes),
            check_word(run),
        ]);
        row.push(Some(if notes::has_problem(run) {
            problem += 1;
            format!("{} [{problem}]", state_word(run.state))
        } else {
            state_word(run.state).to_owned()
        }));
        sheet.row(row);
    }
    sheet.without_empty_columns()
}

/// Whether figures of two runs may share a unit and a way of coming to be.
pub(super) fn provenances(runs: &[RunRecord]) -> BTreeSet<(&'static str, &'static str)> {
    runs.iter()
        .filter(|run| run.state != RunState::Refused)
        .filter_map(|run| {
            let provenance = match run.provenance? {
                Provenance::Measured => "measured",
                Provenance::Emulated => "emulated",
                Provenance::Estimated => "estimated",
            };
            let counter = match counter(run)? {
                Counter::Instructions => "instructions",
                Counter::Cycles => "cycles",
                Counter::Ns => "ns",
            };
            Some((provenance, counter))
        })
        .collect()
}
