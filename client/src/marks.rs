//! Boards set aside by somebody.

use std::time::Duration;

use edgeprof_client::BoardStatus;

use crate::{
    args::{Global, Who},
    close::{self, Kind},
    cluster::{board_sheet, note},
    exit::{Exit, Failure},
    output::{self, Format},
};

/// Reservations are kept in whole seconds.
const SHORTEST: Duration = Duration::from_secs(1);

/// `edgeprof quarantine`
pub(crate) async fn quarantine(
    global: &Global,
    board: &str,
    reason: &str,
    who: &Who,
) -> Result<Exit, Failure> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(Failure::usage("a quarantine needs a reason")
            .hint("say it to whoever finds the board so: --reason \"its line is loose\""));
    }
    let client = global.connect().await?;
    let answer = client.quarantine(board, reason, &who.to_say(&client)).await;
    tell(global, &close::checked(&client, Kind::Board, board, answer).await?)
}

/// `edgeprof unquarantine`
pub(crate) async fn unquarantine(global: &Global, board: &str, who: &Who) -> Result<Exit, Failure> {
    let client = global.connect().await?;
    let answer = client.unquarantine(board, &who.to_say(&client)).await;
    tell(global, &close::checked(&client, Kind::Board, board, answer).await?)
}

/// `edgeprof board reserve --for`
pub(crate) async fn reserve(
    global: &Global,
    board: &str,
    time: Duration,
    who: &Who,
) -> Result<Exit, Failure> {
    if time < SHORTEST {
        return Err(Failure::usage("a reservation lasts a second at least").hint("such as --for 2h"));
    }
    let client = global.connect().await?;
    let answer = client.reserve(board, time, &who.to_say(&client)).await;
    tell(global, &close::checked(&client, Kind::Board, board, answer).await?)
}

/// `edgeprof board reserve --release`
pub(crate) async fn release(global: &Global, board: &str, who: &Who) -> Result<Exit, Failure> {
    let client = global.connect().await?;
    let answer = client.release(board, &who.to_say(&client)).await;
    tell(global, &close::checked(&client, Kind::Board, board, answer).await?)
}

fn said(board: &BoardStatus) -> String {
    note(board).unwrap_or_else(|| "as it is".into())
}

/// The board as it is now.
fn tell(global: &Global, board: &BoardStatus) -> Result<Exit, Failure> {
    output::print(&render(global.output, board)?)?;
    Ok(Exit::Ok)
}

fn render(format: Format, board: &BoardStatus) -> Result<String, Failure> {
    let value = output::value(board)?;
    Ok(match format {
        Format::Table => edgeprof_report::printable(&sentence(board)) + "\n",
        Format::Json => output::pretty(&value),
        Format::Jsonl | Format::Csv | Format::Md => {
            output::list(format, &[value], &board_sheet(format, std::slice::from_ref(board)), "")
        }
    })
}

fn sentence(board: &BoardStatus) -> String {
    let mut text = match board.mark {
        Some(_) => format!("{} is {}", board.id, said(board)),
        None if board.health == "good" => format!("{} takes tasks again", board.id),
        None => format!("{} is set aside no more; its health is {}", board.id, board.health),
    };
    if let Some(job) = &board.job_id {
        text += &format!("\n{job} still runs on it");
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_mark_is_said_with_whose_it_is_and_how_long() {
        let board = BoardStatus {
            id: "host-1/a".into(),
            health: "maintenance".into(),
            mark: Some("reserved".into()),
            marked_by: Some("ann@desk".into()),
            reserved_ms: Some(7_200_000),
            job_id: Some("j1".into()),
            ..BoardStatus::default()
        };
        let text = |board: &BoardStatus| render(Format::Table, board).unwrap();
        let quarantined = BoardStatus {
            mark: Some("quarantined".into()),
            reason: Some("its line is loose".into()),
            reserved_ms: None,
            job_id: None,
            ..board.clone()
        };
        let suspected = BoardStatus {
            mark: Some("suspected".into()),
            marked_by: None,
            reason: Some("was quarantined".into()),
            ..quarantined.clone()
        };
        let free = BoardStatus { mark: None, health: "good".into(), ..suspected.clone() };
        let bad = BoardStatus { health: "bad".into(), ..free.clone() };
        let all = [&board, &quarantined, &suspected, &free, &bad].map(text).concat();
        expect![[r#"
            host-1/a is reserved by ann@desk, 2 h left
            j1 still runs on it
            host-1/a is quarantined by ann@desk: its line is loose
            host-1/a is suspected, has to pass a canary run first: was quarantined
            host-1/a takes tasks again
            host-1/a is set aside no more; its health is bad
        "#]]
        .assert_eq(&all);
        let value: serde_json::Value = serde_json::from_str(&render(Format::Json, &board).unwrap()).unwrap();
        assert_eq!((&value["mark"], &value["reserved_ms"]), (&"reserved".into(), &7_200_000.into()));
    }
}
