//! A list with named columns, as an aligned table, CSV or Markdown.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::{
    number::ABSENT,
    text::{one_line, printable},
};

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// Words.
    #[default]
    Left,
    /// Figures.
    Right,
}

/// A column's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    name: String,
    unit: Option<String>,
    align: Align,
}

impl Column {
    /// A column of words.
    pub fn words(name: impl Into<String>) -> Self {
        Self { name: name.into(), unit: None, align: Align::Left }
    }

    /// A column of figures, with their unit where it is not in the cells.
    pub fn figures(name: impl Into<String>, unit: Option<&str>) -> Self {
        Self { name: name.into(), unit: unit.map(str::to_owned), align: Align::Right }
    }

    fn one_line(&self) -> String {
        match &self.unit {
            Some(unit) => format!("{} ({unit})", self.name),
            None => self.name.clone(),
        }
    }
}

/// Rows under named columns. A cell that is `None` was not obtained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    columns: Vec<Column>,
    rows: Vec<Vec<Option<String>>>,
}

impl Sheet {
    /// No rows yet.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the columns are dropped, missing ones are absent.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Option<String>>) {
        let mut row: Vec<_> = cells.into_iter().collect();
        row.resize(self.columns.len(), None);
        self.rows.push(row);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The same without the columns that are absent in every row.
    #[must_use]
    pub fn without_empty_columns(self) -> Self {
        let keep: Vec<bool> =
            (0..self.columns.len()).map(|i| self.rows.iter().any(|row| row[i].is_some())).collect();
        let mut wanted = keep.iter();
        let columns = self.columns.into_iter().filter(|_| *wanted.next().unwrap_or(&true)).collect();
        let pick = |row: Vec<Option<String>>| {
            row.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(cell, _)| cell).collect()
        };
        Self { columns, rows: self.rows.into_iter().map(pick).collect() }
    }

    /// The same without some of the `spare` columns, in their order, as far as the table is wider than
    /// `width`.
    #[must_use]
    pub fn fitting(mut self, width: usize, spare: &[&str]) -> Self {
        for name in spare {
            if self.width() <= width {
                break;
            }
            self = self.without(name);
        }
        self
    }

    /// The same without this column, where there is one.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        if let Some(at) = self.columns.iter().position(|column| column.name == name) {
            self.columns.remove(at);
            self.rows.iter_mut().for_each(|row| drop(row.remove(at)));
        }
        self
    }

    /// Characters in the longest line of the table.
    fn width(&self) -> usize {
        let cell = |cell: &Option<String>| match cell.as_deref() {
            None | Some("") => 1,
            Some(text) => one_line(text).chars().count(),
        };
        let column = |(i, column): (usize, &Column)| {
            let unit = column.unit.as_deref().unwrap_or("");
            let head = column.name.chars().count().max(unit.chars().count());
            self.rows.iter().map(|row| cell(&row[i])).max().unwrap_or(0).max(head)
        };
        let columns: usize = self.columns.iter().enumerate().map(column).sum();
        columns + 2 * self.columns.len().saturating_sub(1)
    }

    /// For a terminal or a README: aligned, two spaces between columns, nothing at the edges.
    pub fn table(&self) -> String {
        if self.columns.is_empty() {
            return String::new();
        }
        let mut style = presets::NOTHING;
        style.header_separator.fill = Some('─');
        let mut table = Table::new();
        table.load_style(style);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(|c| match &c.unit {
            Some(unit) => format!("{}\n{unit}", c.name),
            None => c.name.clone(),
        }));
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| Cell::new(shown(cell))));
        }
        let last = self.columns.len() - 1;
        for (i, (column, head)) in table.column_iter_mut().zip(&self.columns).enumerate() {
            column.set_padding((0, if i == last { 0 } else { 2 }));
            column.set_cell_alignment(match head.align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        table.trim_fmt() + "\n"
    }

    /// As GitHub reads it.
    pub fn markdown(&self) -> String {
        let escaped = |text: String| text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.columns.iter().map(|c| escaped(c.one_line())).collect());
        out += &line(
            self.columns
                .iter()
                .map(|c| match c.align {
                    Align::Left => "---".to_owned(),
                    Align::Right => "---:".to_owned(),
                })
                .collect(),
        );
        for row in &self.rows {
            out += &line(row.iter().map(|cell| escaped(shown(cell))).collect());
        }
        out
    }

    /// RFC 4180 with `\n` line ends; an absent cell is empty.
    pub fn csv(&self) -> String {
        let mut out = csv_line(self.columns.iter().map(Column::one_line));
        for row in &self.rows {
            out += &csv_line(row.iter().map(|cell| cell.clone().unwrap_or_default()));
        }
        out
    }
}

fn shown(cell: &Option<String>) -> String {
    match cell.as_deref() {
        None | Some("") => ABSENT.to_owned(),
        Some(text) => one_line(text),
    }
}

/// One line of CSV.
pub(crate) fn csv_line(cells: impl IntoIterator<Item = String>) -> String {
    let quoted = |cell: String| {
        let cell = printable(&cell);
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    };
    cells.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn sheet() -> Sheet {
        let mut sheet =
            Sheet::new([Column::words("name"), Column::figures("speed", Some("tok/s")), Column::words("x")]);
        sheet.row([Some("a|b".into()), Some("1,234".into()), None]);
        sheet.row([Some("say \"hi\"\nnow".into()), None]);
        sheet
    }

    fn check(actual: &str, expected: &Expect) {
        expected.assert_eq(actual);
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_space() {
        check(
            &sheet().table(),
            &expect![[r#"
            name          speed  x
                          tok/s
            ──────────────────────
            a|b           1,234  –
            say "hi" now      –  –
        "#]],
        );
    }

    #[test]
    fn markdown_escapes_what_would_break_its_cells() {
        check(
            &sheet().markdown(),
            &expect![[r#"
            | name | speed (tok/s) | x |
            | --- | ---: | --- |
            | a\|b | 1,234 | – |
            | say "hi" now | – | – |
        "#]],
        );
    }

    #[test]
    fn csv_quotes_and_leaves_absent_cells_empty() {
        check(
            &sheet().csv(),
            &expect![[r#"
            name,speed (tok/s),x
            a|b,"1,234",
            "say ""hi""
            now",,
        "#]],
        );
    }

    #[test]
    fn spare_columns_go_in_order_until_the_table_fits() {
        let fitted = |width| sheet().fitting(width, &["none", "x", "speed"]).columns.len();
        assert_eq!((fitted(22), fitted(21), fitted(19), fitted(18), fitted(1)), (3, 2, 2, 1, 1));
    }

    #[test]
    fn a_column_without_any_figure_is_left_out_on_request() {
        check(
            &sheet().without_empty_columns().table(),
            &expect![[r#"
            name          speed
                          tok/s
            ───────────────────
            a|b           1,234
            say "hi" now      –
        "#]],
        );
    }
}
