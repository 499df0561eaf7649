//! What goes to standard output.

use std::io::{self, Write};

use clap::ValueEnum;
use edgeprof_report::{Sheet, printable_json};
use serde::Serialize;
use serde_json::Value;

use crate::exit::Failure;

/// Shape of what goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// A Markdown table.
    Md,
}

/// Writes to standard output. A reader that has gone away is no error: `edgeprof jobs | head`.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::usage(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes to standard error. That nobody reads it is no reason to end.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// A list in the asked shape; `empty` is what a person reads where there is nothing.
pub(crate) fn list(format: Format, items: &[Value], sheet: &Sheet, empty: &str) -> String {
    match format {
        Format::Table if sheet.is_empty() => format!("{empty}\n"),
        Format::Table => sheet.table(),
        Format::Json => pretty(&items),
        Format::Jsonl => items.iter().map(|item| printable_json(&format!("{item}\n"))).collect(),
        Format::Csv => sheet.csv(),
        Format::Md => sheet.markdown(),
    }
}

/// Indented JSON.
pub(crate) fn pretty(value: &impl Serialize) -> String {
    printable_json(&serde_json::to_string_pretty(value).expect("plain data is JSON")) + "\n"
}

/// A message as JSON, absent fields left out.
pub(crate) fn value(message: &impl Serialize) -> Result<Value, Failure> {
    edgeprof_proto::bridge("message", message)
        .map_err(|error| Failure::from(edgeprof_client::ClientError::from(error)))
}

/// The sheet without some of its `spare` columns, in their order, as far as it is too wide to be read as a table.
pub(crate) fn fitting(sheet: Sheet, spare: &[&str]) -> Sheet {
    sheet.fitting(terminal().unwrap_or(100).clamp(60, 160), spare)
}

/// Columns of the terminal that standard output is, if it is one.
pub(crate) fn terminal() -> Option<usize> {
    let (_rows, columns) = console::Term::stdout().size_checked()?;
    Some(columns.into())
}

#[cfg(test)]
mod tests {
    use edgeprof_report::Column;

    use super::*;

    #[test]
    fn an_empty_list_is_an_empty_array_for_programs_and_a_sentence_for_people() {
        let sheet = Sheet::new([Column::words("id")]);
        assert_eq!(list(Format::Json, &[], &sheet, "no boards"), "[]\n");
        assert_eq!(list(Format::Jsonl, &[], &sheet, "no boards"), "");
        assert_eq!(list(Format::Csv, &[], &sheet, "no boards"), "id\n");
        assert_eq!(list(Format::Table, &[], &sheet, "no boards"), "no boards\n");
    }

    #[test]
    fn an_absent_field_is_absent() {
        let task = edgeprof_client::Task { task_id: "t1".into(), ..Default::default() };
        let value = value(&task).unwrap();
        assert_eq!(value["task_id"], "t1");
        assert!(value.get("board").is_none() && value.get("error").is_none());
    }
}
