//! The coordinator's side: one child a model and quantization, with limits on time and memory.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use edgeprof_common::{Digest, ErrorClass, Quant, TaskError};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use super::{
    Line, Order, Preparer, Ready, Vocabulary, Workload,
    order::{IMAGE, VOCABULARY},
};
use crate::{artifacts::Artifacts, store::rows::ImageRow};

/// Bytes of the child's messages that are kept.
const STDERR: usize = 4096;

/// How the standard library begins to say that there is no memory left.
const ALLOCATION: &str = "memory allocation of ";

/// Bounds on a child.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From one answer to the next.
    pub step: Duration,
    /// Multiplications of the host's engine for one workload.
    pub reference: u64,
}

/// What is to be prepared.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model file.
    pub model: Digest,
    /// Its tokenizer file.
    pub tokenizer: Option<Digest>,
    /// How weights are to be stored.
    pub quant: Quant,
    /// The image, if it was built before.
    pub image: Option<ImageRow>,
    /// What is to be run.
    pub workloads: Vec<Workload>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The image is an artifact. Comes first.
    Image(ImageRow, Arc<Vocabulary>),
    /// A workload, by its place in the request.
    Workload(usize, Result<Ready, TaskError>),
    /// Everything not answered so far cannot be prepared.
    Broken(TaskError),
}

/// Prepares in child processes.
#[derive(Clone, Debug)]
pub struct Children {
    /// The program whose `prepare` subcommand is the child.
    pub program: PathBuf,
    /// Where models are and images go.
    pub artifacts: Artifacts,
    /// Bounds on each child.
    pub limits: Limits,
}

#[tonic::async_trait]
impl Preparer for Children {
    /// Runs a child. Dropped, it takes the child with it.
    async fn run(&self, request: Request, answers: mpsc::Sender<Outcome>) {
        if let Err(error) = self.supervise(&request, &answers).await {
            let _ = answers.send(Outcome::Broken(error)).await;
        }
    }
}

impl Children {
    async fn supervise(&self, request: &Request, answers: &mpsc::Sender<Outcome>) -> Result<(), TaskError> {
        let folder = self.artifacts.scratch().map_err(trouble)?;
        let size = self.artifacts.size(&request.model).unwrap_or_default();
        let order = Order {
            model: self.artifacts.path(&request.model),
            tokenizer: request.tokenizer.map(|digest| self.artifacts.path(&digest)),
            quant: request.quant,
            image: request.image.map(|row| self.artifacts.path(&row.image)),
            out: folder.path().to_owned(),
            workloads: request.workloads.clone(),
            reference_limit: self.limits.reference,
            memory_limit: memory_limit(size),
        };
        let mut child = Command::from(command(&self.program))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(trouble)?;
        let outcome = self.converse(&mut child, &order, request, answers).await;
        match outcome {
            Ok(()) => Ok(()),
            Err(Trouble::Task(error)) => Err(error),
            Err(Trouble::Silent) => {
                let what = format!("preparing took longer than {} s", self.limits.step.as_secs());
                Err(TaskError::new(ErrorClass::Model, "prepare_timeout", what)
                    .with_hint("use a smaller model or fewer tokens"))
            }
            Err(Trouble::Ended) => Err(died(child, order.memory_limit).await),
        }
    }

    async fn converse(
        &self,
        child: &mut Child,
        order: &Order,
        request: &Request,
        answers: &mpsc::Sender<Outcome>,
    ) -> Result<(), Trouble> {
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Trouble::Ended);
        };
        let mut text = serde_json::to_vec(order).map_err(|e| Trouble::Task(trouble(e)))?;
        text.push(b'\n');
        stdin.write_all(&text).await.map_err(|_| Trouble::Ended)?;
        let mut lines = BufReader::new(stdout).lines();
        let mut left = order.workloads.len();
        let mut built = false;
        while left > 0 || !built {
            let line = timeout(self.limits.step, lines.next_line()).await.map_err(|_| Trouble::Silent)?;
            let line = line.ok().flatten().ok_or(Trouble::Ended)?;
            let answer = match serde_json::from_str(&line).map_err(|_| Trouble::Ended)? {
                Line::Broken(error) => return Err(Trouble::Task(error)),
                Line::Built => {
                    built = true;
                    let (row, vocabulary) = self.take(order, request).await.map_err(Trouble::Task)?;
                    Outcome::Image(row, vocabulary)
                }
                Line::Workload { index, outcome } => {
                    left = left.saturating_sub(1);
                    Outcome::Workload(index, outcome)
                }
            };
            if answers.send(answer).await.is_err() {
                break;
            }
        }
        // Standard input stays open until here: its end ends the child.
        drop(stdin);
        Ok(())
    }

    /// Makes artifacts of what the child wrote.
    async fn take(&self, order: &Order, request: &Request) -> Result<(ImageRow, Arc<Vocabulary>), TaskError> {
        let (artifacts, out, known) = (self.artifacts.clone(), order.out.clone(), request.image);
        let taken = tokio::task::spawn_blocking(move || {
            let row = match known {
                Some(row) => row,
                None => {
                    let image = std::fs::read(out.join(IMAGE)).map_err(trouble)?;
                    let vocabulary = std::fs::read(out.join(VOCABULARY)).map_err(trouble)?;
                    ImageRow {
                        size: image.len() as u64,
                        image: artifacts.keep(&image).map_err(trouble)?,
                        vocabulary: artifacts.keep(&vocabulary).map_err(trouble)?,
                    }
                }
            };
            let vocabulary = std::fs::read(artifacts.path(&row.vocabulary)).map_err(trouble)?;
            let vocabulary = Vocabulary::from_bytes(&vocabulary).map_err(trouble)?;
            Ok((row, Arc::new(vocabulary)))
        });
        taken.await.map_err(trouble)?
    }
}

/// The child, before its streams are tied. Its address space is limited, of which the allocator would reserve a
/// gigabyte at once.
#[must_use]
pub fn command(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.arg("prepare").env("MIMALLOC_ARENA_RESERVE", "32MiB");
    command
}

/// Address space of a child that reads a model file of so many bytes: what is no weights within 256 MiB;
/// the file and its image, at most twice as large where 4 bits become 8; and the engine's arena with the
/// program itself, whose threads reserve more than they use.
const fn memory_limit(size: u64) -> u64 {
    const METADATA: u64 = 256 << 20;
    const RUN: u64 = 2 << 30;
    size.saturating_mul(3).saturating_add(METADATA + RUN)
}

enum Trouble {
    Task(TaskError),
    Silent,
    Ended,
}

/// A failure of this machine, not of the model.
fn trouble(error: impl std::fmt::Display) -> TaskError {
    TaskError::new(ErrorClass::Infrastructure, "prepare_failed", format!("cannot prepare: {error}"))
        .with_hint("check the coordinator's disk space and log, then submit again")
}

/// What a child that ended before its time said.
async fn died(mut child: Child, memory_limit: u64) -> TaskError {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = timeout(Duration::from_secs(5), stderr.take(STDERR as u64).read_to_end(&mut said)).await;
    }
    let how = match timeout(Duration::from_secs(5), child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        _ => "it does not end".into(),
    };
    let said = String::from_utf8_lossy(&said);
    if said.contains(ALLOCATION) {
        let what =
            format!("preparing takes more memory than the {memory_limit} bytes that a file of this size may");
        return TaskError::new(ErrorClass::Model, "prepare_memory", what)
            .with_hint("the model file may be damaged; else quantize it before, or use a shorter context");
    }
    let what = format!("preparing ended early ({how}): {}", said.trim());
    TaskError::new(ErrorClass::Model, "prepare_crashed", what)
        .with_hint("the model file may be damaged or take too much memory")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What comes of a child that is this shell script.
    async fn outcome(script: &str) -> TaskError {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("child");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let artifacts = Artifacts::open(folder.path(), u64::MAX).unwrap();
        let limits = Limits { step: Duration::from_millis(200), reference: 0 };
        let request = Request {
            model: Digest::of(b"m"),
            tokenizer: None,
            quant: Quant::Native,
            image: None,
            workloads: Vec::new(),
        };
        let (answers, mut outcomes) = mpsc::channel(4);
        Children { program, artifacts, limits }.run(request, answers).await;
        match outcomes.recv().await {
            Some(Outcome::Broken(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_child_that_dies_is_blamed_on_the_model_with_its_last_words() {
        let error = outcome("read order; echo out of memory >&2; kill -ABRT $$").await;
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Model, "prepare_crashed"));
        assert!(error.message.contains("out of memory") && error.message.contains("signal: 6"), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_runs_out_of_memory_is_told_apart() {
        let error =
            outcome("read order; echo 'memory allocation of 99 bytes failed' >&2; kill -ABRT $$").await;
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Model, "prepare_memory"));
        assert!(error.message.contains(&memory_limit(0).to_string()) && error.hint.is_some(), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_hangs_is_given_up() {
        let error = outcome("exec cat").await;
        // It echoes the order, which is no answer; silence is tried next.
        assert_eq!(error.class, ErrorClass::Model);
        let error = outcome("cat >/dev/null").await;
        assert_eq!(error.code, "prepare_timeout");
    }
}
