//! One board.

use edgeprof_client::Check;
use edgeprof_report::{Column, Sheet};

use crate::{
    args::Global,
    exit::{Exit, Failure},
    output,
};

/// `edgeprof board check`
pub(crate) async fn check(global: &Global, board: &str) -> Result<Exit, Failure> {
    let checks = global.connect().await?.check_board(board).await?;
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
