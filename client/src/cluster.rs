//! Boards and workers.

use edgeprof_client::{BoardStatus, WorkerStatus};
use edgeprof_report::{Column, Sheet, number};

use crate::{
    args::Global,
    exit::{Exit, Failure},
    jobs::labels,
    output::{self, Format},
};

/// `edgeprof boards`
pub(crate) async fn boards(global: &Global, wanted: &[String]) -> Result<Exit, Failure> {
    if let Some(bad) = wanted.iter().find(|text| text.split_once('=').is_none_or(|(key, _)| key.is_empty())) {
        return Err(Failure::usage(format!("not a label: {bad:?}")).hint("write it as KEY=VALUE"));
    }
    let boards = global.connect().await?.boards(wanted).await?;
    let items = boards.iter().map(output::value).collect::<Result<Vec<_>, _>>()?;
    let empty =
        if wanted.is_empty() { "no boards: no worker has joined yet" } else { "no board has these labels" };
    let mut text = output::list(global.output, &items, &board_sheet(global.output, &boards), empty);
    if global.output == Format::Table {
        text += &notes(&boards);
    }
    output::print(&text)?;
    Ok(Exit::Ok)
}

/// `edgeprof health`
pub(crate) async fn health(global: &Global) -> Result<Exit, Failure> {
    // A new connection begins with that question.
    let client = global.connect().await?;
    output::print(&format!("{} serves\n", client.address()))?;
    Ok(Exit::Ok)
}

/// `edgeprof workers`
pub(crate) async fn workers(global: &Global) -> Result<Exit, Failure> {
    let workers = global.connect().await?.workers().await?;
    let items = workers.iter().map(output::value).collect::<Result<Vec<_>, _>>()?;
    let sheet = worker_sheet(global.output, &workers);
    let mut text = output::list(global.output, &items, &sheet, "no workers: none was found or named yet");
    if global.output == Format::Table {
        text += &reasons(&workers);
    }
    output::print(&text)?;
    Ok(Exit::Ok)
}

/// Boards as people read them; for CSV each field has a column of its own.
pub(crate) fn board_sheet(format: Format, boards: &[BoardStatus]) -> Sheet {
    if format == Format::Csv {
        return board_columns(boards);
    }
    let mut sheet = Sheet::new([
        Column::words("board"),
        Column::words("kind"),
        Column::words("worker"),
        Column::words("health"),
        Column::words("runs"),
        Column::words("cell"),
        Column::figures("waiting", None),
        Column::words("free in"),
        Column::words("firmware"),
        Column::words("labels"),
        Column::words("note"),
    ]);
    for board in boards {
        sheet.row(first_columns(board).into_iter().chain([
            board.scenario.clone(),
            Some(board.waiting).filter(|count| *count > 0).map(|count| count.to_string()),
            board.busy_ms.map(number::expected),
            board.firmware_version.clone(),
            Some(labels(&board.labels)).filter(|text| !text.is_empty()),
            note(board),
        ]));
    }
    match format {
        // A board's id begins with its worker's; notes are long and stand below.
        Format::Table => {
            let spare = ["worker", "firmware", "cell", "kind", "labels"];
            output::fitting(sheet.without("note").without_empty_columns(), &spare)
        }
        _ => sheet.without_empty_columns(),
    }
}

/// Board, kind, worker, health, and what runs, in every format.
fn first_columns(board: &BoardStatus) -> [Option<String>; 5] {
    [
        Some(board.id.clone()),
        Some(board.kind.clone()),
        Some(board.worker.clone()),
        Some(board.health.clone()),
        board.job_id.clone().or_else(|| board.task_id.clone()),
    ]
}

/// What the table of boards has no room for.
fn notes(boards: &[BoardStatus]) -> String {
    below(boards.iter().filter_map(|board| Some(format!("{}: {}", board.id, note(board)?))))
}

/// What the table of workers has no room for.
fn reasons(workers: &[WorkerStatus]) -> String {
    below(workers.iter().filter_map(|worker| {
        // One that was never greeted has no name yet.
        let name = if worker.id.is_empty() { &worker.address } else { &worker.id };
        Some(format!("{name}: {}", worker.reason.as_ref()?))
    }))
}

/// Lines under a table.
fn below(lines: impl Iterator<Item = String>) -> String {
    let lines = lines.map(|line| line.replace('\n', " "));
    let text: String = lines.map(|line| edgeprof_report::printable(&line) + "\n").collect();
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn board_columns(boards: &[BoardStatus]) -> Sheet {
    let words = ["board", "kind", "worker", "health", "runs", "firmware", "labels", "reason"];
    let more = [
        Column::words("task"),
        Column::words("scenario"),
        Column::words("mark"),
        Column::words("marked by"),
        Column::figures("reserved", Some("ms")),
        Column::figures("waiting", None),
        Column::figures("busy", Some("ms")),
    ];
    let mut sheet = Sheet::new(words.map(Column::words).into_iter().chain(more));
    for board in boards {
        sheet.row(first_columns(board).into_iter().chain([
            board.firmware_version.clone(),
            Some(labels(&board.labels)),
            board.reason.clone(),
            board.task_id.clone(),
            board.scenario.clone(),
            board.mark.clone(),
            board.marked_by.clone(),
            board.reserved_ms.map(|ms| ms.to_string()),
            Some(board.waiting.to_string()),
            board.busy_ms.map(|ms| ms.to_string()),
        ]));
    }
    sheet
}

/// Why a board is not for everybody: its mark, whose that is, how long, and the reason.
pub(crate) fn note(board: &BoardStatus) -> Option<String> {
    let Some(mark) = board.mark.as_deref() else { return board.reason.clone() };
    let mut text = mark.to_owned();
    if mark == "suspected" {
        text += ", has to pass a canary run first";
    }
    if let Some(by) = &board.marked_by {
        text += &format!(" by {by}");
    }
    if let Some(left) = board.reserved_ms {
        text += &format!(", {} left", number::span(left));
    }
    if let Some(reason) = &board.reason {
        text += &format!(": {reason}");
    }
    Some(text)
}

fn worker_sheet(format: Format, workers: &[WorkerStatus]) -> Sheet {
    let mut sheet = Sheet::new([
        Column::words("worker"),
        Column::words("address"),
        Column::words("health"),
        Column::figures("boards", None),
        Column::figures("attempts", None),
        Column::figures("epoch", None),
        Column::figures("heard", Some("s ago")),
        Column::words("version"),
        Column::words("found by"),
        Column::words("draining"),
        Column::words("reason"),
    ]);
    let csv = format == Format::Csv;
    for worker in workers {
        let (health, draining) = match (csv, worker.draining) {
            (true, draining) => (worker.health.clone(), Some(draining.to_string())),
            // People read it beside the health, unless that says so already.
            (false, true) if worker.health != "draining" => (format!("{}, draining", worker.health), None),
            (false, _) => (worker.health.clone(), None),
        };
        sheet.row([
            Some(worker.id.clone()),
            Some(worker.address.clone()),
            Some(health),
            Some(worker.boards.to_string()),
            Some(worker.attempts.to_string()),
            Some(worker.epoch.to_string()),
            worker.last_heard_ms.map(|ms| format!("{:.1}", ms as f64 / 1000.0)),
            Some(worker.version.clone()),
            Some(worker.found_by.clone()),
            draining,
            worker.reason.clone(),
        ]);
    }
    match format {
        Format::Csv => sheet,
        // Reasons are long and stand below.
        Format::Table => {
            output::fitting(sheet.without("reason").without_empty_columns(), &["found by", "version"])
        }
        _ => sheet.without_empty_columns(),
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
