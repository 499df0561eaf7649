//! Run records in every shape.

mod cell;
mod csv;
mod notes;
mod table;

use std::collections::BTreeMap;

use edgeprof_common::{TaskId, run::RunRecord};

use crate::text::printable_json;

pub use cell::{decode_per_token, prefill_per_token};
pub use csv::{csv, csv_header};
pub use table::{markdown, table};

/// What records alone do not say.
#[derive(Clone, Debug)]
pub struct Context {
    /// Board selector of a task: names the cell where it never got to a board.
    pub selectors: BTreeMap<TaskId, String>,
    /// Free text is wrapped to it.
    pub width: usize,
    /// Columns of the terminal that shows the table, if one does: figures that it has no room for are left
    /// out, since a table whose lines wrap cannot be read.
    pub terminal: Option<usize>,
}

impl Default for Context {
    fn default() -> Self {
        Self { selectors: BTreeMap::new(), width: 100, terminal: None }
    }
}

/// An array of whole records, indented.
///
/// # Panics
/// Never: a record is JSON.
pub fn json(runs: &[RunRecord]) -> String {
    printable_json(&serde_json::to_string_pretty(runs).expect("a record is JSON")) + "\n"
}

/// One whole record a line.
///
/// # Panics
/// Never: a record is JSON.
pub fn json_lines(runs: &[RunRecord]) -> String {
    let line = |run| serde_json::to_string(run).expect("a record is JSON") + "\n";
    runs.iter().map(|run| printable_json(&line(run))).collect()
}

#[cfg(test)]
mod tests;
