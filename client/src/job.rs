//! From flags or a job file to a job and the files that it needs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use edgeprof_client::{ClientError, LocalFile, check_models};
use edgeprof_common::{Priority, job::JobSpec};

use crate::{
    args::{JobArgs, Who, YEAR},
    exit::Failure,
};

/// The test where none is asked for.
const DEFAULT_PROMPT: u32 = 16;
const DEFAULT_GEN: u32 = 16;

/// A job that was checked as far as it can be without a cluster.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) spec: JobSpec,
    pub(crate) files: Vec<LocalFile>,
    pub(crate) who: Who,
    /// How long a full queue is tried again.
    pub(crate) wait_for_room: Duration,
}

/// Reads a job file. Paths in it are relative to its folder.
pub(crate) fn read(path: &Path) -> Result<JobArgs, Failure> {
    let bytes = fs::read(path)
        .map_err(|source| Failure::from(ClientError::File { path: path.to_owned(), source }))?;
    understand(&bytes, path)
}

/// Understands the content of a job file; `path` is its place.
fn understand(bytes: &[u8], path: &Path) -> Result<JobArgs, Failure> {
    let mut args: JobArgs = edgeprof_service::config::parse(bytes, path).map_err(|error| {
        Failure::usage(error.to_string())
            .hint("the keys are the long names of the flags: edgeprof submit --help")
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let paths = args.model.iter_mut().chain(&mut args.prompt_file).chain(&mut args.tokenizer);
    for path in paths.chain(&mut args.firmware) {
        *path = folder.join(&*path);
    }
    if args.suite.is_some() && !(no_prompts(&args) && args.n_gen.is_empty() && args.n_depth.is_empty()) {
        return Err(Failure::usage(format!(
            "in {}: a suite stands instead of prompts and lengths",
            path.display()
        ))
        .hint("leave out either suite or prompt, prompt-file, n-prompt, n-gen, n-depth"));
    }
    Ok(args)
}

fn no_prompts(args: &JobArgs) -> bool {
    args.prompt.is_empty() && args.prompt_file.is_empty() && args.n_prompt.is_empty()
}

/// Checks the request and its files, and puts the job together.
pub(crate) fn prepare(args: &JobArgs, who: &Who) -> Result<Prepared, Failure> {
    if args.model.is_empty() {
        return Err(Failure::usage("no model given").hint("name one with -m FILE"));
    }
    if args.board.is_empty() {
        return Err(Failure::usage("no board given").hint(
            "name one with -b: a board's id or kind, all, or KEY=VALUE; `edgeprof boards` lists them",
        ));
    }
    if let Some(selector) = args.board.iter().find(|sel| sel.contains(',') && !sel.contains('=')) {
        return Err(
            Failure::usage(format!("not a board selector: {selector:?}")).hint("give -b once for each board")
        );
    }
    if args.threads.iter().any(|n| *n != 1) {
        return Err(Failure::usage("-t is for host boards, and there is no host board kind yet")
            .hint("leave -t out: microcontroller boards compute on one core"));
    }
    let mut spec = settings(args)?;
    // Before files are read: a wrong number is found at once, a large model is not.
    let mut trial = spec.clone();
    trial.models = vec![placeholder(); args.model.len()];
    trial.validate().map_err(|error| Failure::usage(error.to_string()))?;

    let needs_tokenizer = check_models(&args.model, args.tokenizer.as_deref())?;
    let tokenizer = args.tokenizer.as_deref().map(LocalFile::read).transpose()?;
    let mut files: Vec<LocalFile> = tokenizer.iter().cloned().collect();
    for (path, needs) in args.model.iter().zip(needs_tokenizer) {
        let model = LocalFile::read(path)?;
        spec.models.push(model.as_model(tokenizer.as_ref().filter(|_| needs)));
        files.push(model);
    }
    if let Some(path) = &args.firmware {
        let firmware = LocalFile::read(path)?;
        check_elf(path)?;
        spec.firmware = Some(firmware.digest());
        files.push(firmware);
    }
    let wait_for_room = args.wait_for_room.unwrap_or_default().min(YEAR);
    Ok(Prepared { spec, files, who: who.clone(), wait_for_room })
}

fn placeholder() -> edgeprof_common::job::ModelRef {
    let digest = edgeprof_common::Digest::from_bytes([0; 32]);
    edgeprof_common::job::ModelRef { name: String::new(), digest, tokenizer: None }
}

/// Everything but files that become artifacts.
fn settings(args: &JobArgs) -> Result<JobSpec, Failure> {
    let mut prompts = args.prompt.clone();
    for path in &args.prompt_file {
        prompts.push(prompt_text(path)?);
    }
    let (mut n_prompt, mut n_gen) = (args.n_prompt.clone(), args.n_gen.clone());
    if let Some(suite) = args.suite {
        let tests = suite.tests();
        prompts = tests.prompts.iter().map(ToString::to_string).collect();
        (n_prompt, n_gen) = (tests.n_prompt.to_vec(), tests.n_gen.to_vec());
    }
    if prompts.is_empty() && n_prompt.is_empty() {
        n_prompt.push(DEFAULT_PROMPT);
    }
    if n_gen.is_empty() {
        n_gen.push(DEFAULT_GEN);
    }
    let wait_for_board_ms =
        args.wait_for_board.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Ok(JobSpec {
        models: Vec::new(),
        boards: args.board.clone(),
        each: args.each,
        prompts,
        n_prompt,
        n_gen,
        n_depth: args.n_depth.clone(),
        quants: args.quant.clone(),
        kvs: args.kv.clone(),
        ctx: args.ctx,
        temperature: args.temperature.unwrap_or(0.0),
        seed: args.seed.unwrap_or(0),
        repetitions: args.repetitions,
        warmup: args.warmup,
        firmware: None,
        suite: args.suite.map(|suite| suite.name().to_owned()),
        priority: args.priority.unwrap_or(Priority::Normal),
        labels: args.label.iter().cloned().collect(),
        wait_for_board_ms,
    })
}

fn prompt_text(path: &PathBuf) -> Result<String, Failure> {
    let file = |source| Failure::from(ClientError::File { path: path.clone(), source });
    let mut text = String::from_utf8(fs::read(path).map_err(file)?)
        .map_err(|_| Failure::usage(format!("{} is not UTF-8 text", path.display())))?;
    if text.ends_with('\n') {
        text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
    }
    Ok(text)
}

fn check_elf(path: &Path) -> Result<(), Failure> {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    if read.is_err() || magic != *b"\x7fELF" {
        return Err(Failure::usage(format!("{} is no ELF file", path.display()))
            .hint("--firmware takes the firmware's ELF as the linker wrote it"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
