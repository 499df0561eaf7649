//! The story of a job's tasks.

use edgeprof_client::TaskEvent;
use edgeprof_common::{JobId, TaskId};
use edgeprof_report::{Column, Sheet, Step, story};
use serde_json::Value;

use crate::{
    args::Global,
    exit::{Exit, Failure},
    output::{self, Format},
};

/// `edgeprof show --events`
pub(crate) async fn show(global: &Global, id: &str) -> Result<Exit, Failure> {
    if id.parse::<JobId>().is_err() && id.parse::<TaskId>().is_err() {
        return Err(Failure::usage(format!("neither a job's nor a task's id: {id:?}"))
            .hint("edgeprof jobs lists jobs, edgeprof show JOB its tasks"));
    }
    let events = global.connect().await?.events(id).await?;
    output::print(&render(global.output, &events)?)?;
    Ok(Exit::Ok)
}

fn render(format: Format, events: &[TaskEvent]) -> Result<String, Failure> {
    let empty = "no events: they are kept for a while only";
    if format == Format::Table {
        let steps: Vec<_> = events.iter().map(step).collect();
        return Ok(if steps.is_empty() { format!("{empty}\n") } else { story(&steps) });
    }
    let columns = ["task", "scenario", "at", "what"].map(Column::words);
    let more = [Column::figures("attempt", None), Column::words("board"), Column::words("why")];
    let mut sheet = Sheet::new(columns.into_iter().chain(more));
    let mut items = Vec::with_capacity(events.len());
    for event in events {
        sheet.row([
            Some(event.task_id.clone()),
            Some(event.scenario.clone()),
            Some(event.at.clone()),
            Some(event.what.clone()),
            attempt(event).map(|number| number.to_string()),
            event.board.clone(),
            event.why.clone(),
        ]);
        items.push(item(event)?);
    }
    Ok(output::list(format, &items, &sheet, empty))
}

fn step(event: &TaskEvent) -> Step<'_> {
    Step {
        task: &event.task_id,
        scenario: &event.scenario,
        at: &event.at,
        what: &event.what,
        attempt: attempt(event),
        board: event.board.as_deref(),
        why: event.why.as_deref(),
    }
}

fn attempt(event: &TaskEvent) -> Option<u32> {
    Some(event.attempt).filter(|number| *number > 0)
}

/// As JSON; an event that is about no attempt has none.
fn item(event: &TaskEvent) -> Result<Value, Failure> {
    let mut item = output::value(event)?;
    if let Some(fields) = item.as_object_mut().filter(|_| attempt(event).is_none()) {
        fields.shift_remove("attempt");
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn events() -> [TaskEvent; 2] {
        let submitted = TaskEvent {
            task_id: "t1".into(),
            scenario: "p16 n16".into(),
            at: "2026-01-01T00:00:00Z".into(),
            what: "submitted".into(),
            ..TaskEvent::default()
        };
        let lost = TaskEvent {
            at: "2026-01-01T00:00:04.5Z".into(),
            what: "lost".into(),
            attempt: 1,
            board: Some("host-1/a".into()),
            why: Some("host-1 is dead, silent for 4.5 s".into()),
            ..submitted.clone()
        };
        [submitted, lost]
    }

    #[test]
    fn every_shape_tells_the_same_story() {
        let shapes = [Format::Table, Format::Csv, Format::Md, Format::Jsonl];
        let all: Vec<_> = shapes.iter().map(|format| render(*format, &events()).unwrap()).collect();
        expect![[r#"
            t1 · p16 n16 · from 2026-01-01T00:00:00Z
              +0:00.000  submitted
              +0:04.500  lost       #1  host-1/a  host-1 is dead, silent for 4.5 s

            task,scenario,at,what,attempt,board,why
            t1,p16 n16,2026-01-01T00:00:00Z,submitted,,,
            t1,p16 n16,2026-01-01T00:00:04.5Z,lost,1,host-1/a,"host-1 is dead, silent for 4.5 s"

            | task | scenario | at | what | attempt | board | why |
            | --- | --- | --- | --- | ---: | --- | --- |
            | t1 | p16 n16 | 2026-01-01T00:00:00Z | submitted | – | – | – |
            | t1 | p16 n16 | 2026-01-01T00:00:04.5Z | lost | 1 | host-1/a | host-1 is dead, silent for 4.5 s |

            {"task_id":"t1","scenario":"p16 n16","at":"2026-01-01T00:00:00Z","what":"submitted"}
            {"task_id":"t1","scenario":"p16 n16","at":"2026-01-01T00:00:04.5Z","what":"lost","attempt":1,"board":"host-1/a","why":"host-1 is dead, silent for 4.5 s"}
        "#]].assert_eq(&all.join("\n"));
        let json: Vec<Value> = serde_json::from_str(&render(Format::Json, &events()).unwrap()).unwrap();
        assert_eq!((json.len(), &json[1]["attempt"], json[0].get("attempt")), (2, &1.into(), None));
    }

    #[test]
    fn no_events_are_said() {
        assert_eq!(render(Format::Table, &[]).unwrap(), "no events: they are kept for a while only\n");
        assert_eq!(render(Format::Json, &[]).unwrap(), "[]\n");
    }
}
