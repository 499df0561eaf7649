//! A trial: a tiny model on every kind that can be emulated here, from end to end.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use edgeprof_client::{Client, ClientError, Event, LocalFile, Submission};
use edgeprof_common::{
    Kv, Priority, Quant,
    job::JobSpec,
    run::{RunRecord, RunState, Verification},
};
use edgeprof_model::tiny;
use tokio::{signal::unix::Signal, time::timeout};

use super::check::Check;
use crate::{
    exit::Failure,
    follow::pressed,
    local::{self, Programs},
    progress::View,
};

/// How long all boards together may take; they take a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a kind's trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) kind: String,
    pub(crate) outcome: Result<Good, Bad>,
}

/// It ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Good {
    /// What the firmware says of itself.
    pub(crate) firmware: Option<String>,
}

/// It did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) why: String,
    pub(crate) hint: Option<String>,
}

/// Runs the trial on a private lab of these kinds.
pub(crate) async fn probe(
    programs: &Programs,
    kinds: &[&str],
    view: &mut View,
) -> Result<Vec<Trial>, Failure> {
    let boards: Vec<_> = kinds.iter().map(|kind| (*kind, 1)).collect();
    let tried = local::in_lab(programs, &boards, 0, async |client, interrupt| {
        on(client, interrupt, kinds, view).await
    });
    let tried = tried.await;
    view.clear();
    tried
}

async fn on(
    client: &Client,
    interrupt: &mut Option<Signal>,
    kinds: &[&str],
    view: &mut View,
) -> Result<Vec<Trial>, Failure> {
    let runs = tokio::select! {
        runs = timeout(PATIENCE, runs(client, kinds, view)) => runs,
        () = pressed(interrupt) => return Err(Failure::signal(nix::sys::signal::Signal::SIGINT)),
    };
    let runs =
        runs.map_err(|_| Failure::unreachable(format!("no end within {} s", PATIENCE.as_secs())))??;
    Ok(kinds.iter().map(|kind| trial(kind, &runs)).collect())
}

async fn runs(client: &Client, kinds: &[&str], view: &mut View) -> Result<Vec<RunRecord>, ClientError> {
    let folder = tempfile::tempdir();
    let folder = folder.map_err(|source| ClientError::File { path: std::env::temp_dir(), source })?;
    let file = |name: &str, bytes: Vec<u8>| write(&folder.path().join(name), &bytes);
    let (model, tokenizer) = (file("tiny.bin", tiny::model())?, file("tokenizer.bin", tiny::tokenizer())?);
    let spec = JobSpec {
        models: vec![model.as_model(Some(&tokenizer))],
        boards: kinds.iter().map(ToString::to_string).collect(),
        each: false,
        prompts: Vec::new(),
        n_prompt: vec![3],
        n_gen: vec![3],
        n_depth: Vec::new(),
        quants: vec![Quant::Q8_0],
        kvs: vec![Kv::I8],
        ctx: None,
        temperature: 0.0,
        seed: 0,
        repetitions: None,
        warmup: None,
        firmware: None,
        suite: None,
        priority: Priority::Normal,
        labels: BTreeMap::new(),
        wait_for_board_ms: None,
    };
    client.upload_missing(&[model, tokenizer], |_, _| {}).await?;
    let job = client.submit(&Submission::new(&spec, "edgeprof-doctor")?).await?.job_id;
    let mut watch = client.watch(&job);
    while let Some(event) = watch.next().await {
        if let Event::Job(job) = event? {
            view.job(&job);
        }
    }
    client.results(&job).await
}

fn write(path: &Path, bytes: &[u8]) -> Result<LocalFile, ClientError> {
    let written: io::Result<()> = fs::write(path, bytes);
    written.map_err(|source| ClientError::File { path: path.to_owned(), source })?;
    LocalFile::read(path)
}

fn trial(kind: &str, runs: &[RunRecord]) -> Trial {
    let bad = |why: String, hint| Err(Bad { why, hint });
    let outcome = match runs.iter().find(|run| run.board.as_ref().is_some_and(|board| board.kind == kind)) {
        None => bad("it ended without a record".into(), None),
        Some(run) => match (&run.error, run.state) {
            (Some(error), _) => bad(error.message.clone(), error.hint.clone()),
            (None, RunState::Ok) if run.workload.verification == Some(Verification::Hash) => {
                Ok(Good { firmware: run.firmware.as_ref().map(|firmware| firmware.version.clone()) })
            }
            (None, RunState::Ok) => bad("its logits were not compared to the host's".into(), None),
            (None, _) => bad(format!("the run cannot be used: {}", run.reasons.join("; ")), None),
        },
    };
    Trial { kind: kind.to_owned(), outcome }
}

/// What works is one line, and each kind that does not is one.
pub(crate) fn judge(trials: &[Trial]) -> Vec<Check> {
    const NAME: &str = "trial run";
    let good: Vec<_> = trials.iter().filter_map(|trial| trial.outcome.as_ref().ok()).collect();
    let mut checks = Vec::new();
    if !good.is_empty() {
        let mut versions: Vec<_> = good.iter().filter_map(|good| good.firmware.as_deref()).collect();
        versions.sort_unstable();
        versions.dedup();
        let count = format!("{} of {} kinds", good.len(), trials.len());
        let found = format!("{count} compute what the host does, firmware {}", versions.join(", "));
        checks.push(Check::ok(NAME, found));
    }
    for trial in trials {
        if let Err(Bad { why, hint }) = &trial.outcome {
            let remedy = hint.clone().unwrap_or_else(|| {
                format!("in a clone of this version: cargo xtask firmware {0}; then edgeprof run --local -b {0} -m MODEL", trial.kind)
            });
            checks.push(Check::problem(format!("{NAME} on {}", trial.kind), why, remedy));
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    #[test]
    fn what_does_not_run_is_a_problem_of_its_own_with_its_hint() {
        let good =
            |kind: &str| Trial { kind: kind.into(), outcome: Ok(Good { firmware: Some("0.1.0".into()) }) };
        let bad = Bad { why: "the firmware does not match".into(), hint: Some("build it anew".into()) };
        let checks = judge(&[good("a"), Trial { kind: "b".into(), outcome: Err(bad) }, good("c")]);
        assert_eq!(checks[0].found, "2 of 3 kinds compute what the host does, firmware 0.1.0");
        let expected = Check::problem("trial run on b", "the firmware does not match", "build it anew");
        assert_eq!(checks[1..], [expected]);
    }

    #[test]
    fn a_kind_without_a_record_did_not_run() {
        assert!(trial("a", &[]).outcome.is_err());
        let silent = Bad { why: "it ended".into(), hint: None };
        let check = judge(&[Trial { kind: "a".into(), outcome: Err(silent) }]).remove(0);
        assert!(check.status == Status::Problem && check.remedy.unwrap().contains("--local -b a"));
    }
}
