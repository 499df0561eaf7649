//! The rows: their keys, their types, and what is done to them when the store is opened.
//!
//! | key | value |
//! | --- | --- |
//! | `meta/schema`, `meta/writer` | version of this table; the version of edgeprof that had it last |
//! | `meta/cluster`, `meta/epoch` | [`ClusterId`]; [`Life`] |
//! | `job/<id>` | [`JobRow`]: a job as it was submitted |
//! | `open/<job>` | `true`: the job has not ended; what a restart takes up |
//! | `ended/<place>` | [`EndedJob`]: how the job ended; the last that was submitted comes first |
//! | `key/<key>` | `JobId`: the job that a client's idempotency key made |
//! | `def/<task>` | [`TaskDef`]: what a task is, written once |
//! | `task/<task>` | [`StoredTask`]: where it is; absent while it is as it was submitted |
//! | `run/<run>` | the record, JSON in lz4 |
//! | `log/<task>/<lease>` | [`LogRow`] in lz4: what passed on a board's line in an attempt, if anything did |
//! | `token/<board>` | the last `Token` issued for a board |
//! | `board/<board>` | [`StoredBoard`]: marks and suspicions |
//! | `drained/<worker>` | `true`: an operator took it out of service |
//! | `estimate/<image>/<kind>` | `Estimate`: what was learned of run times |
//! | `image/<model>/<quant>` | [`ImageRow`]; of model and tokenizer file where there is one |
//! | `prep/<workload>` | [`Prepared`]: what a worker needs to run a workload on an image |
//! | `bearer/<name>` | [`TokenRow`]: a bearer token, without its secret |
//! | `audit/<number>` | [`AuditRow`]: what somebody changed or was refused; numbers likewise, without gaps |
//! | `uploads/<submitter>` | [`UploadsRow`]: bytes uploaded lately, where there is a quota |
//! | `aside/<number>` | a result of a task that is not known here, lz4; numbers are eight bytes, big endian |
//!
//! A task that runs once takes three rows of its own: what it is, where it is, and its record.

mod access;
mod claim;
pub mod key;
mod recover;
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edgeprof_common::{
    BoardId, ClusterId, Digest, Epoch, JobId, JobState, Nonce, Priority, TaskError, TaskId,
    job::{Cell, JobSpec, Prompt},
    run::StopReason,
};
use edgeprof_scheduler::{BoardRow, Requirement, Standing, Step};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Store, StoreError};

pub use access::{AuditRow, Outcome, TokenRow, UploadsRow, audit, audit_range, tokens, uploads};
pub use claim::{AdoptError, adopt, claim, owner};
pub(crate) use recover::of_tasks;
pub use recover::{OpenJob, Recovered, recover};
pub use schema::{SCHEMA, known};

const SCAN: usize = 1000;

/// One life of a coordinator over this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Higher than that of every life before.
    pub epoch: Epoch,
    /// Binds the epoch to this process.
    pub nonce: Nonce,
}

/// Bits of an event's number that count within one life; those above are the epoch.
const EVENTS: u32 = 32;

impl Life {
    /// Number of what is known when this life begins: above every number of the lives before, so that whatever a
    /// watcher has of them, it gets the present state.
    #[must_use]
    pub const fn first_event(&self) -> u64 {
        self.epoch.0.saturating_mul(1 << EVENTS)
    }
}

/// Who this coordinator is to its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the store.
    pub cluster: ClusterId,
    /// Of the process.
    pub life: Life,
}

/// A job as submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// What was asked.
    pub spec: JobSpec,
    /// RFC 3339.
    pub submitted_at: String,
    /// In the order of the cells.
    pub tasks: Vec<TaskId>,
    /// The client's key, so that asking again makes no second job.
    pub idempotency_key: Option<String>,
    /// Who shares the boards with whom.
    pub submitter: String,
    /// Place of its first task in the order of submission; the others follow.
    pub first_seq: u64,
    /// The trace that it was submitted in, as `traceparent` has it, if that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// A job that has ended, as lists show it. It never changes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedJob {
    /// The job.
    pub id: JobId,
    /// How it ended.
    pub state: JobState,
    /// RFC 3339.
    pub submitted_at: String,
    /// Its class in the queue.
    pub priority: Priority,
    /// The client's.
    pub labels: BTreeMap<String, String>,
    /// Who shared the boards with whom.
    pub submitter: String,
    /// How many tasks it has.
    pub tasks: usize,
    /// How many of them failed for good.
    pub failed: usize,
    /// Place of its first task in the order of submission.
    pub first_seq: u64,
    /// Number of its end among the changes that watchers are told.
    pub last_event: u64,
}

impl EndedJob {
    /// A job that was submitted so, and ended like this.
    pub fn of(job: &JobRow, state: JobState, failed: usize, last_event: u64) -> Self {
        Self {
            id: job.id,
            state,
            submitted_at: job.submitted_at.clone(),
            priority: job.spec.priority,
            labels: job.spec.labels.clone(),
            submitter: job.submitter.clone(),
            tasks: job.tasks.len(),
            failed,
            first_seq: job.first_seq,
            last_event,
        }
    }
}

/// A firmware as a task pins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwarePin {
    /// Of the file.
    pub file: Digest,
    /// Of the loaded segments.
    pub loaded: Digest,
    /// Of the file, in bytes.
    pub size: u64,
}

impl FirmwarePin {
    /// What boards that do nothing run.
    pub fn nothing() -> Self {
        Self { file: Digest::of(b""), loaded: Digest::of(b""), size: 0 }
    }
}

/// What is known of a model from its header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// `gguf` or `llama2c`.
    pub format: String,
    /// Architecture.
    pub arch: String,
    /// Number of parameters.
    pub params: u64,
    /// Bytes of weights on the board.
    pub weight_bytes: u64,
}

/// What a task is; never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDef {
    /// The task.
    pub id: TaskId,
    /// Its job.
    pub job: JobId,
    /// What to run.
    pub cell: Cell,
    /// The selector of its boards, as given.
    pub selector: String,
    /// The cell's name within its job.
    pub scenario: String,
    /// The selector as conditions, narrowed to kinds that the model fits.
    pub requirement: Requirement,
    /// Counted repetitions.
    pub repetitions: u32,
    /// Discarded ones before them.
    pub warmup: u32,
    /// The firmware of each kind that it may run on; most tasks of a job share one list.
    pub firmware: Arc<BTreeMap<String, FirmwarePin>>,
    /// Absent where the file could not be read.
    pub model: Option<ModelFacts>,
    /// Why it is not tried at all.
    pub refusal: Option<TaskError>,
}

/// What tasks have in common, so that thousands of them do not have it each.
#[derive(Debug, Default)]
pub struct SharedParts {
    firmware: Vec<Arc<BTreeMap<String, FirmwarePin>>>,
    requirements: BTreeSet<Requirement>,
}

impl SharedParts {
    /// Lets a task share its lists with those before it.
    pub fn share(&mut self, task: &mut TaskDef) {
        match self.firmware.iter().find(|known| **known == task.firmware) {
            Some(known) => task.firmware = Arc::clone(known),
            None => self.firmware.push(Arc::clone(&task.firmware)),
        }
        match self.requirements.get(&task.requirement) {
            Some(known) => task.requirement = known.clone(),
            None => drop(self.requirements.insert(task.requirement.clone())),
        }
    }
}

impl TaskDef {
    /// How much it computes, in tokens over all repetitions. A text is taken for a token every four bytes:
    /// how many it has is known once it is prepared.
    #[must_use]
    pub fn work(&self) -> u64 {
        let prompt = match &self.cell.prompt {
            Prompt::Synthetic(n) => u64::from(*n),
            Prompt::Text(text) => text.len() as u64 / 4 + 1,
        };
        let one = prompt + u64::from(self.cell.n_depth) + u64::from(self.cell.n_gen);
        one * (u64::from(self.repetitions) + u64::from(self.warmup)).max(1)
    }
}

/// A board image of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// The artifact.
    pub image: Digest,
    /// Its size.
    pub size: u64,
    /// The artifact with the model's vocabulary.
    pub vocabulary: Digest,
}

/// What the same engine gives on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Generated tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
    /// Over every logit vector, 16 hex digits.
    pub logits_hash: String,
}

/// A task made ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The board image.
    pub image: ImageRow,
    /// Depth, then prompt.
    pub tokens: Vec<u32>,
    /// Tokens that end the generation.
    pub stop_tokens: Vec<u32>,
    /// Positions of the context.
    pub ctx: u32,
    /// Of the engine.
    pub arena_bytes: u64,
    /// Absent where it would take too long to compute.
    pub reference: Option<Reference>,
}

/// What passed on a board's line in one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRow {
    /// The board.
    pub board: BoardId,
    /// `succeeded`, `failed` or `cancelled`.
    pub outcome: String,
    /// The transcript.
    pub text: String,
}

/// Where a task is, and how it came there.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct StoredTask {
    /// The scheduler's. Schema 2 had there too what its job and its definition say.
    #[serde(alias = "row")]
    pub standing: Standing,
    /// When its open attempt started, in ms since 1970.
    #[serde(default)]
    pub started_at: Option<u64>,
    /// What happened to it since it was submitted.
    #[serde(default)]
    pub story: Vec<StoryLine>,
}

/// The same, to be written.
#[derive(Debug, Serialize)]
pub struct TaskToStore<'a> {
    /// The scheduler's.
    pub standing: &'a Standing,
    /// When its open attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<u64>,
    /// What happened to it.
    pub story: &'a [StoryLine],
}

/// One thing that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryLine {
    /// In ms since 1970, by the coordinator's clock.
    pub at: u64,
    /// What.
    pub what: Step,
    /// Number of the attempt that it is about; 0 where it is about none.
    #[serde(default, skip_serializing_if = "edgeprof_common::is_default")]
    pub attempt: u32,
    /// Where that attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<BoardId>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What is kept of a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBoard {
    /// The scheduler's.
    pub row: BoardRow,
    /// When its reservation ends, in ms since 1970: what is left of it goes on while nobody runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_until: Option<u64>,
}

/// Value of a row.
///
/// # Panics
/// When a row type cannot be written as JSON: an error of the program.
pub fn encode(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("a row is JSON")
}

/// A row from its value.
///
/// # Errors
/// When the value is not such a row.
pub fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Row {
        key: String::from_utf8_lossy(key).into_owned(),
        reason: error.to_string(),
    })
}

/// Value of a row that is long, such as a record's.
pub fn pack(row: &impl Serialize) -> Vec<u8> {
    lz4_flex::compress_prepend_size(&encode(row))
}

/// A long row from its value.
///
/// # Errors
/// When the value is not such a row.
pub fn unpack<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    let text = lz4_flex::decompress_size_prepended(value).map_err(|error| StoreError::Row {
        key: String::from_utf8_lossy(key).into_owned(),
        reason: error.to_string(),
    })?;
    decode(key, &text)
}

/// A row, if it is there.
///
/// # Errors
/// When the store fails or the row is damaged.
pub fn read<T: DeserializeOwned>(store: &dyn Store, key: &[u8]) -> Result<Option<T>, StoreError> {
    store.get(key)?.map(|value| decode(key, &value)).transpose()
}

/// Calls `each` with every row under a prefix.
///
/// # Errors
/// When the store fails, or `each` does.
pub fn for_each(
    store: &dyn Store,
    prefix: &str,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = store.scan(prefix.as_bytes(), after.as_deref(), SCAN)?;
        for (key, value) in &rows {
            each(key, value)?;
        }
        match rows.into_iter().last() {
            Some((key, _)) => after = Some(key),
            None => return Ok(()),
        }
    }
}
