//! The trace of a task, told once it has ended: its story says when what happened, also in earlier lives of this
//! coordinator. Ids follow from the task, so that workers can hang their parts below attempts that are not told
//! yet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgeprof_common::{Digest, JobId, TaskId};
use edgeprof_scheduler::Step;
use edgeprof_service::telemetry::trace::{self, Id, Kind, Span, SpanContext};

use super::Core;
use crate::{
    clock,
    store::rows::{StoryLine, TaskDef},
};

/// What is told of.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    /// The request that submitted it.
    pub(super) submission: &'a SpanContext,
    pub(super) job: JobId,
    pub(super) task: TaskId,
    /// The cell's name within its job.
    pub(super) scenario: &'a str,
    pub(super) submitted_at: SystemTime,
    /// Without its submission.
    pub(super) story: &'a [StoryLine],
}

/// The id of a span that several processes know before it has ended.
fn id(what: &str, task: TaskId, number: u32) -> Id {
    let digest = Digest::of_parts([what.as_bytes(), &task.raw().to_be_bytes(), &number.to_be_bytes()]);
    let first = digest.as_bytes().first_chunk().copied().map_or(0, u64::from_be_bytes);
    // Zero is no id.
    Id::from(first.max(1))
}

/// The context of an attempt, for what its worker does.
pub(super) fn attempt(submission: &SpanContext, task: TaskId, number: u32) -> SpanContext {
    trace::sibling(submission, id("attempt", task, number))
}

/// The context of a task.
pub(super) fn task(submission: &SpanContext, task: TaskId) -> SpanContext {
    trace::sibling(submission, id("task", task, 0))
}

/// An attempt that has not ended.
struct Open<'a> {
    line: &'a StoryLine,
    accepted: Option<SystemTime>,
}

/// The spans of a task that has ended, the whole before its parts.
pub(super) fn spans(subject: &Subject<'_>) -> Vec<Span> {
    let Subject { submission, job, task: of, scenario, submitted_at, story } = subject;
    let ended = story.last().map_or(*submitted_at, |line| at(line.at));
    let whole = Span::child(submission, "task")
        .with_id(id("task", *of, 0))
        .between(*submitted_at, ended)
        .with("edgeprof.job.id", job.to_string())
        .with("edgeprof.task.id", of.to_string())
        .with("edgeprof.scenario", (*scenario).to_owned());
    let context = task(submission, *of);
    let whole = match story.last() {
        Some(line) if line.what != Step::Succeeded => {
            let why = line.why.clone().unwrap_or_else(|| line.what.as_str().to_owned());
            whole.failed(why)
        }
        _ => whole,
    };
    let mut spans = vec![whole];
    let (mut waits, mut since) = ("prepare", *submitted_at);
    let mut open: Option<Open<'_>> = None;
    for line in *story {
        let now = at(line.at);
        match line.what {
            Step::Prepared | Step::Offered => {
                spans.push(Span::child(&context, waits).between(since, now));
                (waits, since) = ("queue", now);
                if line.what == Step::Offered {
                    open = Some(Open { line, accepted: None });
                }
            }
            Step::Accepted => {
                if let Some(open) = open.as_mut().filter(|open| open.line.attempt == line.attempt) {
                    open.accepted.get_or_insert(now);
                }
            }
            Step::Rejected
            | Step::Recalled
            | Step::Lost
            | Step::Failed
            | Step::Cancelled
            | Step::Succeeded
            | Step::Ended => {
                if let Some(open) = open.take() {
                    attempted(&mut spans, subject, &context, &open, line);
                }
                since = now;
            }
            Step::Submitted | Step::Started | Step::Backoff | Step::Judged | Step::Overdue => {}
        }
    }
    spans
}

fn attempted(
    spans: &mut Vec<Span>,
    subject: &Subject<'_>,
    task: &SpanContext,
    open: &Open<'_>,
    end: &StoryLine,
) {
    let (began, ended) = (at(open.line.at), at(end.at));
    let board = open.line.board.as_ref().map(ToString::to_string).unwrap_or_default();
    let context = attempt(subject.submission, subject.task, open.line.attempt);
    let span = Span::child(task, "attempt")
        .with_id(context.span_id())
        .with_kind(Kind::Producer)
        .between(began, ended)
        .with("edgeprof.attempt", i64::from(open.line.attempt))
        .with("edgeprof.board", board)
        .with("edgeprof.outcome", end.what.as_str());
    spans.push(match end.what {
        Step::Succeeded => span,
        other => span.failed(end.why.clone().unwrap_or_else(|| other.as_str().to_owned())),
    });
    spans.push(Span::child(&context, "offer").between(began, open.accepted.unwrap_or(ended)));
}

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

impl Core {
    /// The context of the request that submitted a task, if its trace is kept.
    pub(super) fn submission(&self, def: &TaskDef) -> Option<SpanContext> {
        if !trace::is_on() {
            return None;
        }
        trace::from_text(self.jobs.get(&def.job)?.row.trace.as_deref()?).filter(SpanContext::is_sampled)
    }

    /// What the worker of an attempt needs to go on with the trace.
    pub(super) fn traceparent(&self, id: TaskId, number: u32) -> Option<String> {
        let submission = self.submission(self.defs.get(&id)?)?;
        Some(trace::to_text(&attempt(&submission, id, number)))
    }

    /// Tells the trace of a task that has ended.
    pub(super) fn tell_spans(&self, id: TaskId, story: &[StoryLine]) {
        let Some(def) = self.defs.get(&id) else { return };
        let Some(submission) = self.submission(def) else { return };
        let Some(job) = self.jobs.get(&def.job) else { return };
        let submitted_at = clock::ms(&job.row.submitted_at).map_or(UNIX_EPOCH, at);
        let subject = Subject {
            submission: &submission,
            job: def.job,
            task: id,
            scenario: &def.scenario,
            submitted_at,
            story,
        };
        spans(&subject).into_iter().for_each(Span::end);
    }

    /// Times the commit of a task's record, from now until what waits for it is let out.
    pub(super) fn trace_commit(&mut self, def: &TaskDef) {
        if let Some(submission) = self.submission(def) {
            let span = Span::child(&task(&submission, def.id), "commit");
            self.outs.push(super::commit::Out::Tell(Box::new(move || span.end())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, what: Step, attempt: u32) -> StoryLine {
        let board = (attempt > 0).then(|| "w/b".parse().unwrap());
        StoryLine { at, what, attempt, board, why: None }
    }

    /// Name, parent, start and length in ms of each.
    fn tree(story: &[StoryLine]) -> Vec<(String, String, u128)> {
        let submission = trace::from_text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let told = spans(&Subject {
            submission: &submission,
            job: JobId::from_raw(1),
            task: TaskId::from_raw(2),
            scenario: "q8_0",
            submitted_at: at(1000),
            story,
        });
        let name = |id: Id| {
            let parent = told.iter().find(|span| span.context().span_id() == id);
            parent.map_or_else(|| "submission".to_owned(), |span| span.name().to_owned())
        };
        assert!(told.iter().all(|span| span.context().trace_id() == submission.trace_id()));
        let row =
            |span: &Span| (span.name().to_owned(), name(span.parent()), span.took().unwrap().as_millis());
        told.iter().map(row).collect()
    }

    fn rows(rows: &[(&str, &str, u128)]) -> Vec<(String, String, u128)> {
        rows.iter().map(|(name, parent, took)| ((*name).to_owned(), (*parent).to_owned(), *took)).collect()
    }

    #[test]
    fn a_task_that_runs_once_is_seen_whole() {
        let story = [
            line(1010, Step::Prepared, 0),
            line(1030, Step::Offered, 1),
            line(1035, Step::Accepted, 1),
            line(1040, Step::Started, 1),
            line(1100, Step::Succeeded, 1),
        ];
        let expected = rows(&[
            ("task", "submission", 100),
            ("prepare", "task", 10),
            ("queue", "task", 20),
            ("attempt", "task", 70),
            ("offer", "attempt", 5),
        ]);
        assert_eq!(tree(&story), expected);
    }

    #[test]
    fn every_attempt_is_a_part_of_its_own_and_waiting_goes_on_between() {
        let story = [
            line(1000, Step::Prepared, 0),
            line(1000, Step::Offered, 1),
            line(1002, Step::Rejected, 1),
            line(1010, Step::Offered, 2),
            line(1011, Step::Accepted, 2),
            line(1050, Step::Failed, 2),
            line(1050, Step::Backoff, 0),
            line(1090, Step::Offered, 3),
            line(1100, Step::Cancelled, 3),
        ];
        let attempts: Vec<_> = tree(&story).into_iter().filter(|(name, ..)| name == "attempt").collect();
        assert_eq!(attempts.iter().map(|(_, _, took)| *took).collect::<Vec<_>>(), [2, 40, 10]);
        let waits: Vec<_> = tree(&story).into_iter().filter(|(name, ..)| name == "queue").collect();
        assert_eq!(waits.iter().map(|(_, _, took)| *took).collect::<Vec<_>>(), [0, 8, 40]);
    }

    #[test]
    fn one_that_was_never_tried_has_a_trace_too() {
        assert_eq!(tree(&[line(1500, Step::Ended, 0)]), rows(&[("task", "submission", 500)]));
        assert_eq!(tree(&[]), rows(&[("task", "submission", 0)]));
    }

    #[test]
    fn a_worker_and_the_coordinator_name_an_attempt_alike_in_every_life() {
        let of = |number| id("attempt", TaskId::from_raw(7), number);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_ne!(of(1), id("task", TaskId::from_raw(7), 1));
    }
}
