//! Pure rendering of runs: records in, text out. No I/O and no clock; the same records give the same
//! text.
//!
//! - [`table`] for people and READMEs, [`markdown`] for GitHub, [`csv`] for spreadsheets, [`json`] and
//!   [`json_lines`] for programs.
//! - [`story`] tells what became of tasks, a line a step.
//! - [`Sheet`] renders any other list in the same three shapes.
//!
//! Two rules hold in every shape: a figure that was not obtained is left out, and an estimated figure is
//! marked as such and never stands in a column of measured ones.
#![forbid(unsafe_code)]

pub mod number;
mod runs;
mod sheet;
mod story;
mod text;

pub use runs::{
    Context, csv, csv_header, decode_per_token, json, json_lines, markdown, prefill_per_token, table,
};
pub use sheet::{Align, Column, Sheet};
pub use story::{Step, story};
pub use text::{printable, printable_json};

#[cfg(test)]
mod fixtures;
