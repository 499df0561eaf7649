//! What became of tasks, step by step.

use edgeprof_common::TaskId;
use edgeprof_proto::v1;
use tonic::Status;

use super::{Api, tasks_named};
use crate::{
    clock,
    core::{Command, Told},
    ended,
    store::{
        Store, StoreError,
        rows::{self, StoredTask, StoryLine, key},
    },
};

/// The stories of a job's tasks in the order of its cells, or of one task.
pub(super) async fn list(api: &Api, id: &str) -> Result<v1::GetEventsResponse, Status> {
    let tasks = tasks_named(api, id).await?;
    let known = tasks.clone();
    let told = api.ask(|reply| Command::Stories(known, reply)).await?;
    let events = api.read(move |store| stories(store, &tasks, told)).await?;
    Ok(v1::GetEventsResponse { events })
}

fn stories(store: &dyn Store, tasks: &[TaskId], known: Vec<Told>) -> Result<Vec<v1::TaskEvent>, StoreError> {
    // They are of one job, which the loop has or has forgotten.
    let told = if known.is_empty() { ended::told(store, tasks)? } else { known };
    let mut events = Vec::new();
    for Told { task, scenario, submitted_at, story } in told {
        let story = match story {
            Some(story) => story,
            None => rows::read::<StoredTask>(store, &key::task(task))?.map_or_else(Vec::new, |t| t.story),
        };
        events.push(v1::TaskEvent {
            task_id: task.to_string(),
            scenario: scenario.clone(),
            at: submitted_at,
            what: "submitted".into(),
            ..v1::TaskEvent::default()
        });
        events.extend(story.into_iter().map(|line| event(task, &scenario, line)));
    }
    Ok(events)
}

fn event(task: TaskId, scenario: &str, line: StoryLine) -> v1::TaskEvent {
    v1::TaskEvent {
        task_id: task.to_string(),
        scenario: scenario.to_owned(),
        at: clock::text(line.at),
        what: line.what.as_str().into(),
        attempt: line.attempt,
        board: line.board.map(|board| board.to_string()),
        why: line.why,
    }
}
