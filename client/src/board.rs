//! One board.

use edgeprof_client::{Check, ResetBoardResponse};
use edgeprof_report::{Column, Sheet};

use crate::{
    args::Global,
    close::{self, Kind},
    exit::{Exit, Failure},
    output,
};

/// `edgeprof board check`
pub(crate) async fn check(global: &Global, board: &str) -> Result<Exit, Failure> {
    let client = global.connect().await?;
    let answer = client.check_board(board).await;
    let checks = close::checked(&client, Kind::Board, board, answer).await?;
    let mut sheet = Sheet::new([
        Column::words("check"),
        Column::words("state"),
        Column::words("found"),
        Column::words("remedy"),
    ]);
    let mut items = Vec::new();
    for Check { name, state, found, remedy } in &checks {
        sheet.row([Some(name.clone()), Some(state.clone()), Some(found.clone()), remedy.clone()]);
    }
    for check in &checks {
        items.push(output::value(check)?);
    }
    let sheet = if global.output == output::Format::Csv { sheet } else { sheet.without_empty_columns() };
    output::print(&output::list(global.output, &items, &sheet, "nothing was looked at"))?;
    let usable = checks.iter().all(|check| check.state != "problem");
    Ok(if usable { Exit::Ok } else { Exit::CellFailed })
}

/// `edgeprof board reset`
pub(crate) async fn reset(global: &Global, board: &str) -> Result<Exit, Failure> {
    let client = global.connect().await?;
    let answer = client.reset_board(board).await;
    let ResetBoardResponse { health, reason } = close::checked(&client, Kind::Board, board, answer).await?;
    let good = health == "good";
    let mut item = serde_json::json!({ "board": board, "health": health });
    if let Some(reason) = &reason {
        item["reason"] = reason.as_str().into();
    }
    let mut sheet = Sheet::new(["board", "health", "reason"].map(Column::words));
    sheet.row([Some(board.to_owned()), Some(health.clone()), reason.clone()]);
    let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    output::print(&match global.output {
        output::Format::Table => {
            edgeprof_report::printable(&format!("{board} was restarted and is {health}{why}")) + "\n"
        }
        output::Format::Json => output::pretty(&item),
        shape => output::list(shape, &[item], &sheet, ""),
    })?;
    if !good {
        output::say(&format!("hint: edgeprof board check {board} says what is wrong with it\n"));
    }
    Ok(if good { Exit::Ok } else { Exit::Problem })
}
