//! A job as others' programs see it: one trace in a collector, metrics in Prometheus, with every query of our
//! dashboard and every rule of our alerts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use edgeprof_tests::{Lab, Span, eventually, get, root, tool};
use serde_json::Value;

use super::{job, model};

/// A program that somebody else wrote, and where its output goes.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(folder: &Path, name: &str, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = || fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let started = command.stdin(Stdio::null()).stdout(file()).stderr(file()).spawn();
        Self { child: started.unwrap_or_else(|error| panic!("{command:?}: {error}")), log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!(
                "--- {}\n{}",
                self.log.display(),
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

/// Some port that is free now.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

/// Asks Prometheus; what it answers as data.
fn ask(prometheus: &str, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
    let escape = |text: &str| -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    };
    let query: Vec<_> = parameters.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    let answer = get(prometheus, &format!("/api/v1/{path}?{}", query.join("&")), "application/json")?;
    let answer: Value = serde_json::from_str(&answer).expect("Prometheus answers in JSON");
    (answer["status"] == "success").then(|| answer["data"].clone())
}

/// A lab whose daemons send telemetry to `collector` and serve metrics.
fn lab(collector: &str, queue: usize, boards: &[&str]) -> Lab {
    let mut lab = Lab::new();
    lab.fixed = true;
    let telemetry = format!(
        "[telemetry]\notlp_endpoint = \"http://{collector}\"\nmetrics_listen = \"127.0.0.1:0\"\ninterval = \"1s\"\n\
         queue = {queue}\n"
    );
    lab.configure_coordinator(&telemetry);
    let boards: String = boards.iter().map(|kind| format!("[[board]]\nkind = \"{kind}\"\n")).collect();
    lab.add_worker_with("host-1", &format!("allow_noop = true\n{telemetry}{boards}"));
    lab.start_coordinator();
    lab
}

/// The spans of a collector's log.
fn spans(log: &str) -> Vec<Span> {
    let (mut spans, mut service) = (Vec::<Span>::new(), String::new());
    for line in log.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("-> service.name: Str(") {
            name.trim_end_matches(')').clone_into(&mut service);
        } else if line.starts_with("Span #") {
            spans.push(Span { service: service.clone(), ..Span::default() });
        } else if let (Some(span), Some((key, value))) = (spans.last_mut(), line.split_once(':')) {
            let field = match key.trim() {
                "Trace ID" => &mut span.trace,
                "Parent ID" => &mut span.parent,
                "ID" => &mut span.id,
                "Name" => &mut span.name,
                _ => continue,
            };
            value.trim().clone_into(field);
        }
    }
    spans
}

/// Each span of a job's trace: its name, whose it is, and the name of what it is a part of.
const TREE: [(&str, &str, &str); 16] = [
    ("submit", "edgeprof", ""),
    ("edgeprof.v1.Profiler/MissingArtifacts", "edgeprof-coordinator", "submit"),
    ("edgeprof.v1.Profiler/PutArtifact", "edgeprof-coordinator", "submit"),
    ("edgeprof.v1.Profiler/SubmitJob", "edgeprof-coordinator", "submit"),
    ("task", "edgeprof-coordinator", "edgeprof.v1.Profiler/SubmitJob"),
    ("prepare", "edgeprof-coordinator", "task"),
    ("queue", "edgeprof-coordinator", "task"),
    ("attempt", "edgeprof-coordinator", "task"),
    ("offer", "edgeprof-coordinator", "attempt"),
    ("stage", "edgeprof-worker", "attempt"),
    ("load", "edgeprof-worker", "attempt"),
    ("repetition", "edgeprof-worker", "attempt"),
    ("prefill", "edgeprof-worker", "repetition"),
    ("decode", "edgeprof-worker", "repetition"),
    ("upload", "edgeprof-worker", "attempt"),
    ("commit", "edgeprof-coordinator", "task"),
];

/// The one trace that a client began: its id, and each span as in [`TREE`].
type Trace = (String, BTreeSet<(String, String, String)>);

fn tree(log: &str) -> Option<Trace> {
    let all = spans(log);
    let traces: BTreeSet<_> =
        all.iter().filter(|span| span.service == "edgeprof").map(|span| &span.trace).collect();
    let [trace] = traces.into_iter().collect::<Vec<_>>()[..] else { return None };
    let of_it: Vec<_> = all.iter().filter(|span| span.trace == *trace).collect();
    let names: BTreeMap<_, _> = of_it.iter().map(|span| (&*span.id, &*span.name)).collect();
    let row = |span: &&Span| {
        let parent = if span.parent.is_empty() { "" } else { *names.get(&*span.parent)? };
        Some((span.name.clone(), span.service.clone(), parent.to_owned()))
    };
    // What belongs to something that is not there yet is not judged.
    Some((trace.clone(), of_it.iter().map(row).collect::<Option<_>>()?))
}

/// Prometheus as our files configure it, once a second, for these daemons.
fn prometheus(program: &Path, lab: &Lab) -> (Program, String) {
    let shipped = root().join("deploy/prometheus");
    let read = |name: &str| fs::read_to_string(shipped.join(name)).expect("a file that ships");
    let coordinator = lab.coordinator.as_ref().expect("it runs").metrics();
    let config = read("prometheus.yml")
        .replace("15s", "1s")
        .replace("127.0.0.1:9464", &coordinator)
        .replace("127.0.0.1:9465", &lab.workers[0].metrics());
    let config = lab.file("prometheus.yml", config.as_bytes());
    lab.file("alerts.yml", read("alerts.yml").as_bytes());
    let address = free();
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", lab.folder().join("prometheus").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--enable-feature=exemplar-storage");
    (Program::start(lab.folder(), "prometheus", &mut command), address)
}

/// Every query of the dashboard.
fn queries() -> Vec<String> {
    let text = fs::read_to_string(root().join("deploy/grafana/edgeprof.json")).expect("it ships");
    let dashboard: Value = serde_json::from_str(&text).expect("a dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    targets.map(|target| target["expr"].as_str().expect("a target has a query").to_owned()).collect()
}

#[test]
fn a_job_is_one_trace_in_a_collector_and_every_query_of_the_dashboard_has_an_answer() {
    let (Some(rotel), Some(program)) = (tool("rotel-agent"), tool("prometheus")) else { return };
    let collector = free();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(rotel);
    command.args([
        "start",
        "--exporter",
        "blackhole",
        "--debug-log",
        "traces",
        "--debug-log-verbosity",
        "detailed",
    ]);
    command.args(["--otlp-grpc-endpoint", &collector, "--otlp-http-endpoint", &free()]);
    command.arg("--pid-file").arg(folder.path().join("pid"));
    let collected = Program::start(folder.path(), "rotel", &mut command);
    eventually("the collector listens", || TcpStream::connect(&collector).ok());

    let lab = lab(&collector, 2048, &["riscv32"]);
    lab.wait_for_boards(1);
    let (_prometheus, prometheus) = prometheus(&program, &lab);
    let model = model();
    let mut submit = lab.client_command();
    submit.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
    submit.arg("submit").args(job(&model, &["riscv32"], "3")).args(["--quant", "q4_0"]);
    let submitted = edgeprof_tests::Finished::of(&mut submit);
    assert_eq!(submitted.code, 0, "{submitted:?}");
    let id = submitted.stdout.split_whitespace().last().expect("the job's id").to_owned();
    lab.wait_for_job(&id, "done", |job| job["state"] == "succeeded");

    let expected: BTreeSet<_> =
        TREE.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    let trace = eventually("the trace is whole", || {
        let (trace, rows) = tree(&collected.log())?;
        rows.is_superset(&expected).then_some((trace, rows))
    });
    assert_eq!(trace.1, expected, "nothing else is in it");

    eventually("an exemplar leads to the trace", || {
        let range = [("query", "edgeprof_queue_wait_seconds_bucket"), ("start", "0"), ("end", "9999999999")];
        let found = ask(&prometheus, "query_exemplars", &range)?;
        found.to_string().contains(&trace.0).then_some(())
    });

    for query in queries() {
        let asked = query.replace("$__rate_interval", "1m");
        eventually(&format!("{asked} has an answer"), || {
            let answer = ask(&prometheus, "query", &[("query", &asked)])?;
            let known = answer["result"].as_array()?.iter().any(|one| one["value"][1] != "NaN");
            if !known {
                // What was there when it was first looked at has no rate: more has to happen.
                let more = lab.submit(&job(&model, &["riscv32"], "2"));
                lab.wait_for_job(&more, "done", |job| job["state"] == "succeeded");
            }
            known.then_some(())
        });
    }
    let rules = eventually("every rule was evaluated", || {
        let answer = ask(&prometheus, "rules", &[])?;
        let rules: Vec<_> = answer["groups"]
            .as_array()?
            .iter()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap())
            .collect();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    let text = fs::read_to_string(root().join("docs/alerts.md")).expect("it ships");
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        let name = rule["name"].as_str().expect("a name");
        assert!(text.contains(&format!("\n## {name}\n")), "docs/alerts.md says nothing of {name}");
    }
    assert_eq!(rules.len(), text.matches("\n## ").count(), "a section of docs/alerts.md is about no rule");
}

#[test]
fn a_collector_that_hangs_or_is_gone_stops_nothing_and_what_it_misses_is_counted() {
    // The system accepts for it; nobody reads.
    let hung = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut lab = lab(&hung.local_addr().expect("its address").to_string(), 16, &["noop"]);
    lab.wait_for_boards(1);
    let model = model();
    let run = |lab: &Lab| {
        let id = lab.submit(&["-m", &model, "--prompt", "a", "-n", "1", "-b", "noop", "--quant", "q8_0"]);
        lab.wait_for_job(&id, "done", |job| job["state"] == "succeeded");
    };
    run(&lab);
    let dropped = |labels: &[&str]| {
        lab.coordinator.as_ref().expect("it runs").counted("edgeprof_telemetry_dropped_total", labels)
    };
    eventually("what finds no room is counted", || {
        run(&lab);
        (dropped(&["reason=\"full\"", "signal=\"traces\""]) > 0.0).then_some(())
    });
    drop(hung);
    eventually("what the collector does not take is counted", || {
        run(&lab);
        (dropped(&["reason=\"refused\"", "signal=\"traces\""]) > 0.0).then_some(())
    });
    for worker in &mut lab.workers {
        assert!(worker.stop().success());
    }
    let mut daemon = lab.coordinator.take().expect("it runs");
    assert!(daemon.stop().success());
    let said = daemon.log().matches("the collector takes nothing").count();
    assert!((1..=3).contains(&said), "it is said once a signal, not {said} times");
}
