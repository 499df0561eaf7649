//! Progress on standard error: bars on a terminal, sparse plain lines where asked for, else nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, stderr},
    sync::Mutex,
    time::Duration,
};

use clap::ValueEnum;
use edgeprof_client::{Job, LocalFile, Task};
use edgeprof_report::{number, printable};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::say;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Bars where standard error is a terminal, else nothing.
    #[default]
    Auto,
    /// A line now and then.
    Plain,
    /// Nothing.
    None,
}

/// Bars of running tasks drawn at once.
const MAX_BARS: usize = 16;

/// Plain lines are said at every quarter.
const PLAIN_STEP: u64 = 25;

/// Shows how a job goes on.
#[derive(Debug)]
pub(crate) enum View {
    Bars(Bars),
    Plain(Plain),
    Quiet,
}

impl View {
    pub(crate) fn new(mode: Mode) -> Self {
        match mode {
            Mode::Auto if stderr().is_terminal() => Self::Bars(Bars::new(ProgressDrawTarget::stderr())),
            Mode::Plain => Self::Plain(Plain::default()),
            Mode::Auto | Mode::None => Self::Quiet,
        }
    }

    /// A line that is shown in every mode.
    pub(crate) fn note(&self, text: &str) {
        let text = printable(text);
        match self {
            Self::Bars(bars) => bars.multi.suspend(|| say(&format!("{text}\n"))),
            Self::Plain(_) | Self::Quiet => say(&format!("{text}\n")),
        }
    }

    /// A file is at `sent` bytes.
    pub(crate) fn upload(&self, file: &LocalFile, sent: u64) {
        match self {
            Self::Bars(bars) => bars.upload(file, sent),
            Self::Plain(plain) => plain.upload(file, sent),
            Self::Quiet => {}
        }
    }

    /// The job is as it is.
    pub(crate) fn job(&mut self, job: &Job) {
        match self {
            Self::Bars(bars) => bars.job(job),
            Self::Plain(plain) => {
                for line in plain.lines(job) {
                    say(&format!("{}\n", printable(&line)));
                }
            }
            Self::Quiet => {}
        }
    }

    /// Takes everything drawn off the terminal.
    pub(crate) fn clear(&self) {
        if let Self::Bars(bars) = self {
            let _ = bars.multi.clear();
        }
    }
}

/// Bars on a terminal.
#[derive(Debug)]
pub(crate) struct Bars {
    multi: MultiProgress,
    uploads: Mutex<BTreeMap<String, ProgressBar>>,
    whole: Option<ProgressBar>,
    tasks: BTreeMap<String, ProgressBar>,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is sound").progress_chars("━╸─")
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        Self {
            multi: MultiProgress::with_draw_target(target),
            uploads: Mutex::default(),
            whole: None,
            tasks: BTreeMap::new(),
        }
    }

    fn upload(&self, file: &LocalFile, sent: u64) {
        let mut uploads = self.uploads.lock().expect("no holder of the lock panics");
        let bar = uploads.entry(file.digest().to_string()).or_insert_with(|| {
            let bar = self.multi.add(ProgressBar::new(file.size()));
            bar.set_style(style("{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec}"));
            bar.set_prefix(format!("upload {}", printable(&file.name())));
            bar
        });
        bar.set_position(sent);
        if sent >= file.size() {
            bar.finish_and_clear();
        }
    }

    fn job(&mut self, job: &Job) {
        let whole = self.whole.get_or_insert_with(|| {
            let bar = self.multi.insert(0, ProgressBar::new(0));
            bar.set_style(style("{spinner} {prefix} {pos}/{len} cells {wide_msg}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_prefix(printable(&job.job_id));
            bar
        });
        whole.set_length(job.tasks_total.into());
        whole.set_position(job.tasks_done.into());
        whole.set_message(summary(job));
        for task in &job.tasks {
            let running = task.state == "leased" || task.progress.is_some();
            if !running {
                if let Some(bar) = self.tasks.remove(&task.task_id) {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
                continue;
            }
            if !self.tasks.contains_key(&task.task_id) && self.tasks.len() >= MAX_BARS {
                continue;
            }
            let bar = self.tasks.entry(task.task_id.clone()).or_insert_with(|| {
                let bar = self.multi.add(ProgressBar::new(0));
                bar.set_style(style("  {prefix} {spinner} {wide_msg}"));
                bar.enable_steady_tick(Duration::from_millis(120));
                bar
            });
            bar.set_prefix(printable(&format!("{:<24}", name(task))));
            let (phase, done, total) = at(task);
            bar.set_message(printable(&format!("{phase} · {}", task.scenario)));
            if total > 0 {
                if bar.length() != Some(total) {
                    // The time left is judged from the first token on, not from the flashing before.
                    bar.set_length(total);
                    bar.set_position(done);
                    bar.reset_eta();
                    bar.set_style(style("  {prefix} {bar:20} {pos}/{len} tokens, {eta} left  {wide_msg}"));
                }
                bar.set_position(done);
            }
        }
    }
}

/// Plain lines.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    uploaded: Mutex<BTreeSet<String>>,
    said: BTreeMap<String, String>,
}

impl Plain {
    fn upload(&self, file: &LocalFile, sent: u64) {
        let mut uploaded = self.uploaded.lock().expect("no holder of the lock panics");
        if sent >= file.size() && uploaded.insert(file.digest().to_string()) {
            say(&format!("uploaded {} ({})\n", printable(&file.name()), number::bytes(file.size())));
        }
    }

    /// What is new enough to be said.
    fn lines(&mut self, job: &Job) -> Vec<String> {
        let mut lines = Vec::new();
        for task in &job.tasks {
            let (phase, done, total) = at(task);
            let text = match task.state.as_str() {
                "leased" if total > 0 => {
                    let percent = done.saturating_mul(100) / total / PLAIN_STEP * PLAIN_STEP;
                    format!("{phase} {percent}%")
                }
                "leased" => phase.to_owned(),
                "queued" if task.progress.is_some() => phase.to_owned(),
                state => state.to_owned(),
            };
            if self.said.get(&task.task_id) != Some(&text) {
                lines.push(format!("{} {}: {text}", name(task), task.scenario));
                self.said.insert(task.task_id.clone(), text);
            }
        }
        lines
    }
}

/// The board of a task, or the set it waits for.
fn name(task: &Task) -> &str {
    task.board.as_deref().unwrap_or(&task.board_selector)
}

fn at(task: &Task) -> (&str, u64, u64) {
    match &task.progress {
        Some(progress) => (progress.phase.as_str(), progress.done, progress.total),
        None => (task.state.as_str(), 0, 0),
    }
}

/// What the tasks that do not run are waiting for.
fn summary(job: &Job) -> String {
    let queued: Vec<_> = job.tasks.iter().filter(|task| task.state == "queued").collect();
    let mut parts = Vec::new();
    if job.tasks_failed > 0 {
        parts.push(format!("{} failed", job.tasks_failed));
    }
    if job.state == "cancelling" {
        parts.push("cancelling".to_owned());
    }
    if !queued.is_empty() {
        let ahead = queued.iter().filter_map(|task| task.queue_position).min();
        let ahead = ahead.filter(|n| *n > 0).map(|n| format!(", {n} ahead of the first")).unwrap_or_default();
        parts.push(format!("{} queued{ahead}", queued.len()));
    }
    if let Some(ms) = job.eta_ms {
        parts.push(format!("{} left", number::expected(ms)));
    }
    let text = parts.join(" · ");
    if text.is_empty() { text } else { format!("· {text}") }
}

#[cfg(test)]
mod tests {
    use edgeprof_client::Progress;

    use super::*;

    fn job(state: &str, progress: Option<(&str, u64, u64)>) -> Job {
        let progress = progress.map(|(phase, done, total)| Progress { phase: phase.into(), done, total });
        let task = Task {
            task_id: "t1".into(),
            state: state.into(),
            scenario: "p16 n16".into(),
            board_selector: "all".into(),
            queue_position: Some(3),
            progress,
            ..Task::default()
        };
        Job { job_id: "j1".into(), state: "open".into(), tasks: vec![task], tasks_total: 1, ..Job::default() }
    }

    #[test]
    fn plain_lines_are_sparse() {
        let mut plain = Plain::default();
        let mut all = Vec::new();
        all.extend(plain.lines(&job("queued", None)));
        all.extend(plain.lines(&job("queued", Some(("prepare", 0, 0)))));
        for done in 0..=100 {
            all.extend(plain.lines(&job("leased", Some(("run", done, 100)))));
        }
        all.extend(plain.lines(&job("succeeded", None)));
        let said: Vec<_> = all.iter().map(|line| line.strip_prefix("all p16 n16: ").unwrap()).collect();
        assert_eq!(
            said,
            ["queued", "prepare", "run 0%", "run 25%", "run 50%", "run 75%", "run 100%", "succeeded"]
        );
    }

    #[test]
    fn what_waits_is_summed_up() {
        assert_eq!(summary(&job("queued", None)), "· 1 queued, 3 ahead of the first");
        assert_eq!(summary(&job("leased", None)), "");
        let known = Job { eta_ms: Some(125_000), ..job("queued", None) };
        assert_eq!(summary(&known), "· 1 queued, 3 ahead of the first · ~2 min left");
    }

    #[test]
    fn bars_come_and_go_with_their_tasks() {
        let mut bars = Bars::new(ProgressDrawTarget::hidden());
        bars.job(&job("leased", Some(("run", 5, 10))));
        assert_eq!((bars.tasks["t1"].position(), bars.tasks["t1"].length()), (5, Some(10)));
        bars.job(&job("succeeded", None));
        assert!(bars.tasks.is_empty());
    }
}
