//! Collectors that are reached over TLS, and a trace that outlives a coordinator.

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_service::tls::{Keeper, Own};
use edgeprof_tests::{Collector, Finished, Lab, Pki, Span, eventually};

use crate::{
    model,
    promises::{has_running, long_job},
};

/// The name that `edgeprof pki issue worker collector` gives.
const NAME: &str = "collector.worker.edgeprof.internal";

const NOOP: &str = "allow_noop = true\n";
const NOOP_BOARD: &str = "[[board]]\nkind = \"noop\"\n";

/// A collector with a certificate of this authority.
fn secured(pki: &Pki) -> Collector {
    Collector::start(Some(Keeper::open(&pki.of("worker collector"), Own::Worker).unwrap()))
}

fn telemetry(collector: &Collector, more: &str) -> String {
    format!(
        "[telemetry]\notlp_endpoint = \"https://{}\"\notlp_name = \"{NAME}\"\nmetrics_listen = \"127.0.0.1:0\"\n\
         interval = \"1s\"\n{more}",
        collector.address()
    )
}

/// A lab with certificates, whose worker has a board that does nothing.
fn lab(coordinator: &str, worker: &str, mut lab: Lab) -> Lab {
    lab.fixed = true;
    lab.configure_coordinator(coordinator);
    lab.add_worker_with("host-1", &format!("{NOOP}{worker}{NOOP_BOARD}"));
    lab.start_coordinator();
    lab.wait_for_boards(1);
    lab
}

fn run(lab: &Lab) {
    let id = lab.submit(&["-m", &model(), "--prompt", "a", "-n", "1", "-b", "noop", "--quant", "q8_0"]);
    lab.wait_for_job(&id, "done", |job| job["state"] == "succeeded");
}

#[test]
fn a_collector_over_tls_is_trusted_by_the_labs_authority_and_shown_a_certificate_if_there_is_one() {
    let mut own = Lab::new();
    own.secure();
    let collector = secured(own.pki());
    let shown = own.pki().of("client telemetry");
    let certificate = format!("otlp_cert = \"{0}/cert.pem\"\notlp_key = \"{0}/key.pem\"\n", shown.display());
    let lab = lab(&telemetry(&collector, ""), &telemetry(&collector, &certificate), own);
    run(&lab);
    let mut command = lab.client_command();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", collector.address()));
    let done = Finished::of(command.env("EDGEPROF_OTLP_NAME", NAME).arg("jobs"));
    assert_eq!(done.code, 0, "{done:?}");
    eventually("spans of all three are there", || {
        let services: BTreeSet<_> = collector.spans().into_iter().map(|span| span.service).collect();
        ["edgeprof", "edgeprof-coordinator", "edgeprof-worker"]
            .iter()
            .all(|service| services.contains(*service))
            .then_some(())
    });
    let callers = collector.callers();
    assert!(callers.contains("nobody"), "the coordinator shows nothing: {callers:?}");
    assert!(callers.iter().any(|caller| caller.contains("telemetry")), "the worker does: {callers:?}");
}

#[test]
fn a_collector_of_another_authority_gets_nothing_and_the_log_says_why_once() {
    let mut own = Lab::new();
    own.secure();
    let foreign = Pki::new(&own.folder().join("foreign"));
    let collector = secured(&foreign);
    // The worker is told whom to trust.
    let ca = format!("otlp_ca = \"{}/ca.pem\"\n", foreign.of("worker collector").display());
    let mut lab = lab(&telemetry(&collector, ""), &telemetry(&collector, &ca), own);
    let refused = ["reason=\"refused\"", "signal=\"traces\""];
    eventually("what the collector does not get is counted, and the lab goes on", || {
        run(&lab);
        let coordinator = lab.coordinator.as_ref().unwrap();
        (coordinator.counted("edgeprof_telemetry_dropped_total", &refused) > 0.0).then_some(())
    });
    eventually("the worker's spans are there", || {
        collector.spans().iter().any(|span| span.service == "edgeprof-worker").then_some(())
    });
    assert!(collector.spans().iter().all(|span| span.service != "edgeprof-coordinator"));
    let mut daemon = lab.coordinator.take().unwrap();
    assert!(daemon.stop().success());
    let log = daemon.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("the collector takes nothing")).collect();
    assert!((1..=3).contains(&said.len()), "it is said once a signal: {said:?}");
    let ca = lab.pki().of("coordinator").join("ca.pem");
    for line in said {
        for word in [NAME, ca.to_str().unwrap(), "UnknownIssuer"] {
            assert!(line.contains(word), "{word:?} is not in {line}");
        }
    }
}

/// Each span of the trace: its name, the program, which of the coordinator's lives, and what it is a part of.
type Row = (String, String, usize, String);

fn rows(spans: &[Span], lives: &[String]) -> Option<BTreeSet<Row>> {
    let names: BTreeMap<_, _> = spans.iter().map(|span| (&*span.id, &*span.name)).collect();
    let row = |span: &Span| {
        // What belongs to something that is not there yet is not judged.
        let parent = if span.parent.is_empty() { "" } else { *names.get(&*span.parent)? };
        let life = lives.iter().position(|life| *life == span.life).unwrap_or_default();
        Some((span.name.clone(), span.service.clone(), life, parent.to_owned()))
    };
    spans.iter().map(row).collect()
}

/// The coordinator dies without a word while a board is at work, and another life tells the rest.
#[test]
fn a_trace_goes_on_over_the_sudden_death_of_a_coordinator() {
    let collector = Collector::start(None);
    let telemetry = format!("[telemetry]\notlp_endpoint = \"http://{}\"\n", collector.address());
    let mut lab = Lab::new();
    lab.fixed = true;
    lab.configure_coordinator(&telemetry);
    lab.add_worker_with("host-1", &format!("{telemetry}[[board]]\nkind = \"riscv32\"\n"));
    lab.start_coordinator();
    lab.wait_for_boards(1);
    let model = model();
    let mut submit = lab.client_command();
    submit.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address()));
    let submitted = Finished::of(submit.arg("submit").args(long_job(&model, &["riscv32"], "8")));
    assert_eq!(submitted.code, 0, "{submitted:?}");
    let id = submitted.stdout.split_whitespace().last().unwrap().to_owned();
    lab.wait_for_job(&id, "running", has_running);
    // The first life has told what it was asked; the task it cannot tell any more.
    let life = |name: &str| {
        let spans = collector.spans();
        spans.into_iter().find(|span| span.service == "edgeprof-coordinator" && span.name == name)
    };
    let call = eventually("the call is told", || life("edgeprof.v1.Profiler/SubmitJob"));
    assert!(has_running(&lab.json(&["show", &id])), "a longer job is needed");
    lab.kill_coordinator();
    assert_eq!(life("task"), None);
    lab.start_coordinator();
    lab.wait_for_job(&id, "done", |job| job["state"] == "succeeded");
    let task = eventually("the task is told", || life("task"));
    assert_ne!(task.life, call.life, "another life tells it");

    let lives = [call.life.clone(), task.life];
    let expected: BTreeSet<Row> = [
        ("submit", "edgeprof", 0, ""),
        ("edgeprof.v1.Profiler/SubmitJob", "edgeprof-coordinator", 0, "submit"),
        ("task", "edgeprof-coordinator", 1, "edgeprof.v1.Profiler/SubmitJob"),
        ("queue", "edgeprof-coordinator", 1, "task"),
        ("attempt", "edgeprof-coordinator", 1, "task"),
        ("load", "edgeprof-worker", 0, "attempt"),
        ("repetition", "edgeprof-worker", 0, "attempt"),
        ("decode", "edgeprof-worker", 0, "repetition"),
        ("upload", "edgeprof-worker", 0, "attempt"),
        ("commit", "edgeprof-coordinator", 1, "task"),
    ]
    .map(|(name, service, life, parent)| (name.to_owned(), service.to_owned(), life, parent.to_owned()))
    .into();
    let found = eventually("the trace is whole", || {
        let trace: Vec<_> = collector.spans().into_iter().filter(|span| span.trace == call.trace).collect();
        rows(&trace, &lives).filter(|rows| rows.is_superset(&expected)).map(|_| trace)
    });
    let attempts = found.iter().filter(|span| span.name == "attempt").count();
    assert_eq!(attempts, 1, "what ran went on: {found:?}");
    let ids: BTreeSet<_> = found.iter().map(|span| &span.id).collect();
    assert_eq!(ids.len(), found.len(), "nothing is told twice: {found:?}");
}
