//! What a check says, and how a list of them is shown.

use edgeprof_report::{Column, Sheet};
use serde::Serialize;

use crate::{
    exit::Exit,
    output::{self, Format},
};

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As a lab needs it.
    Ok,
    /// A lab works without it, or only a part of one needs it.
    Warning,
    /// It keeps a lab from working.
    Problem,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What.
    pub(crate) check: String,
    /// How it is.
    pub(crate) status: Status,
    /// What was found.
    pub(crate) found: String,
    /// A command, or what to do; whatever is not ok has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Check {
    pub(crate) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), status: Status::Ok, found: found.into(), remedy: None }
    }

    pub(crate) fn warning(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status: Status::Warning, remedy: Some(remedy.into()), ..Self::ok(check, found) }
    }

    pub(crate) fn problem(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status: Status::Problem, ..Self::warning(check, found, remedy) }
    }
}

/// Whether anything keeps a lab from working.
pub(crate) fn verdict(checks: &[Check]) -> Exit {
    if checks.iter().any(|check| check.status == Status::Problem) { Exit::Problem } else { Exit::Ok }
}

/// The checks in the asked shape.
pub(crate) fn render(format: Format, checks: &[Check]) -> String {
    let people = format == Format::Table;
    let mut sheet = Sheet::new(["check", "status", "found", "remedy"].map(Column::words));
    for check in checks {
        // A table's remedies come below it: they are commands, to be copied whole.
        let remedy = check.remedy.clone().filter(|_| !people);
        let words = [&check.check, check.status.word(), &check.found].map(str::to_owned).map(Some);
        sheet.row(words.into_iter().chain([remedy]));
    }
    let items: Vec<_> =
        checks.iter().map(|check| serde_json::to_value(check).expect("plain data is JSON")).collect();
    if people {
        return sheet.without_empty_columns().table() + &remedies(checks);
    }
    output::list(format, &items, &sheet, "nothing was looked at")
}

fn remedies(checks: &[Check]) -> String {
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let (problems, warnings) = (count(Status::Problem), count(Status::Warning));
    let many = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let mut text = String::new();
    for status in [Status::Problem, Status::Warning] {
        for check in checks.iter().filter(|check| check.status == status) {
            let remedy = check.remedy.as_deref().unwrap_or("none is known").replace('\n', "\n  ");
            text += &format!("\n{}, {}:\n  {remedy}\n", status.word(), check.check);
        }
    }
    text += "\n";
    text += &match (problems, warnings) {
        (0, 0) => "nothing keeps a lab from working here\n".to_owned(),
        (0, _) => format!("nothing keeps a lab from working here; {}\n", many(warnings, "warning")),
        (_, 0) => format!("{}\n", many(problems, "problem")),
        _ => format!("{}, {}\n", many(problems, "problem"), many(warnings, "warning")),
    };
    edgeprof_report::printable(&text)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::ok("clock", "2026-01-01T00:00:00Z"),
            Check::warning("multicast", "none", "edgeprof-coordinator --worker HOST:7451"),
            Check::problem("port 7450", "held by process 7 (python3)", "kill 7"),
        ]
    }

    #[test]
    fn remedies_come_below_the_table_problems_first() {
        expect![[r#"
            check      status   found
            ───────────────────────────────────────────────
            clock      ok       2026-01-01T00:00:00Z
            multicast  warning  none
            port 7450  problem  held by process 7 (python3)

            problem, port 7450:
              kill 7

            warning, multicast:
              edgeprof-coordinator --worker HOST:7451

            1 problem, 1 warning
        "#]]
        .assert_eq(&render(Format::Table, &checks()));
    }

    #[test]
    fn programs_get_an_array_with_the_remedy_in_place() {
        let value: serde_json::Value = serde_json::from_str(&render(Format::Json, &checks())).unwrap();
        assert_eq!(value[2]["status"], "problem");
        assert_eq!(value[2]["remedy"], "kill 7");
        assert!(value[0].get("remedy").is_none());
        assert!(render(Format::Csv, &checks()).contains("multicast,warning,none,edgeprof-coordinator"));
    }

    #[test]
    fn only_a_problem_changes_the_exit_code() {
        assert_eq!(verdict(&checks()), Exit::Problem);
        assert_eq!(verdict(&checks()[..2]), Exit::Ok);
    }
}
