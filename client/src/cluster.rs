//! Boards and workers.

use edgeprof_report::{Column, Sheet};

use crate::{
    args::Global,
    exit::{Exit, Failure},
    jobs::labels,
    output,
};

/// `edgeprof boards`
pub(crate) async fn boards(global: &Global, wanted: &[String]) -> Result<Exit, Failure> {
    if let Some(bad) = wanted.iter().find(|text| text.split_once('=').is_none_or(|(key, _)| key.is_empty())) {
        return Err(Failure::usage(format!("not a label: {bad:?}")).hint("write it as KEY=VALUE"));
    }
    let boards = global.connect().await?.boards(wanted).await?;
    let mut sheet = Sheet::new([
        Column::words("board"),
        Column::words("kind"),
        Column::words("worker"),
        Column::words("health"),
        Column::words("runs"),
        Column::words("firmware"),
        Column::words("labels"),
        Column::words("reason"),
    ]);
    let mut items = Vec::new();
    for board in &boards {
        sheet.row([
            Some(board.id.clone()),
            Some(board.kind.clone()),
            Some(board.worker.clone()),
            Some(board.health.clone()),
            board.job_id.clone().or_else(|| board.task_id.clone()),
            board.firmware_version.clone(),
            Some(labels(&board.labels)).filter(|text| !text.is_empty()),
            board.reason.clone(),
        ]);
        items.push(output::value(board)?);
    }
    let sheet = sparse(global, sheet);
    let empty =
        if wanted.is_empty() { "no boards: no worker has joined yet" } else { "no board has these labels" };
    output::print(&output::list(global.output, &items, &sheet, empty))?;
    Ok(Exit::Ok)
}

/// `edgeprof workers`
pub(crate) async fn workers(global: &Global) -> Result<Exit, Failure> {
    let workers = global.connect().await?.workers().await?;
    let mut sheet = Sheet::new([
        Column::words("worker"),
        Column::words("address"),
        Column::words("health"),
        Column::figures("boards", None),
        Column::figures("epoch", None),
        Column::figures("heard", Some("s ago")),
        Column::words("version"),
        Column::words("found by"),
        Column::words("reason"),
    ]);
    let mut items = Vec::new();
    for worker in &workers {
        sheet.row([
            Some(worker.id.clone()),
            Some(worker.address.clone()),
            Some(worker.health.clone()),
            Some(worker.boards.to_string()),
            Some(worker.epoch.to_string()),
            worker.last_heard_ms.map(|ms| format!("{:.1}", ms as f64 / 1000.0)),
            Some(worker.version.clone()),
            Some(worker.found_by.clone()),
            worker.reason.clone(),
        ]);
        items.push(output::value(worker)?);
    }
    let sheet = sparse(global, sheet);
    output::print(&output::list(global.output, &items, &sheet, "no workers: none was found or named yet"))?;
    Ok(Exit::Ok)
}

/// CSV keeps all its columns; what people read leaves out those with nothing in them.
fn sparse(global: &Global, sheet: Sheet) -> Sheet {
    if global.output == output::Format::Csv { sheet } else { sheet.without_empty_columns() }
}
