//! Benchmarks: each figure beside a peer or a limit of the same run.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    build::{cargo, programs, root, run, step, target},
    demo::MODEL,
    firmware, kinds,
    lab::{Lab, Programs},
};

/// Tokens that are counted, from BOS alone.
const TOKENS: usize = 16;

/// What a plain prototype of the same engine needed, in instructions per multiply-accumulate: int8
/// weights and cache, first 16 tokens, a model of 259,328 multiply-accumulates a token. On Cortex-M4 it
/// had SXTB16 and SMLAD.
const PROTOTYPE: [(&str, f64); 4] = [
    ("mps2-an385", 7_063_361.0 / 259_328.0),
    ("mps2-an386", 1_607_712.0 / 259_328.0),
    ("riscv32", 2_635_089.0 / 259_328.0),
    ("riscv32-soft", 7_632_956.0 / 259_328.0),
];

/// Room for them, and hardly more: the smallest board has no other.
const CTX: &str = "20";

/// The whole token is counted: every operator, the cache, and sampling.
pub(crate) fn engine() -> Result<()> {
    let kinds = kinds::load()?;
    firmware::build(&kinds)?;
    programs()?;
    let names: Vec<&str> = kinds.iter().map(|k| k.name.as_str()).collect();
    let lab = Lab::start(Programs::built(), &[&names], |line| eprintln!("    {line}"))?;
    let model = root().join(MODEL);
    let model = model.to_str().context("the path of the clone is not UTF-8")?;
    let macs = macs_per_token(&lab.ask(&["model", "inspect", model])?)?;
    let mut arguments = vec!["run", "-m", model, "--prompt", "", "--ctx", CTX];
    let count = TOKENS.to_string();
    arguments.extend(["-n", &count, "--quant", "q8_0,q4_0,native", "--kv", "i8"]);
    for name in &names {
        arguments.extend(["-b", name]);
    }
    step("running 16 tokens from BOS on every board kind");
    let runs = lab.ask(&arguments)?;
    println!(
        "{macs} multiply-accumulates a token (weights), first {TOKENS} tokens, int8 cache, counts emulated\n"
    );
    println!(
        "{:<16} {:<8} {:>20} {:>18} {:>14}",
        "board", "weights", "instructions/token", "instructions/MAC", "vs prototype"
    );
    // One element a cell, in the order of the flags; one that was refused has seen no board.
    for (run, board) in runs.as_array().context("an array of runs")?.iter().zip(names.iter().copied().cycle())
    {
        let quant = run["model"]["quant"].as_str().unwrap_or("?");
        let Some(total) = tokens_total(&run["counts"]) else {
            let why = match run["error"]["code"].as_str() {
                Some("does_not_fit") => "does not fit",
                _ => run["error"]["message"].as_str().unwrap_or("?"),
            };
            println!("{board:<16} {quant:<8} {:>20}  {why}", "–");
            continue;
        };
        let per_token = total / TOKENS as f64;
        let per_mac = per_token / macs as f64;
        let peer = PROTOTYPE.iter().find(|(kind, _)| *kind == board && quant == "q8_0");
        let ratio = peer.map_or_else(String::new, |(_, prototype)| format!("{:.2}x", per_mac / prototype));
        println!("{board:<16} {quant:<8} {per_token:>20.0} {per_mac:>18.3} {ratio:>14}");
    }
    Ok(())
}

/// Emulators that somebody else has started, behind a line with faults.
pub(crate) fn line() -> Result<()> {
    firmware::build(&kinds::load()?)?;
    programs()?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "edgeprof-tests", "--bin", "bench-line"]);
    command.env("EDGEPROF_FIRMWARE", target().join("firmware"));
    ensure!(command.status()?.success(), "a load failed");
    Ok(())
}

/// The cluster's own cost, in a release build. Figures are also left in `target/bench/cluster.json`.
pub(crate) fn cluster(arguments: &[String]) -> Result<()> {
    firmware::build(&kinds::load()?)?;
    let packages = ["edgeprof-coordinator", "edgeprof-worker", "edgeprof-bench"];
    let mut build = cargo();
    build.args(["build", "--release", "--bins"]);
    for package in packages {
        build.args(["--package", package]);
    }
    run("building coordinator, worker and benchmark, optimized", &mut build)?;
    run("building the slow disk", cargo().args(["build", "--release", "--package", "edgeprof-slow-disk"]))?;
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let mut bench = Command::new(target().join("release/bench-cluster"));
    bench.arg("--folder").arg(&folder).arg("-o").arg(folder.join("cluster.json")).args(arguments);
    ensure!(bench.status()?.success(), "the benchmark failed");
    Ok(())
}

/// Instructions of all passes: one of prefill and one for each further token.
fn tokens_total(counts: &Value) -> Option<f64> {
    let list =
        |key: &str| counts[key].as_array().map(|l| l.iter().filter_map(Value::as_f64).collect::<Vec<_>>());
    let passes = [list("prefill")?, list("decode")?].concat();
    (passes.len() == TOKENS).then(|| passes.iter().sum())
}

/// Multiply-accumulates of every weight matrix, attention over the cache left out.
fn macs_per_token(inspection: &Value) -> Result<u64> {
    let model = if inspection.is_array() { &inspection[0] } else { inspection };
    let macs = model["macs_per_token"].as_u64().context("edgeprof model inspect tells macs_per_token")?;
    ensure!(macs > 0, "a model without weights");
    Ok(macs)
}
