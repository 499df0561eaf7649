//! The rows: their keys, their types, and what is done to them when the store is opened.
//!
//! | key | value |
//! | --- | --- |
//! | `meta/schema`, `meta/cluster`, `meta/epoch` | version of this table; [`ClusterId`]; [`Life`] |
//! | `job/<id>` | [`JobRow`] |
//! | `def/<task>` | [`TaskDef`]: what a task is, written once |
//! | `task/<task>` | the scheduler's [`TaskRow`] |
//! | `prep/<task>` | [`Prepared`]: what a worker needs to run it, written once |
//! | `started/<task>` | when its open attempt started, RFC 3339 |
//! | `token/<board>` | the last [`Token`] issued for a board |
//! | `run/<run>` | the record, JSON in lz4 |
//! | `event/<number>` | [`EventRow`]; numbers are eight bytes, big endian |
//! | `image/<model>/<quant>` | [`ImageRow`]; of model and tokenizer file where there is one |
//! | `log/<task>/<lease>` | [`LogRow`] in lz4: what passed on a board's line in an attempt |
//! | `aside/<number>` | a result of a task that is not known here, lz4 |

use std::{collections::BTreeMap, str::FromStr};

use edgeprof_common::{
    BoardId, ClusterId, Digest, Epoch, IdError, JobId, Nonce, RunId, TaskError, TaskId, TaskState, Token,
    job::{Cell, JobSpec},
    run::StopReason,
};
use edgeprof_scheduler::{Requirement, TaskRow};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Store, StoreError, Transaction};

/// Version of the rows.
pub const SCHEMA: u32 = 1;

const SCAN: usize = 1000;

/// One life of a coordinator over this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Higher than that of every life before.
    pub epoch: Epoch,
    /// Binds the epoch to this process.
    pub nonce: Nonce,
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
    /// The firmware of each kind that it may run on.
    pub firmware: BTreeMap<String, FirmwarePin>,
    /// Absent where the file could not be read.
    pub model: Option<ModelFacts>,
    /// Why it is not tried at all.
    pub refusal: Option<TaskError>,
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

/// A committed change that watchers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Of this job.
    pub job: JobId,
    /// Of this task; absent where the job itself was made.
    pub task: Option<TaskId>,
    /// What it became.
    pub state: Option<TaskState>,
}

/// Keys.
pub mod key {
    use super::*;

    macro_rules! keys {
        ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) = $text:literal;)*) => {
            $($(#[$doc])* #[must_use] pub fn $name($($arg: $type),*) -> Vec<u8> { format!($text).into_bytes() })*
        };
    }

    keys! {
        /// A job's row.
        job(id: JobId) = "job/{id}";
        /// What a task is.
        def(id: TaskId) = "def/{id}";
        /// Where a task is.
        task(id: TaskId) = "task/{id}";
        /// What a worker needs for it.
        prep(id: TaskId) = "prep/{id}";
        /// When a task's open attempt started.
        started(id: TaskId) = "started/{id}";
        /// A board's last token.
        token(id: &BoardId) = "token/{id}";
        /// A record.
        run(id: RunId) = "run/{id}";
        /// A board image.
        image(model: Digest, quant: edgeprof_common::Quant) = "image/{model}/{quant}";
    }

    /// A transcript; those of a task sort by lease.
    #[must_use]
    pub fn log(task: TaskId, token: Token) -> Vec<u8> {
        format!("log/{task}/{:020}-{:020}", token.epoch.0, token.counter).into_bytes()
    }

    /// A numbered event.
    #[must_use]
    pub fn event(number: u64) -> Vec<u8> {
        [b"event/".as_slice(), &number.to_be_bytes()].concat()
    }

    /// A result kept aside.
    #[must_use]
    pub fn aside(number: u64) -> Vec<u8> {
        [b"aside/".as_slice(), &number.to_be_bytes()].concat()
    }

    /// The number at the end of a key.
    #[must_use]
    pub fn number(key: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(*key.last_chunk()?))
    }
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

/// The id at the end of a key.
fn id<T: FromStr<Err = IdError>>(key: &[u8], prefix: &str) -> Result<T, StoreError> {
    let text = String::from_utf8_lossy(key).into_owned();
    let parsed = text.get(prefix.len()..).unwrap_or_default().parse();
    parsed.map_err(|error: IdError| StoreError::Row { key: text, reason: error.to_string() })
}

/// Everything that a starting coordinator takes from its store.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Every job.
    pub jobs: Vec<JobRow>,
    /// Every task's definition.
    pub defs: Vec<TaskDef>,
    /// Every task's place.
    pub tasks: Vec<TaskRow>,
    /// When open attempts started.
    pub started: BTreeMap<TaskId, String>,
    /// The last token of each board.
    pub tokens: BTreeMap<BoardId, Token>,
    /// Number of the last event of each job.
    pub last_events: BTreeMap<JobId, u64>,
    /// Numbers of the oldest and newest events kept.
    pub events: Option<(u64, u64)>,
    /// Number of the last result kept aside.
    pub aside: u64,
}

/// Checks the schema, makes the cluster id of a new store, and raises the epoch; durable on return.
///
/// # Errors
/// When the store fails or has another schema.
pub fn claim(store: &dyn Store) -> Result<Identity, StoreError> {
    const SCHEMA_KEY: &[u8] = b"meta/schema";
    const CLUSTER_KEY: &[u8] = b"meta/cluster";
    const EPOCH_KEY: &[u8] = b"meta/epoch";
    let mut transaction = Transaction::default();
    match store.get(SCHEMA_KEY)? {
        None => transaction.put(SCHEMA_KEY.into(), encode(&SCHEMA)),
        Some(found) if found == encode(&SCHEMA) => {}
        Some(found) => {
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err(StoreError::Schema { found, expected: SCHEMA });
        }
    }
    let cluster = match read(store, CLUSTER_KEY)? {
        Some(cluster) => cluster,
        None => {
            let cluster = ClusterId::random();
            transaction.put(CLUSTER_KEY.into(), encode(&cluster));
            cluster
        }
    };
    let before: Option<Life> = read(store, EPOCH_KEY)?;
    let epoch = Epoch(before.map_or(0, |life| life.epoch.0) + 1);
    let life = Life { epoch, nonce: Nonce::random() };
    transaction.put(EPOCH_KEY.into(), encode(&life));
    let transaction = transaction.when(EPOCH_KEY.into(), before.as_ref().map(encode));
    match store.commit(&[transaction])?.first() {
        Some(super::Applied::Yes) => Ok(Identity { cluster, life }),
        _ => Err(StoreError::Row {
            key: "meta/epoch".into(),
            reason: "another coordinator raised it meanwhile".into(),
        }),
    }
}

/// Reads what a starting coordinator needs.
///
/// # Errors
/// When the store fails or a row is damaged.
pub fn recover(store: &dyn Store) -> Result<Recovered, StoreError> {
    let mut all = Recovered::default();
    for_each(store, "job/", |key, value| {
        all.jobs.push(decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "def/", |key, value| {
        all.defs.push(decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "task/", |key, value| {
        all.tasks.push(decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "started/", |key, value| {
        let task = id(key, "started/")?;
        all.started.insert(task, decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "token/", |key, value| {
        let board = id(key, "token/")?;
        all.tokens.insert(board, decode(key, value)?);
        Ok(())
    })?;
    for_each(store, "event/", |key, value| {
        let event: EventRow = decode(key, value)?;
        let number = key::number(key).unwrap_or_default();
        all.last_events.insert(event.job, number);
        all.events = Some((all.events.map_or(number, |(first, _)| first), number));
        Ok(())
    })?;
    for_each(store, "aside/", |key, _| {
        all.aside = key::number(key).unwrap_or_default();
        Ok(())
    })?;
    all.jobs.sort_by(|a, b| (&a.submitted_at, a.id).cmp(&(&b.submitted_at, b.id)));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[test]
    fn each_start_raises_the_epoch_of_the_same_cluster() {
        let store = Memory::default();
        let (first, second) = (claim(&store).unwrap(), claim(&store).unwrap());
        assert_eq!(first.cluster, second.cluster);
        assert!(first.life.epoch < second.life.epoch);
        assert_ne!(first.life.nonce, second.life.nonce);
    }

    #[test]
    fn a_store_of_another_schema_is_refused() {
        let store = Memory::default();
        let mut transaction = Transaction::default();
        transaction.put(b"meta/schema".to_vec(), b"99".to_vec());
        store.commit(&[transaction]).unwrap();
        assert!(matches!(claim(&store), Err(StoreError::Schema { .. })));
    }

    #[test]
    fn events_are_read_back_in_the_order_of_their_numbers() {
        let store = Memory::default();
        let job = JobId::from_raw(7);
        let mut transaction = Transaction::default();
        for number in [1, 255, 256, 65_536] {
            let row = EventRow { job, task: None, state: None };
            transaction.put(key::event(number), encode(&row));
        }
        store.commit(&[transaction]).unwrap();
        let recovered = recover(&store).unwrap();
        assert_eq!(recovered.events, Some((1, 65_536)));
        assert_eq!(recovered.last_events[&job], 65_536);
    }
}
