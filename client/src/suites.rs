//! Built-in suites: named tests that everybody runs alike.

use clap::ValueEnum;
use edgeprof_report::{Column, Sheet};
use serde::Deserialize;

use crate::{
    args::Global,
    exit::{Exit, Failure},
    output,
};

/// A built-in suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Suite {
    /// A real prompt and a synthetic one.
    Quick,
    /// How cost grows with the prompt and with the text.
    LengthSweep,
}

/// What a suite puts in the place of the test flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tests {
    pub(crate) prompts: &'static [&'static str],
    pub(crate) n_prompt: &'static [u32],
    pub(crate) n_gen: &'static [u32],
    pub(crate) about: &'static str,
}

impl Suite {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::LengthSweep => "length-sweep",
        }
    }

    /// A published suite is never changed: results under its name stay comparable.
    pub(crate) const fn tests(self) -> Tests {
        match self {
            Self::Quick => Tests {
                prompts: &["Once upon a time"],
                n_prompt: &[16],
                n_gen: &[16],
                about: "a real prompt and a synthetic one, in seconds",
            },
            Self::LengthSweep => Tests {
                prompts: &[],
                n_prompt: &[8, 32, 128],
                n_gen: &[16, 64],
                about: "how cost grows with the prompt and with the text",
            },
        }
    }
}

/// `edgeprof suites`
pub(crate) fn list(global: &Global) -> Result<Exit, Failure> {
    let mut sheet = Sheet::new([
        Column::words("suite"),
        Column::figures("cells", Some("a board")),
        Column::words("tests"),
        Column::words("about"),
    ]);
    let mut items = Vec::new();
    for suite in Suite::value_variants() {
        let tests = suite.tests();
        let cells = (tests.prompts.len() + tests.n_prompt.len()) * tests.n_gen.len();
        let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let prompts = tests.prompts.iter().map(|text| format!("--prompt {text:?} ")).collect::<String>();
        let flags = format!("{prompts}-p {} -n {}", numbers(tests.n_prompt), numbers(tests.n_gen));
        sheet.row([suite.name().to_owned(), cells.to_string(), flags, tests.about.to_owned()].map(Some));
        items.push(serde_json::json!({
            "suite": suite.name(), "about": tests.about, "prompts": tests.prompts,
            "n_prompt": tests.n_prompt, "n_gen": tests.n_gen,
        }));
    }
    output::print(&output::list(global.output, &items, &sheet, "no suites"))?;
    Ok(Exit::Ok)
}
