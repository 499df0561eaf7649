//! A job in: looked at, planned, made durable.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use edgeprof_boards::{NOOP, catalogue};
use edgeprof_common::{Digest, ErrorClass, JobId, Role, TaskError, job::JobSpec};
use edgeprof_model::{Format, ModelError};
use edgeprof_proto::v1;
use edgeprof_service::{
    status::{exhausted, with_hint},
    telemetry::trace::{self, SpanContext},
};
use tonic::{Code, Status};

use super::{Api, FULL, broken, name};
use crate::{
    access::{Caller, Refusal as Denied, audit::entry},
    artifacts::{Artifacts, firmware},
    core::{Before, Busy, Command, Keys, Known},
    ended,
    preparing::child::blame,
    store::rows::{self, FirmwarePin, JobRow, Prepared, TaskDef},
    submit::{Facts, Present, Refusal, kinds, plan},
};

/// Longest key that a client may choose.
const KEY: usize = 128;

pub(super) async fn submit(
    api: &Api,
    caller: &Caller,
    request: v1::SubmitJobRequest,
) -> Result<v1::Job, Status> {
    let v1::SubmitJobRequest { spec, idempotency_key, submitter } = request;
    name("submitter", &submitter)?;
    let deny = |refusal: Denied| api.access.deny(caller, "SubmitJob", refusal);
    let submitter = caller.acting_as(&submitter, Some(Role::Operator)).map_err(deny)?;
    let mut spec = spec.ok_or_else(|| Status::invalid_argument("the request has no job"))?;
    if spec.priority.is_empty() {
        spec.priority = "normal".into();
    }
    let spec: JobSpec =
        edgeprof_proto::bridge("job", &spec).map_err(|error| Status::invalid_argument(error.to_string()))?;
    spec.validate().map_err(|error| Status::invalid_argument(error.to_string()))?;
    if idempotency_key.len() > KEY {
        return Err(Status::invalid_argument(format!("an idempotency key has at most {KEY} bytes")));
    }
    // Nobody learns of another's jobs by their keys. A name has no line break.
    let key = (!idempotency_key.is_empty()).then(|| format!("{submitter}\n{idempotency_key}"));
    // Until the loop knows what the job needs.
    let models = spec.models.iter().flat_map(|model| [Some(model.digest), model.tokenizer]);
    let _hold = api.artifacts.hold(models.chain([spec.firmware]).flatten());
    let Before { known, boards, forgotten } =
        api.ask(|reply| Command::Before { key: key.clone(), reply }).await?;
    let id = JobId::random();
    let (looking, asked, of) = (api.clone(), spec.clone(), key.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let known = match (known, of) {
            // It may have ended, and be forgotten.
            (None, Some(key)) => ended::of_key(&*looking.store, &key).map_err(broken)?,
            (known, _) => known,
        };
        match known {
            Some(known) => Ok(Looked::Known(Box::new(known))),
            None => look(&looking, id, &asked, &boards).map(Looked::Planned).map_err(|why| refused(&why)),
        }
    });
    let looked = looked.await.map_err(|_| Status::internal("a model file could not be looked at"))??;
    let (tasks, ready) = match looked {
        Looked::Known(known) => {
            let (job, row) = *known;
            return if row.spec == spec { Ok(job) } else { Err(busy(Busy::Other(row.id), 0, deny)) };
        }
        Looked::Planned(planned) => planned,
    };
    let row = JobRow {
        id,
        spec,
        submitted_at: crate::clock::now(),
        tasks: tasks.iter().map(|task| task.id).collect(),
        idempotency_key: key,
        submitter,
        first_seq: 0,
        trace: trace::current().filter(SpanContext::is_sampled).map(|context| trace::to_text(&context)),
    };
    let count = tasks.len();
    let note = entry(&caller.clone().called(&row.submitter), "SubmitJob", id, noted(caller, &row, count));
    let submit = |reply| Command::Submit { job: Box::new(row), tasks, ready, forgotten, reply };
    api.ask_as(note, submit).await?.map_err(|why| busy(why, count, deny))
}

/// Why a job of so many tasks is not taken.
fn busy(why: Busy, count: usize, deny: impl Fn(Denied) -> Status) -> Status {
    match why {
        Busy::Other(_) => Status::already_exists(why.to_string()),
        Busy::Quota(over) => deny(over.into()),
        // Waiting never helps.
        Busy::Full(full) if count > full.limit => with_hint(
            Code::InvalidArgument,
            format!("the job has {count} tasks, and at most {} may wait here", full.limit),
            Some("submit it in parts, or raise max_queued_tasks in the coordinator's configuration"),
        ),
        Busy::Full(full) => exhausted(full.to_string(), full.retry_after),
    }
}

/// What the log says of a job.
fn noted(caller: &Caller, row: &JobRow, tasks: usize) -> String {
    let tasks = if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
    if caller.is_proven() && row.submitter != caller.name {
        return format!("{tasks}, as {}", row.submitter);
    }
    tasks
}

/// Tasks, and those of their workloads that were made ready before.
type Planned = (Vec<Arc<TaskDef>>, Vec<(Digest, Prepared)>);

/// What a look at a submission shows.
enum Looked {
    /// Its key made this job before.
    Known(Box<Known>),
    Planned(Planned),
}

/// Files first, then the plan.
fn look(api: &Api, id: JobId, spec: &JobSpec, boards: &[Present]) -> Result<Planned, Refusal> {
    // Results must find room: new work is refused before the disk is full.
    api.room(0).map_err(|message| Refusal::Busy { message })?;
    all_there(&api.artifacts, spec)?;
    let headers = spec
        .models
        .iter()
        .map(|model| {
            let header = api.artifacts.header(&model.digest);
            let header = header.and_then(|header| match (header.format(), model.tokenizer) {
                (Format::Llama2c, None) => Err(ModelError::NoTokenizer),
                _ => Ok(header),
            });
            let header = header.map_err(|error| {
                let mut error = blame(&error);
                error.message = format!("{}: {}", model.name, error.message);
                error
            });
            (model.digest, header)
        })
        .collect();
    let firmware = firmware_of(api, spec, &kinds(spec, boards)?);
    let tasks = plan(id, spec, &Facts { boards, headers, firmware })?;
    let (mut keys, mut ready) = (Keys::default(), BTreeMap::new());
    for of in tasks.iter().filter(|task| task.refusal.is_none()).map(|task| keys.of(task)) {
        if let Entry::Vacant(unknown) = ready.entry(of) {
            unknown.insert(rows::read::<Prepared>(&*api.store, &rows::key::prep(of)).ok().flatten());
        }
    }
    let ready = ready.into_iter().filter_map(|(of, prepared)| Some((of, prepared?))).collect();
    Ok((tasks, ready))
}

fn firmware_of(
    api: &Api,
    spec: &JobSpec,
    kinds: &BTreeSet<String>,
) -> BTreeMap<String, Result<FirmwarePin, TaskError>> {
    let pin = |kind: &str| match spec.firmware {
        _ if kind == NOOP => Ok(FirmwarePin::nothing()),
        Some(file) => {
            let isa = catalogue().get(kind).map_or("", |kind| &kind.isa);
            firmware::uploaded(&api.artifacts, file, isa)
        }
        None => api.firmware.import(&api.artifacts, kind),
    };
    let blamed = |error: firmware::FirmwareError| {
        let class = match error {
            firmware::FirmwareError::Bad { .. } => ErrorClass::Request,
            _ => ErrorClass::Infrastructure,
        };
        TaskError::new(class, "no_firmware", error.to_string()).with_hint(error.hint())
    };
    kinds.iter().map(|kind| (kind.clone(), pin(kind).map_err(blamed))).collect()
}

fn all_there(artifacts: &Artifacts, spec: &JobSpec) -> Result<(), Refusal> {
    let models = spec.models.iter().flat_map(|model| [Some(model.digest), model.tokenizer]);
    let missing: BTreeSet<Digest> =
        models.chain([spec.firmware]).flatten().filter(|digest| artifacts.size(digest).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
    Err(Refusal::precondition(
        format!("artifacts are missing: {}", names.join(", ")),
        "upload them with PutArtifact, then submit again",
    ))
}

fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Invalid { message, hint } => with_hint(Code::InvalidArgument, message, hint.as_deref()),
        Refusal::Precondition { message, hint } => {
            with_hint(Code::FailedPrecondition, message, hint.as_deref())
        }
        Refusal::Busy { message } => exhausted(message, FULL),
    }
}
