//! Jobs and their results.

use std::collections::BTreeMap;

use edgeprof_client::{Client, Job, Task};
use edgeprof_common::{
    JobId, RunId,
    run::{RunRecord, RunState},
};
use edgeprof_report::{Column, Context, Sheet, number};

use crate::{
    args::Global,
    exit::{Exit, Failure},
    follow::follow,
    output::{self, Format},
    progress::View,
};

/// `edgeprof jobs`
pub(crate) async fn list(global: &Global, limit: u32) -> Result<Exit, Failure> {
    let jobs = global.connect().await?.jobs(limit).await?;
    output::print(&listed(global.output, &jobs)?)?;
    Ok(Exit::Ok)
}

fn listed(format: Format, jobs: &[Job]) -> Result<String, Failure> {
    let csv = format == Format::Csv;
    let mut sheet = Sheet::new([
        Column::words("job"),
        Column::words("state"),
        Column::words("submitted"),
        Column::figures("cells", None),
        Column::figures("done", None),
        Column::figures("failed", None),
        Column::words("priority"),
        Column::words("labels"),
        Column::words("submitter"),
        Column::figures("ahead", None),
        Column::figures("left", csv.then_some("ms")),
    ]);
    let mut items = Vec::new();
    for job in jobs {
        sheet.row([
            Some(job.job_id.clone()),
            Some(job.state.clone()),
            Some(if csv { job.submitted_at.clone() } else { to_the_second(&job.submitted_at) }),
            Some(job.tasks_total.to_string()),
            Some(job.tasks_done.to_string()),
            Some(job.tasks_failed.to_string()),
            Some(job.priority.clone()),
            Some(labels(&job.labels)).filter(|text| csv || !text.is_empty()),
            Some(job.submitter.clone()).filter(|text| !text.is_empty()),
            job.queue_position.map(|ahead| ahead.to_string()),
            job.eta_ms.map(|ms| left(format, ms)),
        ]);
        let mut item = output::value(job)?;
        // A list has no tasks: what was not obtained is absent.
        if let Some(fields) = item.as_object_mut().filter(|_| job.tasks.is_empty()) {
            fields.shift_remove("tasks");
        }
        items.push(item);
    }
    let sheet = match format {
        Format::Csv => sheet,
        Format::Table => output::fitting(sheet.without_empty_columns(), &["labels", "failed", "submitted"]),
        _ => sheet.without_empty_columns(),
    };
    Ok(output::list(format, &items, &sheet, "no jobs"))
}

/// A time in RFC 3339 as people need it.
fn to_the_second(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, rest)) => {
            format!("{seconds}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => time.to_owned(),
    }
}

/// Time that is likely to be left: an estimate for people, its milliseconds for programs.
fn left(format: Format, millis: u64) -> String {
    if format == Format::Csv { millis.to_string() } else { number::expected(millis) }
}

/// `edgeprof show`
pub(crate) async fn show(global: &Global, id: &str) -> Result<Exit, Failure> {
    check_job_id(id)?;
    let job = global.connect().await?.job(id).await?;
    output::print(&view_of(global.output, &job)?)?;
    Ok(Exit::Ok)
}

/// `edgeprof watch`
pub(crate) async fn watch(global: &Global, id: &str) -> Result<Exit, Failure> {
    check_job_id(id)?;
    let client = global.connect().await?;
    let mut view = View::new(global.progress);
    let job = follow(&client, id, &mut view, &mut None).await?;
    output::print(&view_of(global.output, &job)?)?;
    Ok(if job.state == "succeeded" { Exit::Ok } else { Exit::CellFailed })
}

/// `edgeprof cancel`
pub(crate) async fn cancel(global: &Global, id: &str) -> Result<Exit, Failure> {
    check_job_id(id)?;
    let job = global.connect().await?.cancel(id).await?;
    output::print(&match global.output {
        Format::Json | Format::Jsonl => view_of(global.output, &job)?,
        Format::Table | Format::Csv | Format::Md => format!("{}\n", job.state),
    })?;
    Ok(Exit::Ok)
}

/// `edgeprof results`
pub(crate) async fn results(global: &Global, id: &str) -> Result<Exit, Failure> {
    if id.parse::<JobId>().is_err() && id.parse::<RunId>().is_err() {
        return Err(Failure::usage(format!("neither a job's nor a run's id: {id:?}"))
            .hint("edgeprof jobs lists jobs; a run's id is in its record"));
    }
    let client = global.connect().await?;
    let runs = client.results(id).await?;
    let tasks = tasks_of(&client, id, &runs).await;
    output::print(&render(global.output, &runs, &tasks))?;
    let open = tasks.iter().filter(|task| is_open(task)).count();
    if open > 0 && Client::is_job_id(id) {
        View::Quiet.note(&format!("{open} of {} cells are not done yet: edgeprof watch {id}", tasks.len()));
    }
    Ok(verdict(&runs))
}

/// Tasks of the job that a table names cells after; without them the table is only poorer.
async fn tasks_of(client: &Client, id: &str, runs: &[RunRecord]) -> Vec<Task> {
    let job_id = if Client::is_job_id(id) {
        id.to_owned()
    } else {
        match runs.first() {
            Some(run) => run.job_id.to_string(),
            None => return Vec::new(),
        }
    };
    client.job(&job_id).await.map(|job| job.tasks).unwrap_or_default()
}

fn is_open(task: &Task) -> bool {
    !task.state.parse().is_ok_and(edgeprof_common::TaskState::is_terminal)
}

/// Runs in the asked shape.
pub(crate) fn render(format: Format, runs: &[RunRecord], tasks: &[Task]) -> String {
    let selectors = tasks
        .iter()
        .filter_map(|task| Some((task.task_id.parse().ok()?, task.board_selector.clone())))
        .collect();
    let terminal = output::terminal();
    let context = Context { selectors, width: terminal.unwrap_or(100).clamp(60, 160), terminal };
    match format {
        Format::Table => edgeprof_report::table(runs, &context),
        Format::Json => edgeprof_report::json(runs),
        Format::Jsonl => edgeprof_report::json_lines(runs),
        Format::Csv => edgeprof_report::csv(runs),
        Format::Md => edgeprof_report::markdown(runs, &context),
    }
}

/// Whether every cell can be used.
pub(crate) fn verdict(runs: &[RunRecord]) -> Exit {
    if runs.iter().all(|run| run.state == RunState::Ok) { Exit::Ok } else { Exit::CellFailed }
}

fn check_job_id(id: &str) -> Result<(), Failure> {
    match id.parse::<JobId>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::usage(error.to_string()).hint("edgeprof jobs lists them")),
    }
}

/// A job with its tasks.
fn view_of(format: Format, job: &Job) -> Result<String, Failure> {
    let mut sheet = Sheet::new([
        Column::words("task"),
        Column::words("state"),
        Column::words("boards"),
        Column::words("board"),
        Column::words("scenario"),
        Column::figures("attempts", None),
        Column::words("progress"),
        Column::words("error"),
        Column::figures("left", (format == Format::Csv).then_some("ms")),
    ]);
    for task in &job.tasks {
        let progress = match (&task.progress, task.queue_position) {
            (Some(p), _) if p.total > 0 => Some(format!("{} {}/{}", p.phase, p.done, p.total)),
            (Some(p), _) => Some(p.phase.clone()),
            (None, Some(0)) if task.state == "queued" => Some("next".into()),
            (None, Some(ahead)) if task.state == "queued" => Some(format!("{ahead} ahead")),
            _ => None,
        };
        let error = task.error.as_ref().map(|error| match (format, &error.hint) {
            (Format::Table, _) | (_, None) => error.code.clone(),
            (_, Some(hint)) => format!("{}: {}; {hint}", error.code, error.message),
        });
        sheet.row([
            Some(task.task_id.clone()),
            Some(task.state.clone()),
            Some(task.board_selector.clone()),
            task.board.clone(),
            Some(task.scenario.clone()),
            Some(task.attempts.to_string()),
            progress,
            error,
            task.eta_ms.map(|ms| left(format, ms)),
        ]);
    }
    Ok(match format {
        Format::Json => output::pretty(&output::value(job)?),
        Format::Jsonl => format!("{}\n", output::value(job)?),
        Format::Csv => sheet.csv(),
        Format::Md => sheet.markdown(),
        Format::Table => {
            let mut text = format!(
                "job {} is {}: {} of {} cells done, {} failed\nsubmitted {} · priority {}",
                job.job_id,
                job.state,
                job.tasks_done,
                job.tasks_total,
                job.tasks_failed,
                to_the_second(&job.submitted_at),
                job.priority
            );
            if !job.submitter.is_empty() {
                text += &format!(" · by {}", job.submitter);
            }
            if !job.labels.is_empty() {
                text += &format!(" · {}", labels(&job.labels));
            }
            let eta = job.eta_ms.map(|ms| format!("{} left (an estimate)", number::expected(ms)));
            let queue = job.queue_position.filter(|ahead| *ahead > 0);
            let queue = queue.map(|ahead| format!("{ahead} tasks ahead of its first one that waits"));
            let outlook: Vec<_> = eta.into_iter().chain(queue).collect();
            if !outlook.is_empty() {
                text += &format!("\n{}", outlook.join(" · "));
            }
            text = edgeprof_report::printable(&text) + "\n";
            if !job.tasks.is_empty() {
                text += &format!(
                    "\n{}",
                    output::fitting(sheet.without_empty_columns(), &["attempts", "boards"]).table()
                );
            }
            text + &errors(&job.tasks)
        }
    })
}

/// Each distinct error of the tasks in full.
pub(crate) fn errors(tasks: &[Task]) -> String {
    let mut known = BTreeMap::new();
    for error in tasks.iter().filter_map(|task| task.error.as_ref()) {
        known.entry((&error.code, &error.message)).or_insert(&error.hint);
    }
    let mut text = String::new();
    for ((code, message), hint) in known {
        text += &format!("\n{code}: {message}\n");
        if let Some(hint) = hint {
            text += &format!("  hint: {hint}\n");
        }
    }
    edgeprof_report::printable(&text)
}

/// `a=b c=d`, in the order of the keys.
pub(crate) fn labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let sorted: BTreeMap<_, _> = labels.into_iter().collect();
    sorted.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
