//! How `top` looks. Pure: the same state gives the same cells.

use edgeprof_report::{number, printable};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph, Row, Sparkline, Table},
};

use super::state::{Top, Trouble};

/// Workers that are shown at most; the boards take the rest.
const WORKERS: u16 = 8;

/// What the last column of a table has at least, where it has so much to say.
const LEAST: u16 = 20;

pub(super) fn draw(frame: &mut Frame<'_>, top: &Top) {
    let workers = u16::try_from(top.picture.workers.len()).unwrap_or(WORKERS).clamp(1, WORKERS) + 3;
    let trouble = u16::from(top.trouble.is_some());
    let areas = [
        Constraint::Length(1),
        Constraint::Length(trouble),
        Constraint::Length(5),
        Constraint::Length(workers),
        Constraint::Min(3),
    ];
    let [head, why, queue, hosts, boards] = Layout::vertical(areas).areas(frame.area());
    draw_heading(frame, top, head);
    draw_queue(frame, top, queue);
    draw_workers(frame, top, hosts);
    draw_boards(frame, top, boards);
    if let Some(Trouble { why: words, old }) = &top.trouble {
        let line = format!("{} old: {}", number::span(old.as_millis() as u64), printable(words));
        frame.render_widget(Paragraph::new(line).style(Style::new().fg(Color::Red)), why);
        // What is shown was so once.
        for area in [queue, hosts, boards] {
            frame.buffer_mut().set_style(area, Modifier::DIM);
        }
    }
}

fn draw_heading(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let (busy, good) = top.busy();
    let line = Line::from(vec![
        Span::styled("edgeprof ", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(printable(&top.address)),
        Span::raw(format!("  {busy} of {good} good boards busy")),
    ]);
    let left = area.width.saturating_sub(u16::try_from(line.width()).unwrap_or(u16::MAX));
    frame.render_widget(line, area);
    let keys = Line::from("q leaves, arrows scroll").right_aligned();
    if keys.width() + 2 <= usize::from(left) {
        frame.render_widget(keys, area);
    }
}

/// A table whose columns are as wide as what is in them; the last has the rest. Where that is too little for what it
/// says, columns of `spare` go, the first of them first.
fn fitted<const N: usize>(
    head: [&'static str; N],
    rows: &[([String; N], Style)],
    spare: &[usize],
    width: u16,
) -> Table<'static> {
    let cells = |column: usize| rows.iter().filter_map(move |(cells, _)| cells.get(column));
    let wide = |column: usize| {
        let longest = cells(column).map(|cell| Line::raw(cell.as_str()).width()).max().unwrap_or_default();
        let title = head.get(column).map_or(0, |title| title.len());
        u16::try_from(longest.max(title)).unwrap_or(u16::MAX)
    };
    let mut columns: Vec<usize> = (0..N).collect();
    let needed = |columns: &[usize]| {
        let widths = columns
            .iter()
            .map(|&column| if column + 1 == N { wide(column).min(LEAST) } else { wide(column) });
        widths.fold(0_u16, |sum, width| sum.saturating_add(width).saturating_add(1)).saturating_sub(1)
    };
    for gone in spare {
        if needed(&columns) > width {
            columns.retain(|column| column != gone);
        }
    }
    let of = |cells: &[String; N]| -> Vec<String> {
        columns.iter().filter_map(|&column| cells.get(column).cloned()).collect()
    };
    let widths = columns.iter().map(|&column| match column + 1 == N {
        true => Constraint::Min(0),
        false => Constraint::Length(wide(column)),
    });
    let titles = Row::new(of(&head.map(str::to_owned))).style(Modifier::UNDERLINED);
    Table::new(rows.iter().map(|(cells, style)| Row::new(of(cells)).style(*style)), widths).header(titles)
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
    // The newest, as many as there is room for; whole numbers are drawn: tenths of a task.
    let old = top.rates.len().saturating_sub(usize::from(right.width));
    let tenths: Vec<u64> = top.rates.iter().skip(old).map(|rate| (rate * 10.0) as u64).collect();
    let line = Sparkline::default().data(&tenths).block(block(format!("{now} tasks end a second")));
    frame.render_widget(line, right);
}

fn draw_workers(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let workers = &top.picture.workers;
    let rows: Vec<_> = workers
        .iter()
        .map(|worker| {
            let heard =
                worker.last_heard_ms.map_or_else(String::new, |ms| format!("{:.1} s ago", ms as f64 / 1e3));
            let health = if worker.draining { "draining" } else { &worker.health };
            // One that was never there has an address alone.
            let name = if worker.id.is_empty() { &worker.address } else { &worker.id };
            let cells = [
                printable(name),
                health.to_owned(),
                worker.boards.to_string(),
                worker.attempts.to_string(),
                heard,
                printable(worker.reason.as_deref().unwrap_or_default()),
            ];
            (cells, colour(health))
        })
        .collect();
    let head = ["worker", "health", "boards", "attempts", "heard", ""];
    let more = workers.len().saturating_sub(usize::from(WORKERS));
    let title = if more > 0 { format!("workers, {more} more below") } else { "workers".to_owned() };
    frame.render_widget(fitted(head, &rows, &[3, 2, 4], area.width).block(block(title)), area);
}

fn draw_boards(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let boards = &top.picture.boards;
    let shown = boards.iter().skip(top.first).take(usize::from(area.height));
    let rows: Vec<_> = shown
        .map(|board| {
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
            (cells, colour(health))
        })
        .collect();
    let head = ["board", "kind", "health", "runs", "waiting", "free in", "cell, or why not"];
    let from = if boards.is_empty() { 0 } else { top.first + 1 };
    let title = format!("boards, from {from} of {}", boards.len());
    // A board's name has its kind in it, unless somebody named it.
    frame.render_widget(fitted(head, &rows, &[1, 4, 5], area.width).block(block(title)), area);
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
            "host-1 alive ",
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
        let why = "lost the coordinator at http://lab.example:7450: Connection refused";
        top.trouble(why.into(), Instant::now() + Duration::from_secs(60));
        let screen = shown(&top, 80, 24);
        for words in [why, " old: ", "host-1/a"] {
            assert!(screen.contains(words), "no {words:?} in\n{screen}");
        }
        for size in [(1, 1), (5, 3), (20, 2), (300, 80)] {
            shown(&top, size.0, size.1);
        }
    }

    #[test]
    fn on_a_narrow_terminal_names_are_whole_and_what_a_board_does_is_told() {
        let mut top = top();
        let picture = &mut top.picture;
        picture.boards[0].id = "bench-right/riscv32.0".into();
        picture.boards[0].job_id = Some("j23sg9hetmjk99".into());
        picture.boards[0].busy_ms = Some(4000);
        picture.workers[0].health = "dead".into();
        picture.workers[0].id = String::new();
        picture.workers[0].address = "http://10.0.0.7:7451".into();
        picture.workers[0].reason = Some("Connection refused".into());
        let screen = shown(&top, 80, 24);
        for words in [
            "bench-right/riscv32.0 ",
            "j23sg9hetmjk99 ",
            "q8_0 kv i8",
            "http://10.0.0.7:7451",
            "Connection refused",
        ] {
            assert!(screen.contains(words), "no {words:?} in\n{screen}");
        }
        assert!(!screen.contains("kind"), "{screen}");
        assert!(shown(&top, 120, 24).contains(" kind "));
    }

    #[test]
    fn the_newest_rates_are_drawn_where_there_is_no_room_for_all() {
        let mut top = top();
        top.rates = (0..60).map(|n| if n == 59 { 9.0 } else { 0.0 }).collect();
        let screen = shown(&top, 80, 24);
        assert_eq!(screen.lines().filter(|line| line.ends_with('█')).count(), 4, "{screen}");
    }
}
