//! The main job on emulated boards, as a stranger first sees it.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{
    build::{programs, root, step},
    firmware, kinds,
    lab::{Lab, Programs, program},
};

/// One worker a line, with its boards.
const WORKERS: [&[&str]; 2] = [&["mps2-an386", "mps2-an500"], &["netduinoplus2", "riscv32"]];

/// The model that ships with the project.
pub(crate) const MODEL: &str = "models/edgeprof-kjv-280k.gguf";

/// Prompt of the demo.
const PROMPT: &str = "And it came to pass";

pub(crate) fn run(keep: bool) -> Result<()> {
    let start = Instant::now();
    let wanted: Vec<&str> = WORKERS.concat();
    let kinds: Vec<_> = kinds::load()?.into_iter().filter(|k| wanted.contains(&k.name.as_str())).collect();
    ensure!(kinds.len() == wanted.len(), "the catalogue lacks a kind of the demo");
    firmware::build(&kinds)?;
    programs()?;

    step("starting a coordinator and two workers, with two emulated boards each");
    let lab = Lab::start(Programs::built(), &WORKERS, |line| eprintln!("    {line}"))?;
    let found = lab.ask(&["workers"])?;
    for worker in found.as_array().into_iter().flatten() {
        let word = |key: &str| worker[key].as_str().unwrap_or("?").to_owned();
        eprintln!("    {} found by {}, dialled at {}", word("id"), word("found_by"), word("address"));
    }

    let mut arguments = vec!["run", "--model", MODEL];
    for board in &wanted {
        arguments.extend(["--board", board]);
    }
    arguments.extend(["--prompt", PROMPT, "-n", "68", "--quant", "q8_0", "--kv", "i8"]);
    arguments.extend(["--temperature", "0.8", "--seed", "10"]);
    step(&format!("edgeprof {}", shown(&arguments)));
    let status = lab.client().current_dir(root()).args(&arguments).status()?;

    if keep {
        println!("\nThe lab is running. Try:\n");
        println!("    export EDGEPROF_COORDINATOR={}", lab.url);
        let client = program("edgeprof");
        for command in
            ["boards", "workers", "jobs", "run -m models/edgeprof-kjv-280k.gguf -b riscv32 -p 8 -n 8,32"]
        {
            println!("    {} {command}", client.display());
        }
        println!("\nLogs and data: {}", lab.path().display());
        let stop: Vec<String> = lab.processes().iter().map(|(id, _)| id.to_string()).collect();
        println!("Stop it:  kill {}; sleep 2; rm -rf {}", stop.join(" "), lab.path().display());
        lab.keep();
    } else {
        step("stopping coordinator and workers");
        drop(lab);
    }
    eprintln!("    the whole demo: {:.0} s", start.elapsed().as_secs_f64());
    ensure!(status.success(), "the job did not succeed ({status})");
    Ok(())
}

fn shown(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|a| if a.contains(' ') { format!("{a:?}") } else { (*a).to_owned() });
    quoted.collect::<Vec<_>>().join(" ")
}
