//! Whether a cell can run on a board kind: arithmetic, with the figures in the answer.

use edgeprof_boards::{Kind, fit::Fit};
use edgeprof_common::{
    ErrorClass, TaskError,
    job::{Cell, Prompt},
};
use edgeprof_model::{Header, requirements, what_would_fit};

use crate::preparing::child::{blame, engine_kv, model_quant};

fn refuse(code: &str, message: String, hint: impl Into<String>) -> TaskError {
    TaskError::new(ErrorClass::Request, code, message).with_hint(hint)
}

/// Checks a cell against a kind, before its prompt is tokenized: a real prompt counts as one token.
///
/// # Errors
/// What is too large for what, and what would fit.
pub fn check(header: &Header, cell: &Cell, kind: &Kind) -> Result<(), TaskError> {
    let prompt = match &cell.prompt {
        Prompt::Synthetic(n) => *n,
        Prompt::Text(_) => 1,
    };
    let tokens = cell.n_depth.saturating_add(prompt);
    let ctx = cell.ctx.unwrap_or(tokens.saturating_add(cell.n_gen));
    let (name, trained) = (&cell.model.name, header.config().train_ctx);
    if ctx > trained {
        return Err(refuse(
            "context_too_long",
            format!("{name}: a context of {ctx} tokens is more than the {trained} that it was trained for"),
            format!("keep depth, prompt and generated tokens together within {trained}"),
        ));
    }
    if tokens > ctx {
        return Err(refuse(
            "context_too_long",
            format!("{name}: depth and prompt have {tokens} tokens, the context only {ctx}"),
            format!("give --ctx {} or more", tokens.saturating_add(cell.n_gen).min(trained)),
        ));
    }
    prompt_fits(name, tokens as usize, kind)?;
    let needs =
        requirements(header, model_quant(cell.quant), ctx, engine_kv(cell.kv)).map_err(|e| blame(&e))?;
    let fit = Fit::of(kind, needs.image_bytes, needs.arena_bytes);
    if fit.ok() {
        return Ok(());
    }
    let what = format!(
        "{name} ({}, kv {}, ctx {ctx}) does not fit {}: its image needs {} bytes of flash, the model region has {}; \
         it needs {} bytes of arena ({} of them key/value cache), the board has {}",
        cell.quant,
        cell.kv,
        kind.name,
        fit.model_need,
        fit.model_have,
        fit.arena_need,
        needs.kv_bytes,
        fit.arena_have
    );
    let fitting: Vec<_> = what_would_fit(header, fit.model_have, fit.arena_have)
        .iter()
        .filter(|choice| choice.max_ctx >= tokens)
        .take(4)
        .map(ToString::to_string)
        .collect();
    let hint = if fitting.is_empty() {
        format!("nothing of this model fits {}; use a smaller model or a larger board", kind.name)
    } else {
        format!("on {} would fit: {}", kind.name, fitting.join("; or "))
    };
    Err(refuse("does_not_fit", what, hint))
}

/// Checks a cell whose prompt is tokenized.
///
/// # Errors
/// What is too large for what.
pub fn check_prepared(name: &str, tokens: usize, arena_bytes: u64, kind: &Kind) -> Result<(), TaskError> {
    prompt_fits(name, tokens, kind)?;
    if arena_bytes > kind.memory.arena.size {
        return Err(refuse(
            "does_not_fit",
            format!(
                "{name} with a prompt of {tokens} tokens needs {arena_bytes} bytes of arena, {} has {}",
                kind.name, kind.memory.arena.size
            ),
            "use a shorter prompt or context, or a smaller --kv",
        ));
    }
    Ok(())
}

fn prompt_fits(name: &str, tokens: usize, kind: &Kind) -> Result<(), TaskError> {
    if tokens > kind.max_prompt as usize {
        return Err(refuse(
            "prompt_too_long",
            format!(
                "{name}: depth and prompt have {tokens} tokens, {} takes at most {}",
                kind.name, kind.max_prompt
            ),
            format!("keep them within {} tokens on {}", kind.max_prompt, kind.name),
        ));
    }
    Ok(())
}
