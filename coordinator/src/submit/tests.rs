use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::{Digest, JobId, Kv, TaskError, job::JobSpec};
use edgeprof_model::Header;

use super::*;
use crate::{store::rows::FirmwarePin, testing::tiny_model};

fn board(id: &str, kind: &str, label: Option<(&str, &str)>) -> Present {
    let labels = Arc::new(label.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
    Present { id: id.parse().unwrap(), kind: kind.into(), labels }
}

fn lab() -> Vec<Present> {
    vec![
        board("a/m4-0", "mps2-an386", Some(("rack", "1"))),
        board("a/stm", "netduinoplus2", Some(("rack", "1"))),
        board("b/m4-0", "mps2-an386", None),
        board("b/rv", "riscv32", None),
    ]
}

fn job(change: impl FnOnce(&mut JobSpec)) -> JobSpec {
    let mut spec = serde_json::from_value(serde_json::json!({
        "models": [{"name": "m.bin", "digest": Digest::of(b"m")}],
        "boards": ["all"], "n_prompt": [4], "n_gen": [8],
    }))
    .unwrap();
    change(&mut spec);
    spec
}

fn pin() -> FirmwarePin {
    FirmwarePin { file: Digest::of(b"f"), loaded: Digest::of(b"l"), size: 1 }
}

fn planned(spec: &JobSpec, boards: &[Present]) -> Result<Vec<Arc<crate::store::rows::TaskDef>>, Refusal> {
    let firmware: BTreeMap<String, Result<FirmwarePin, TaskError>> =
        ["mps2-an386", "mps2-an500", "netduinoplus2", "riscv32"]
            .into_iter()
            .map(|kind| (kind.to_owned(), Ok(pin())))
            .collect();
    let headers = BTreeMap::from([(Digest::of(b"m"), Ok(Header::parse(&tiny_model().0).unwrap().into()))]);
    plan(JobId::from_raw(1), spec, &Facts { boards, headers, firmware })
}

fn selectors(change: impl FnOnce(&mut JobSpec)) -> Vec<String> {
    planned(&job(change), &lab()).unwrap().into_iter().map(|task| task.selector.clone()).collect()
}

#[test]
fn a_selector_names_a_set_and_each_names_its_members() {
    assert_eq!(selectors(|_| ()), ["mps2-an386", "netduinoplus2", "riscv32"]);
    assert_eq!(selectors(|j| j.each = true), ["a/m4-0", "a/stm", "b/m4-0", "b/rv"]);
    let boards = |list: &[&str], each| {
        selectors(|j| {
            j.boards = list.iter().map(|s| (*s).to_owned()).collect();
            j.each = each;
        })
    };
    assert_eq!(boards(&["riscv32", "stm", "b/m4-0"], false), ["riscv32", "a/stm", "b/m4-0"]);
    assert_eq!(boards(&["mps2-an386"], true), ["a/m4-0", "b/m4-0"]);
    assert_eq!(boards(&["rack=1"], false), ["rack=1"]);
    assert_eq!(boards(&["rack=1"], true), ["a/m4-0", "a/stm"]);
}

#[test]
fn boards_that_do_nothing_are_used_by_name_alone() {
    let mut there = lab();
    there.push(board("b/n", "noop", None));
    let kinds = |selector: &str, there: &[Present]| {
        let targets = resolve(selector, false, false, there)?;
        Ok::<_, Refusal>(targets.into_iter().flat_map(|target| target.kinds).collect::<Vec<_>>())
    };
    assert_eq!(kinds("all", &there).unwrap(), ["mps2-an386", "netduinoplus2", "riscv32"]);
    assert_eq!(kinds("noop", &there).unwrap(), ["noop"]);
    assert!(kinds("all", &there[4..]).unwrap_err().to_string().contains("no board is there"));
}

#[test]
fn cells_multiply_with_boards_in_order() {
    let tasks = planned(&job(|j| j.n_gen = vec![8, 16]), &lab()).unwrap();
    let names: Vec<_> = tasks.iter().map(|t| (t.scenario.as_str(), t.selector.as_str())).collect();
    assert_eq!(names[0], ("native kv f16 p4 n8", "mps2-an386"));
    assert_eq!(names[2], ("native kv f16 p4 n8", "riscv32"));
    assert_eq!(names[3], ("native kv f16 p4 n16", "mps2-an386"));
    assert!(tasks.iter().all(|t| (t.repetitions, t.warmup) == (1, 0)), "emulated boards repeat exactly");
}

fn refused(change: impl FnOnce(&mut JobSpec), boards: &[Present]) -> (String, String) {
    match planned(&job(change), boards).unwrap_err() {
        Refusal::Invalid { message, hint } => (format!("invalid: {message}"), hint.unwrap_or_default()),
        Refusal::Precondition { message, hint } => {
            (format!("precondition: {message}"), hint.unwrap_or_default())
        }
        Refusal::Busy { message } => (format!("busy: {message}"), String::new()),
    }
}

#[test]
fn an_unknown_board_is_named_with_the_closest_and_what_is_there() {
    let (message, hint) = refused(|j| j.boards = vec!["mps2-an387".into()], &lab());
    assert!(message.starts_with("invalid") && message.contains("\"mps2-an387\""), "{message}");
    assert!(message.contains("did you mean mps2-an38"), "{message}");
    assert!(hint.contains("a/stm (netduinoplus2)"), "{hint}");
    let (message, _) = refused(|j| j.boards = vec!["m4-0".into()], &lab());
    assert!(message.contains("a/m4-0, b/m4-0"), "{message}");
}

#[test]
fn a_known_kind_that_is_not_there_is_refused_unless_it_may_be_waited_for() {
    let (message, hint) = refused(|j| j.boards = vec!["mps2-an500".into()], &lab());
    assert!(message.contains("no board of kind mps2-an500 is there"), "{message}");
    assert!(hint.contains("--wait-for-board"), "{hint}");
    let spec = job(|j| {
        j.boards = vec!["mps2-an500".into()];
        j.wait_for_board_ms = Some(1);
    });
    assert_eq!(planned(&spec, &lab()).unwrap().len(), 1);
    let (message, _) = refused(|_| (), &[]);
    assert!(message.contains("no board is there"), "{message}");
}

#[test]
fn a_context_beyond_the_models_is_refused_with_both_numbers() {
    let (message, _) = refused(|j| j.n_gen = vec![61], &lab());
    assert!(message.contains("65 tokens") && message.contains("64"), "{message}");
    let (message, hint) = refused(|j| j.ctx = Some(3), &lab());
    assert!(message.contains("4 tokens, the context only 3"), "{message}");
    assert!(hint.contains("--ctx 12"), "{hint}");
}

#[test]
fn what_does_not_fit_is_refused_with_the_arithmetic_and_what_would() {
    let (bytes, _) = tiny_model();
    let header = Header::parse(&bytes).unwrap();
    let mut kind = edgeprof_boards::catalogue().get("netduinoplus2").unwrap().clone();
    kind.memory.arena.size = 14_000;
    let cell = job(|j| {
        j.kvs = vec![Kv::F32];
        j.ctx = Some(64);
    })
    .cells()
    .remove(0);
    let error = check_fit(&header, &cell, &kind).unwrap_err();
    assert_eq!(error.code, "does_not_fit");
    for word in ["netduinoplus2", "arena", "14000", "786432", "key/value cache"] {
        assert!(error.message.contains(word), "{word} is not in {}", error.message);
    }
    assert!(error.hint.as_ref().unwrap().contains("--kv i8"), "{error:?}");
}

#[test]
fn a_set_is_narrowed_to_the_kinds_that_can() {
    let spec = job(|j| {
        j.boards = vec!["rack=1".into()];
    });
    let headers = BTreeMap::from([(Digest::of(b"m"), Ok(Header::parse(&tiny_model().0).unwrap().into()))]);
    let none = TaskError::new(ErrorClass::Infrastructure, "no_firmware", "none");
    let firmware =
        BTreeMap::from([("mps2-an386".to_owned(), Ok(pin())), ("netduinoplus2".to_owned(), Err(none))]);
    let there = lab();
    let tasks = plan(JobId::from_raw(1), &spec, &Facts { boards: &there, headers, firmware }).unwrap();
    let able: BTreeSet<_> = there
        .iter()
        .filter(|b| tasks[0].requirement.meets(&b.id, &b.kind, &b.labels))
        .map(|b| b.id.to_string())
        .collect();
    assert_eq!(able, BTreeSet::from(["a/m4-0".to_owned()]));
}
