//! How `top` looks. Pure: the same state gives the same cells.

use edgeprof_report::{number, printable};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph, Row, Sparkline, Table},
};

use super::state::Top;

/// Workers that are shown at most; the boards take the rest.
const WORKERS: u16 = 8;

pub(super) fn draw(frame: &mut Frame<'_>, top: &Top) {
    let workers = u16::try_from(top.picture.workers.len()).unwrap_or(WORKERS).clamp(1, WORKERS) + 3;
    let areas =
        [Constraint::Length(1), Constraint::Length(5), Constraint::Length(workers), Constraint::Min(3)];
    let [head, queue, hosts, boards] = Layout::vertical(areas).areas(frame.area());
    frame.render_widget(heading(top), head);
    draw_queue(frame, top, queue);
    draw_workers(frame, top, hosts);
    draw_boards(frame, top, boards);
}

fn heading(top: &Top) -> Paragraph<'_> {
    let (busy, good) = top.busy();
    let mut spans = vec![
        Span::styled("edgeprof ", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(printable(&top.address)),
        Span::raw(format!("  {busy} of {good} good boards busy  q leaves, arrows scroll  ")),
    ];
    if let Some(why) = &top.trouble {
        spans.push(Span::styled(printable(why), Style::new().fg(Color::Red)));
    }
    Paragraph::new(Line::from(spans))
}

fn block(title: impl Into<String>) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(format!(" {} ", title.into()))
}

fn draw_queue(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area);
    let waiting = top.waiting();
    let rows = waiting.iter().map(|(class, waiting)| {
        Row::new([printable(class), waiting.jobs.to_string(), waiting.tasks.to_string()])
    });
    let widths = [Constraint::Length(10), Constraint::Length(8), Constraint::Min(8)];
    let title = if waiting.is_empty() { "no open job" } else { "class, open jobs, tasks to do" };
    frame.render_widget(Table::new(rows, widths).block(block(title)), left);

    let now = top.rates.back().map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1}"));
    // Whole numbers are drawn: tenths of a task.
    let tenths: Vec<u64> = top.rates.iter().map(|rate| (rate * 10.0) as u64).collect();
    let line = Sparkline::default().data(&tenths).block(block(format!("{now} tasks end a second")));
    frame.render_widget(line, right);
}

fn draw_workers(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let workers = &top.picture.workers;
    let rows = workers.iter().map(|worker| {
        let heard =
            worker.last_heard_ms.map_or_else(String::new, |ms| format!("{:.1} s ago", ms as f64 / 1e3));
        let health = if worker.draining { "draining" } else { &worker.health };
        let cells = [
            printable(&worker.id),
            health.to_owned(),
            worker.boards.to_string(),
            worker.attempts.to_string(),
            heard,
            printable(worker.reason.as_deref().unwrap_or_default()),
        ];
        Row::new(cells).style(colour(health))
    });
    let widths = [20, 10, 7, 9, 12].map(Constraint::Length).into_iter().chain([Constraint::Min(0)]);
    let head = Row::new(["worker", "health", "boards", "attempts", "heard", ""]);
    let more = workers.len().saturating_sub(usize::from(WORKERS));
    let title = if more > 0 { format!("workers, {more} more below") } else { "workers".to_owned() };
    let table = Table::new(rows, widths).header(head.style(Modifier::UNDERLINED)).block(block(title));
    frame.render_widget(table, area);
}

fn draw_boards(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let boards = &top.picture.boards;
    let rows = boards.iter().skip(top.first).map(|board| {
        let health = board.mark.as_deref().unwrap_or(&board.health);
        let free = board.busy_ms.map(number::expected).unwrap_or_default();
        let cells = [
            printable(&board.id),
            printable(&board.kind),
            printable(health),
            printable(board.job_id.as_deref().unwrap_or_default()),
            if board.waiting > 0 { board.waiting.to_string() } else { String::new() },
            free,
            printable(board.scenario.as_deref().or(board.reason.as_deref()).unwrap_or_default()),
        ];
        Row::new(cells).style(colour(health))
    });
    let widths = [24, 14, 12, 18, 8, 10].map(Constraint::Length).into_iter().chain([Constraint::Min(0)]);
    let head = Row::new(["board", "kind", "health", "runs", "waiting", "free in", "cell, or why not"]);
    let from = if boards.is_empty() { 0 } else { top.first + 1 };
    let title = format!("boards, from {from} of {}", boards.len());
    let table = Table::new(rows, widths).header(head.style(Modifier::UNDERLINED)).block(block(title));
    frame.render_widget(table, area);
}

fn colour(health: &str) -> Style {
    match health {
        "good" | "alive" => Style::new(),
        "bad" | "dead" | "quarantined" => Style::new().fg(Color::Red),
        _ => Style::new().fg(Color::Yellow),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use edgeprof_client::WorkerStatus;
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::top::state::{
        Picture,
        tests::{board, job},
    };

    fn shown(top: &Top, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, top)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }

    fn top() -> Top {
        let worker = WorkerStatus {
            id: "host-1".into(),
            health: "alive".into(),
            boards: 2,
            attempts: 1,
            last_heard_ms: Some(250),
            ..WorkerStatus::default()
        };
        let mut busy = board("host-1/a", Some("t1"));
        (busy.job_id, busy.scenario, busy.waiting) = (Some("j01".into()), Some("q8_0 kv i8".into()), 3);
        let mut bad = board("host-1/b", None);
        (bad.health, bad.reason) = ("bad".into(), Some("no answer\u{1b}[2J".into()));
        let picture = |done| Picture {
            workers: vec![worker.clone()],
            boards: vec![busy.clone(), bad.clone()],
            jobs: vec![job("j01", "high", done)],
        };
        let (mut top, start) = (Top::new("http://lab:7450".into()), Instant::now());
        top.see(picture(0), start);
        top.see(picture(3), start + Duration::from_secs(2));
        top
    }

    #[test]
    fn workers_boards_queue_and_rate_are_on_one_screen() {
        let screen = shown(&top(), 120, 20);
        for words in [
            "http://lab:7450",
            "1 of 1 good boards busy",
            "high",
            "1.5 tasks end a second",
            "host-1   ",
            "0.2 s ago",
            "host-1/a",
            "q8_0 kv i8",
            "j01",
            "host-1/b",
            "bad",
            "from 1 of 2",
        ] {
            assert!(screen.contains(words), "no {words:?} in\n{screen}");
        }
        // What comes from a board does nothing to the terminal.
        assert!(!screen.contains('\u{1b}'), "{screen}");
    }

    #[test]
    fn trouble_is_said_over_the_last_picture_and_no_size_is_too_small() {
        let mut top = top();
        top.trouble("cannot reach it".into());
        let screen = shown(&top, 160, 20);
        assert!(screen.contains("cannot reach it") && screen.contains("host-1/a"), "{screen}");
        for size in [(1, 1), (5, 3), (20, 2), (300, 80)] {
            shown(&top, size.0, size.1);
        }
    }
}
