//! What telemetry costs: the same no-op tasks without it, with a collector that takes every trace, and with one that
//! accepts connections and never answers.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use edgeprof_tests::root;

use super::rounds;
use crate::{
    cluster::{Boards, Cluster, Hosts, filter},
    figure::Figure,
};

const BOARDS: &[Boards] = &[Boards::noop(16, Duration::ZERO)];

const SOURCE: &str = "client's clock, as for no-op tasks; every trace is kept, of each task some ten spans";

pub(crate) async fn measure(folder: &Path, tasks: usize, rounds: usize) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let (off, cost) = rates(folder, "off", tasks, rounds, None).await?;
    let off = Figure::new("no-op tasks without telemetry", "tasks/s", &off, SOURCE);
    let cost = Figure::new("processor time of the coordinator without it", "µs/task", &cost, SOURCE);
    let (usual, usual_cost) = (off.median(), cost.median());
    figures.extend([off, cost]);

    match Collector::start(folder)? {
        Some(collector) => {
            let (on, cost) = rates(folder, "on", tasks, rounds, Some(&collector.url)).await?;
            let on = Figure::new("with a collector (rotel)", "tasks/s", &on, SOURCE);
            figures.push(on.beside("without telemetry", usual));
            let cost = Figure::new("processor time of the coordinator with it", "µs/task", &cost, SOURCE);
            figures.push(cost.beside("without telemetry", usual_cost));
        }
        None => eprintln!("    SKIPPED: a collector that works; `cargo xtask tools` fetches one"),
    }

    // The system accepts for it; nobody reads.
    let hung = TcpListener::bind("127.0.0.1:0").context("a port for a collector that hangs")?;
    let url = format!("http://{}", hung.local_addr()?);
    let (stuck, _) = rates(folder, "hung", tasks, rounds, Some(&url)).await?;
    let stuck = Figure::new("with a collector that hangs", "tasks/s", &stuck, SOURCE);
    figures.push(stuck.beside("without telemetry", usual));
    Ok(figures)
}

/// Tasks a second, and what each cost the coordinator, in each round.
async fn rates(
    folder: &Path,
    name: &str,
    tasks: usize,
    rounds: usize,
    collector: Option<&str>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    eprintln!("==> no-op tasks, telemetry: {name}");
    let hosts = Hosts::Real(&[BOARDS; 4]);
    let cluster = Cluster::observed(folder, name, hosts, &filter(&[]), collector).await?;
    let list = rounds::run(&cluster, tasks, rounds).await?;
    Ok((list.iter().map(rounds::Round::rate).collect(), list.iter().map(|round| round.cost(0)).collect()))
}

/// A collector that takes all and keeps nothing; it ends with this.
struct Collector {
    child: Child,
    url: String,
}

impl Collector {
    /// None where the program is not there.
    fn start(folder: &Path) -> Result<Option<Self>> {
        let program = root().join("target/tools/bin/rotel-agent");
        if !program.exists() {
            return Ok(None);
        }
        let free = || Ok::<_, std::io::Error>(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string());
        let (grpc, http) = (free()?, free()?);
        let log = fs::File::create(folder.join("collector.log"))?;
        let child = Command::new(&program)
            .args(["start", "--exporter", "blackhole"])
            .args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Some(Self { child, url: format!("http://{grpc}") }))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
