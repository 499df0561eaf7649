//! What became of tasks, a line a step.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::text::one_line;

/// One step of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step<'a> {
    /// The task.
    pub task: &'a str,
    /// Its cell's name.
    pub scenario: &'a str,
    /// When it happened, in RFC 3339.
    pub at: &'a str,
    /// What happened, in a word.
    pub what: &'a str,
    /// Number of the attempt that it is about, where it is about one.
    pub attempt: Option<u32>,
    /// Where that attempt is.
    pub board: Option<&'a str>,
    /// Why it happened.
    pub why: Option<&'a str>,
}

/// The steps under their tasks, with times from each task's first step on. Steps of one task stand together.
pub fn story(steps: &[Step<'_>]) -> String {
    let tasks: Vec<_> = steps.chunk_by(|a, b| a.task == b.task).map(chapter).collect();
    tasks.join("\n")
}

/// The steps of one task, of which there is at least one.
fn chapter(steps: &[Step<'_>]) -> String {
    let start = moment(steps[0].at);
    let rows: Vec<[String; 5]> = steps
        .iter()
        .map(|step| {
            let why = step.why.map(one_line).unwrap_or_default();
            let attempt = step.attempt.map(|number| format!("#{number}")).unwrap_or_default();
            let board = step.board.map(one_line).unwrap_or_default();
            [since(start, step.at), one_line(step.what), attempt, board, why]
        })
        .collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let [times, words, attempts, boards] = [0, 1, 2, 3].map(width);
    let mut text =
        one_line(&format!("{} · {} · from {}", steps[0].task, steps[0].scenario, steps[0].at)) + "\n";
    for [at, what, attempt, board, why] in &rows {
        let mut line = format!("  {at:>times$}  {what:<words$}");
        for (cell, width) in [(attempt, attempts), (board, boards), (why, 0)] {
            // A column that is empty in the whole task takes no room.
            if width > 0 || !cell.is_empty() {
                line += &format!("  {cell:<width$}");
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// `+1:02:05.300` after the start; the time itself where either is none.
fn since(start: Option<OffsetDateTime>, at: &str) -> String {
    let (Some(start), Some(now)) = (start, moment(at)) else { return one_line(at) };
    let millis = (now - start).whole_milliseconds();
    // The coordinator's clock may have been set back.
    let sign = if millis < 0 { '-' } else { '+' };
    let millis = millis.unsigned_abs();
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, rest) = (millis / 1000 % 60, millis % 1000);
    match hours {
        0 => format!("{sign}{minutes}:{seconds:02}.{rest:03}"),
        _ => format!("{sign}{hours}:{minutes:02}:{seconds:02}.{rest:03}"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn step<'a>(task: &'a str, at: &'a str, what: &'a str) -> Step<'a> {
        Step { task, scenario: "p16 n16", at, what, ..Step::default() }
    }

    #[test]
    fn a_story_is_told_task_by_task_in_times_of_its_own() {
        let on = |step, attempt, board| Step { attempt: Some(attempt), board: Some(board), ..step };
        let steps = [
            step("t1", "2026-01-01T10:00:00Z", "submitted"),
            on(step("t1", "2026-01-01T10:00:00.0125Z", "offered"), 1, "host-1/riscv32.0"),
            Step {
                why: Some("the worker host-1\nis dead"),
                ..on(step("t1", "2026-01-01T10:01:05.3Z", "lost"), 1, "host-1/riscv32.0")
            },
            on(step("t1", "2026-01-01T11:02:05Z", "succeeded"), 2, "b/r"),
            step("t2", "2026-01-01T10:00:00+02:00", "submitted"),
            Step { why: Some("asked for"), ..step("t2", "2026-01-01T07:59:59Z", "cancelled") },
        ];
        expect![[r#"
            t1 · p16 n16 · from 2026-01-01T10:00:00Z
                 +0:00.000  submitted
                 +0:00.012  offered    #1  host-1/riscv32.0
                 +1:05.300  lost       #1  host-1/riscv32.0  the worker host-1 is dead
              +1:02:05.000  succeeded  #2  b/r

            t2 · p16 n16 · from 2026-01-01T10:00:00+02:00
              +0:00.000  submitted
              -0:01.000  cancelled  asked for
        "#]]
        .assert_eq(&story(&steps));
        assert_eq!(story(&[]), "");
    }

    #[test]
    fn what_others_say_reaches_no_terminal_raw() {
        let steps = [Step { why: Some("\u{1b}[31m"), ..step("t\u{7}", "whenever", "lost\r") }];
        expect![[r#"
            t\u{7} · p16 n16 · from whenever
              whenever  lost\u{d}  \u{1b}[31m
        "#]]
        .assert_eq(&story(&steps));
    }
}
