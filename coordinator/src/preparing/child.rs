//! The child's side.

use std::{
    fs,
    io::{self, BufRead, Write},
    path::Path,
};

use edgeprof_common::{ErrorClass, TaskError, job::Prompt};
use edgeprof_engine::generate::StopReason;
use edgeprof_model::{KvType, Model, ModelError, build_image, reference, requirements};
use nix::sys::resource::{Resource, setrlimit};

use super::{
    Line, Order, Ready, Vocabulary, Workload,
    order::{IMAGE, VOCABULARY},
};
use crate::store::rows::Reference;

/// Most stop tokens that a board takes.
const STOP_TOKENS: usize = 4;

/// Reads an order from standard input, writes answers to standard output, and ends when it is done or
/// when standard input ends: then the coordinator is gone.
///
/// # Errors
/// When there is no order, or the answers go nowhere.
pub fn main() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    std::thread::Builder::new().name("parent".into()).spawn(|| {
        let _ = io::stdin().lock().read_line(&mut String::new());
        std::process::exit(1);
    })?;
    // Best effort: a system without the limit still has the supervisor's timeout.
    let _ = setrlimit(Resource::RLIMIT_AS, order.memory_limit, order.memory_limit);
    let mut out = io::stdout().lock();
    let mut say = |line: &Line| -> io::Result<()> {
        serde_json::to_writer(&mut out, line)?;
        out.write_all(b"\n")?;
        out.flush()
    };
    let prepared = open(&order).and_then(|model| image(&order, &model).map(|image| (model, image)));
    let (model, image) = match prepared {
        Ok(both) => both,
        Err(error) => return say(&Line::Broken(error)),
    };
    say(&Line::Built)?;
    for (index, workload) in order.workloads.iter().enumerate() {
        let outcome = ready(&model, &image, workload, &order);
        say(&Line::Workload { index, outcome })?;
    }
    Ok(())
}

/// A model's error as a task's.
pub fn blame(error: &ModelError) -> TaskError {
    TaskError::new(ErrorClass::Model, error.code(), error.to_string()).with_hint(error.hint())
}

/// The model crate's word for a quantization.
pub fn model_quant(quant: edgeprof_common::Quant) -> edgeprof_model::Quant {
    match quant {
        edgeprof_common::Quant::Native => edgeprof_model::Quant::Native,
        edgeprof_common::Quant::Q8_0 => edgeprof_model::Quant::Q8_0,
        edgeprof_common::Quant::Q4_0 => edgeprof_model::Quant::Q4_0,
    }
}

/// The engine's word for a cache type.
pub fn engine_kv(kv: edgeprof_common::Kv) -> KvType {
    match kv {
        edgeprof_common::Kv::F32 => KvType::F32,
        edgeprof_common::Kv::F16 => KvType::F16,
        edgeprof_common::Kv::I8 => KvType::I8,
    }
}

fn open(order: &Order) -> Result<Model, TaskError> {
    Model::open(&order.model, order.tokenizer.as_deref()).map_err(|error| blame(&error))
}

fn image(order: &Order, model: &Model) -> Result<Vec<u8>, TaskError> {
    let disk = |path: &Path, error: io::Error| {
        let what = format!("cannot use {}: {error}", path.display());
        TaskError::new(ErrorClass::Infrastructure, "disk", what)
    };
    if let Some(path) = &order.image {
        return fs::read(path).map_err(|error| disk(path, error));
    }
    let image = build_image(model, model_quant(order.quant)).map_err(|error| blame(&error))?;
    let vocabulary = Vocabulary::of(model.tokenizer()).to_bytes();
    for (name, bytes) in [(IMAGE, &image), (VOCABULARY, &vocabulary)] {
        let path = order.out.join(name);
        fs::write(&path, bytes).map_err(|error| disk(&path, error))?;
    }
    Ok(image)
}

fn ready(model: &Model, image: &[u8], workload: &Workload, order: &Order) -> Result<Ready, TaskError> {
    let (tokens, stop_tokens) = tokens(model, workload);
    let ctx = context(model, workload, tokens.len())?;
    let kv = engine_kv(workload.kv);
    let needs = requirements(model.header(), model_quant(order.quant), ctx, kv).map_err(|e| blame(&e))?;
    let passes = tokens.len() as u64 + u64::from(workload.n_gen);
    let affordable = model.header().params().saturating_mul(passes) <= order.reference_limit;
    let reference = if affordable {
        let request = reference::Request {
            prompt: &tokens,
            n_gen: workload.n_gen,
            temperature: workload.temperature,
            seed: workload.seed,
            stop_tokens: &stop_tokens,
            ctx,
            kv,
        };
        let outcome = reference::run(image, &request).map_err(|error| blame(&error))?;
        Some(Reference {
            tokens: outcome.tokens,
            stop: stop_reason(outcome.stop),
            logits_hash: format!("{:016x}", outcome.logits_hash),
        })
    } else {
        None
    };
    Ok(Ready { tokens, stop_tokens, ctx, arena_bytes: needs.arena_bytes, reference })
}

/// Depth and prompt as tokens, and what ends the generation: a synthetic test runs to its length.
fn tokens(model: &Model, workload: &Workload) -> (Vec<u32>, Vec<u32>) {
    let tokenizer = model.tokenizer();
    match &workload.prompt {
        Prompt::Synthetic(n) => {
            (tokenizer.synthetic((workload.n_depth.saturating_add(*n)) as usize), Vec::new())
        }
        Prompt::Text(text) => {
            let mut prompt = tokenizer.encode_prompt(text);
            if workload.n_depth > 0 && prompt.len() > 1 && prompt.first().copied() == tokenizer.bos() {
                // The filled context begins with it.
                prompt.remove(0);
            }
            let mut tokens = tokenizer.synthetic(workload.n_depth as usize);
            tokens.append(&mut prompt);
            (tokens, tokenizer.stop_tokens().iter().copied().take(STOP_TOKENS).collect())
        }
    }
}

fn context(model: &Model, workload: &Workload, tokens: usize) -> Result<u32, TaskError> {
    let refuse = |what: String, hint: &str| {
        Err(TaskError::new(ErrorClass::Request, "context_too_long", what).with_hint(hint))
    };
    let trained = model.config().train_ctx;
    let whole = (tokens as u64).saturating_add(u64::from(workload.n_gen));
    let ctx = workload.ctx.map_or(whole, u64::from);
    match u32::try_from(ctx).ok().filter(|ctx| *ctx <= trained) {
        None => refuse(
            format!("a context of {ctx} tokens is more than the {trained} that the model was trained for"),
            &format!("keep depth, prompt and generated tokens together within {trained}"),
        ),
        Some(ctx) if tokens as u64 > u64::from(ctx) => refuse(
            format!("depth and prompt have {tokens} tokens, the context {ctx}"),
            "give a longer --ctx or a shorter prompt",
        ),
        Some(ctx) => Ok(ctx),
    }
}

fn stop_reason(stop: StopReason) -> edgeprof_common::run::StopReason {
    use edgeprof_common::run::StopReason as Word;
    match stop {
        StopReason::Length => Word::Length,
        StopReason::StopToken => Word::StopToken,
        StopReason::Context => Word::Context,
        StopReason::Cancelled => Word::Cancelled,
    }
}
