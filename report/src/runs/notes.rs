//! What stands under the table: why cells failed, how figures came to be, and the generated text.

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::run::{RunRecord, RunState};

use super::{Context, cell::state_word, table::provenances};
use crate::text::{clipped, one_line, printable};

/// Texts shown at most; a matrix over lengths has one for each cell.
const MAX_TEXTS: usize = 6;

/// Characters shown of a text at most.
const MAX_TEXT: usize = 800;

/// The board that a cell ran on, or the selector that it waited for.
pub(super) fn board_name(run: &RunRecord, context: &Context) -> String {
    match (&run.board, context.selectors.get(&run.task_id)) {
        (Some(board), _) => board.id.to_string(),
        (None, Some(selector)) => one_line(selector),
        (None, None) => crate::number::ABSENT.to_owned(),
    }
}

/// A line under the table.
pub(super) struct Note {
    pub(super) indent: &'static str,
    pub(super) text: String,
}

impl Note {
    fn plain(text: &str) -> Self {
        Self { indent: "", text: one_line(text) }
    }
}

/// Whether there is something to say beside the state.
pub(super) fn has_problem(run: &RunRecord) -> bool {
    run.state != RunState::Ok && (run.error.is_some() || !run.reasons.is_empty())
}

/// Why cells are not `ok`, numbered as in the table.
pub(super) fn problems(runs: &[RunRecord]) -> Vec<Note> {
    let mut notes = Vec::new();
    for (i, run) in runs.iter().filter(|run| has_problem(run)).enumerate() {
        let said = match &run.error {
            Some(error) => one_line(&format!("{} ({})", error.message, error.code)),
            None => one_line(&run.reasons.join("; ")),
        };
        notes.push(Note::plain(&format!("[{}] {}: {said}", i + 1, state_word(run.state))));
        if let Some(hint) = run.error.as_ref().and_then(|error| error.hint.as_ref()) {
            notes.push(Note { indent: "    ", text: one_line(&format!("hint: {hint}")) });
        }
    }
    notes
}

/// How the figures came to be, one line for counts and one for estimates.
pub(super) fn provenance(runs: &[RunRecord]) -> Vec<Note> {
    let mut notes = Vec::new();
    for (provenance, counter) in provenances(runs) {
        let emulators: BTreeSet<String> = runs
            .iter()
            .filter_map(|run| run.environment.as_ref())
            .filter_map(|e| {
                Some(format!("{} {}", e.emulator.as_ref()?, e.version.as_deref().unwrap_or_default()))
            })
            .map(|name| one_line(name.trim()))
            .collect();
        let by = emulators.into_iter().collect::<Vec<_>>().join(", ");
        notes.push(Note::plain(&match provenance {
            "emulated" if by.is_empty() => format!("counts: emulated {counter}, the same on every run"),
            "emulated" => format!("counts: emulated {counter} ({by}), the same on every run"),
            _ => format!("counts: {provenance} {counter}"),
        }));
    }
    let estimates: BTreeSet<(&str, &str)> = runs
        .iter()
        .filter_map(|run| run.estimate.as_ref())
        .map(|e| (e.calibration.as_str(), e.model.as_str()))
        .collect();
    let calibrations: BTreeSet<&str> = estimates.iter().map(|(calibration, _)| *calibration).collect();
    for calibration in calibrations {
        let models: Vec<_> = estimates.iter().filter(|(c, _)| *c == calibration).map(|(_, m)| *m).collect();
        notes.push(Note::plain(&format!("~ tok/s: estimated from {}, {calibration}", models.join(", "))));
    }
    notes
}

/// Each distinct generated text with who generated it.
pub(super) fn texts(runs: &[RunRecord], context: &Context) -> Vec<(String, String)> {
    let with_text: Vec<(&RunRecord, &str)> = runs
        .iter()
        .filter_map(|run| Some((run, run.workload.output_text.as_deref()?)))
        .filter(|(run, _)| run.workload.n_gen.is_some_and(|n| n > 0))
        .collect();
    let mut groups: Vec<(&str, Vec<&RunRecord>)> = Vec::new();
    let mut known = BTreeMap::new();
    for (run, text) in &with_text {
        let at = *known.entry(*text).or_insert_with(|| {
            groups.push((*text, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(run);
    }
    let (shown, left) = (groups.len().min(MAX_TEXTS), groups.len().saturating_sub(MAX_TEXTS));
    let alone = groups.len() == 1;
    let mut out: Vec<(String, String)> = groups[..shown]
        .iter()
        .map(|(text, runs)| {
            (
                title(runs, with_text.len(), alone, context),
                clipped(printable(text).trim_matches('\n'), MAX_TEXT),
            )
        })
        .collect();
    if left > 0 {
        out.push((format!("… and {left} more texts: see -o json"), String::new()));
    }
    out
}

fn title(group: &[&RunRecord], of: usize, alone: bool, context: &Context) -> String {
    let boards: BTreeSet<String> = group.iter().map(|run| board_name(run, context)).collect();
    let many = boards.len() == group.len();
    let what = if many { "boards" } else { "cells" };
    match (alone, of) {
        (true, 1) => "generated text:".to_owned(),
        (true, 2) => format!("both {what} generated the same text:"),
        (true, _) => format!("all {of} {what} generated the same text:"),
        (false, _) => {
            let mut who: Vec<String> = group
                .iter()
                .map(|run| one_line(&format!("{} {}", board_name(run, context), run.scenario)))
                .collect();
            let more = who.len().saturating_sub(3);
            who.truncate(3);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more} generated:", who.join(", "))
        }
    }
}
