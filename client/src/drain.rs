//! Taking a worker out of service.

use std::time::Duration;

use edgeprof_client::{BoardStatus, Client, WorkerStatus};
use edgeprof_report::{Column, Sheet, number, printable};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::Global,
    close::{self, Kind},
    exit::{Exit, Failure},
    follow::pressed,
    output::{self, Format},
    progress::View,
};

/// How often a draining worker is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Boards that are named one by one.
const NAMED: usize = 10;

/// `edgeprof drain --undo`
pub(crate) async fn undo(global: &Global, worker: &str) -> Result<Exit, Failure> {
    let client = global.connect().await?;
    let answer = client.drain(worker, true).await;
    let status = close::checked(&client, Kind::Worker, worker, answer).await?;
    output::print(&render(global.output, &status, &[])?)?;
    Ok(Exit::Ok)
}

/// `edgeprof drain`
pub(crate) async fn drain(global: &Global, worker: &str, wait: bool) -> Result<Exit, Failure> {
    let client = global.connect().await?;
    let answer = client.drain(worker, false).await;
    let mut status = close::checked(&client, Kind::Worker, worker, answer).await?;
    let mut running = running(&client, worker).await?;
    if wait && !is_empty(&status) {
        let view = View::new(global.progress);
        view.note(said(&status, &running).trim_end());
        let goes_on =
            format!("{worker} goes on draining; edgeprof drain {worker} --undo takes it back into service");
        let mut interrupt = signal(SignalKind::interrupt()).ok();
        status = tokio::select! {
            emptied = emptied(&client, &view, status) => emptied.map_err(|failure| failure.hint(&goes_on))?,
            () = pressed(&mut interrupt) => {
                return Err(Failure::signal(Signal::SIGINT).hint(goes_on));
            }
        };
        running.clear();
    }
    output::print(&render(global.output, &status, &running)?)?;
    if drains(&status) {
        return Ok(Exit::Ok);
    }
    output::say(&format!("hint: somebody undid the drain; edgeprof drain {worker} drains it again\n"));
    Ok(Exit::Problem)
}

/// Boards of the worker that have something to do.
async fn running(client: &Client, worker: &str) -> Result<Vec<BoardStatus>, Failure> {
    let mut boards = client.boards(&[]).await?;
    boards.retain(|board| board.worker == worker && (board.task_id.is_some() || board.waiting > 0));
    Ok(boards)
}

/// Waits until nothing runs on the worker or it drains no more, and says when there is less.
async fn emptied(client: &Client, view: &View, mut last: WorkerStatus) -> Result<WorkerStatus, Failure> {
    while !is_empty(&last) {
        tokio::time::sleep(LOOK).await;
        let found = client.workers().await?.into_iter().find(|worker| worker.id == last.id);
        // A worker that is not known any more runs nothing that counts.
        let now = found.unwrap_or_else(|| WorkerStatus { attempts: 0, ..last.clone() });
        if !drains(&now) {
            return Ok(now);
        }
        if now.attempts != last.attempts && !is_empty(&now) {
            view.note(&format!("{} left", attempts(now.attempts)));
        }
        last = now;
    }
    Ok(last)
}

fn drains(worker: &WorkerStatus) -> bool {
    worker.draining || worker.health == "draining"
}

/// Whether no attempt runs there that counts.
fn is_empty(worker: &WorkerStatus) -> bool {
    worker.attempts == 0 || worker.health == "dead"
}

fn attempts(count: u32) -> String {
    if count == 1 { "1 attempt".into() } else { format!("{count} attempts") }
}

fn render(format: Format, worker: &WorkerStatus, running: &[BoardStatus]) -> Result<String, Failure> {
    let mut item = output::value(worker)?;
    let boards = running.iter().map(output::value).collect::<Result<Vec<_>, _>>()?;
    item["running"] = boards.into();
    let mut sheet = Sheet::new([
        Column::words("worker"),
        Column::words("health"),
        Column::words("draining"),
        Column::figures("attempts", None),
    ]);
    sheet.row([
        Some(worker.id.clone()),
        Some(worker.health.clone()),
        Some(worker.draining.to_string()),
        Some(worker.attempts.to_string()),
    ]);
    Ok(match format {
        Format::Table => printable(&said(worker, running)),
        Format::Json => output::pretty(&item),
        Format::Jsonl | Format::Csv | Format::Md => output::list(format, &[item], &sheet, ""),
    })
}

/// How far the worker is, and what its boards still do.
fn said(worker: &WorkerStatus, running: &[BoardStatus]) -> String {
    let id = &worker.id;
    if !drains(worker) {
        return format!("{id} takes work again\n");
    }
    if worker.health == "dead" {
        return format!(
            "{id} is dead: what ran there goes elsewhere, and it gets no new work if it returns\n"
        );
    }
    if is_empty(worker) {
        return format!("{id} is drained: nothing runs there, and it gets no new work\n");
    }
    let mut text = format!("{id} gets no new work; {} on its boards:\n", attempts(worker.attempts));
    for board in running.iter().take(NAMED) {
        let mut what = board.job_id.clone().into_iter().chain(board.scenario.clone()).collect::<Vec<_>>();
        if board.waiting > 0 {
            what.push(format!("{} waiting", board.waiting));
        }
        what.extend(board.busy_ms.map(|ms| format!("{} left", number::expected(ms))));
        text += &format!("  {}: {}\n", board.id, what.join(" · "));
    }
    if running.len() > NAMED {
        text += &format!("  and {} more boards\n", running.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_still_runs_is_named_and_an_end_is_said() {
        let busy = WorkerStatus {
            id: "host-1".into(),
            health: "draining".into(),
            draining: true,
            attempts: 13,
            ..WorkerStatus::default()
        };
        let board = |n: usize| BoardStatus {
            id: format!("host-1/riscv32.{n}"),
            job_id: Some("j1".into()),
            scenario: Some("p16 n16".into()),
            waiting: u32::from(n == 0),
            busy_ms: Some(125_000),
            ..BoardStatus::default()
        };
        let boards: Vec<_> = (0..12).map(board).collect();
        let empty = WorkerStatus { attempts: 0, ..busy.clone() };
        let dead = WorkerStatus { health: "dead".into(), ..busy.clone() };
        let back = WorkerStatus { health: "alive".into(), draining: false, ..busy.clone() };
        let all = said(&busy, &boards) + &said(&empty, &[]) + &said(&dead, &[]) + &said(&back, &[]);
        expect![[r#"
            host-1 gets no new work; 13 attempts on its boards:
              host-1/riscv32.0: j1 · p16 n16 · 1 waiting · ~2 min left
              host-1/riscv32.1: j1 · p16 n16 · ~2 min left
              host-1/riscv32.2: j1 · p16 n16 · ~2 min left
              host-1/riscv32.3: j1 · p16 n16 · ~2 min left
              host-1/riscv32.4: j1 · p16 n16 · ~2 min left
              host-1/riscv32.5: j1 · p16 n16 · ~2 min left
              host-1/riscv32.6: j1 · p16 n16 · ~2 min left
              host-1/riscv32.7: j1 · p16 n16 · ~2 min left
              host-1/riscv32.8: j1 · p16 n16 · ~2 min left
              host-1/riscv32.9: j1 · p16 n16 · ~2 min left
              and 2 more boards
            host-1 is drained: nothing runs there, and it gets no new work
            host-1 is dead: what ran there goes elsewhere, and it gets no new work if it returns
            host-1 takes work again
        "#]]
        .assert_eq(&all);
        let json: serde_json::Value =
            serde_json::from_str(&render(Format::Json, &busy, &boards).unwrap()).unwrap();
        assert_eq!((&json["attempts"], json["running"].as_array().unwrap().len()), (&13.into(), 12));
    }
}
