//! What passed on the boards' lines.

use edgeprof_client::AttemptLog;

use crate::{
    args::Global,
    exit::{Exit, Failure},
    output::{self, Format},
};

/// `edgeprof logs`
pub(crate) async fn show(global: &Global, id: &str) -> Result<Exit, Failure> {
    let logs = global.connect().await?.logs(id).await?;
    let items = logs.iter().map(output::value).collect::<Result<Vec<_>, _>>()?;
    let text = match global.output {
        Format::Json => output::pretty(&serde_json::Value::Array(items)),
        Format::Jsonl => items.iter().map(|item| format!("{item}\n")).collect(),
        Format::Table | Format::Csv | Format::Md if logs.is_empty() => {
            "no attempt has ended with a result yet; one that was lost with its worker has no transcript\n"
                .into()
        }
        Format::Table | Format::Csv | Format::Md => logs.iter().map(attempt).collect::<Vec<_>>().join("\n"),
    };
    output::print(&text)?;
    Ok(Exit::Ok)
}

fn attempt(log: &AttemptLog) -> String {
    let AttemptLog { task_id, scenario, board, outcome, text } = log;
    let head = format!("== {task_id} ({scenario}) on {board}: {outcome}");
    let lines = text.lines().map(edgeprof_report::printable);
    std::iter::once(edgeprof_report::printable(&head)).chain(lines).map(|line| format!("{line}\n")).collect()
}
