//! One repetition on a board: a `Run` conversation from announcement to `Done`.

use std::time::Duration;

use edgeprof_link::{FromBoard, List, MAX_PROMPT_TOKENS_PER_FRAME, RunRequest, Stop, ToBoard, Work};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    conversation::{Conversation, MAX_GARBLED},
    error::BoardError,
};
use crate::spec::Spec;

/// Raw figures of one repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repetition {
    /// Ticks of loading.
    pub load: u64,
    /// Tokens and ticks of each prefill pass.
    pub prefill: Vec<(u32, u64)>,
    /// Ticks of each generated token after the first.
    pub decode: Vec<u64>,
    /// What was generated.
    pub tokens: Vec<u32>,
    /// Hash over the logits.
    pub logits_hash: u64,
    /// Arena in use at most.
    pub arena_used: u32,
    /// The KV cache's part of it.
    pub kv_bytes: u32,
    /// Deepest stack.
    pub stack_high_water: u32,
}

/// How a repetition ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Whole(Repetition, Stop),
    /// On command; the board answered.
    Cancelled,
    /// On command; the board did not answer and must be restarted.
    CancelledUnanswered,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between two frames, and for answers.
    pub frame: Duration,
    /// Until the first prefill pass is reported: the checksum and all uncounted tokens come before it.
    pub first: Duration,
    /// Until a cancelled run ends.
    pub cancel: Duration,
}

impl Patience {
    /// Scaled by the work of a token. An emulator does at least 10 million instructions a second even
    /// on a crowded host, and the slowest kernel (F16 weights without an FPU) takes some 80 instructions
    /// for a byte of weights.
    pub fn of(frame: Duration, cancel: Duration, image_bytes: u64, uncounted: u32) -> Self {
        let token = Duration::from_micros(8).saturating_mul(u32::try_from(image_bytes).unwrap_or(u32::MAX));
        let frame = frame.saturating_add(token);
        Self { frame, first: frame.saturating_add(token.saturating_mul(uncounted)), cancel }
    }
}

/// Runs one repetition. `progress` hears of every token done, prompt tokens included.
///
/// # Errors
/// When the board refuses, fails, falls silent or cannot be understood.
pub async fn repetition(
    board: &mut Conversation,
    spec: &Spec,
    patience: Patience,
    cancel: &CancellationToken,
    mut progress: impl FnMut(u64),
) -> Result<Ended, BoardError> {
    let run = board.next_run();
    let before = board.stats();
    announce(board, spec, run, patience).await?;
    let mut got = Repetition::default();
    let mut cancelled: Option<Instant> = None;
    loop {
        let wait = if got.prefill.is_empty() { patience.first } else { patience.frame };
        let deadline = cancelled.unwrap_or_else(|| Instant::now() + wait);
        let message = tokio::select! {
            biased;
            () = cancel.cancelled(), if cancelled.is_none() => {
                board.tell(&ToBoard::Cancel { run }).await?;
                cancelled = Some(Instant::now() + patience.cancel);
                continue;
            }
            message = board.next(deadline, wait, "run") => message,
        };
        let message = match message {
            Err(BoardError::Hung { .. }) if cancelled.is_some() => return Ok(Ended::CancelledUnanswered),
            other => other?,
        };
        match message {
            FromBoard::Interval { run: of, work, ticks } if of == run => match work {
                Work::Load => got.load = ticks,
                Work::Prefill { tokens } => {
                    got.prefill.push((tokens, ticks));
                    progress(u64::from(tokens));
                }
                Work::Decode { .. } => got.decode.push(ticks),
            },
            FromBoard::Token { run: of, id, .. } if of == run => {
                got.tokens.push(id);
                progress(1);
            }
            FromBoard::Done { run: of, stop: Stop::Cancelled, .. } if of == run => {
                return Ok(Ended::Cancelled);
            }
            FromBoard::Done {
                run: of,
                generated,
                stop,
                logits_hash,
                arena_used,
                kv_bytes,
                stack_high_water,
            } if of == run => {
                if cancelled.is_some() {
                    return Ok(Ended::Cancelled);
                }
                got = Repetition { logits_hash, arena_used, kv_bytes, stack_high_water, ..got };
                complete(&got, spec, generated).map_err(|what| {
                    let now = board.stats();
                    BoardError::Garbled(format!(
                        "{what}; {} frames were damaged and {} are missing",
                        now.dropped() - before.dropped(),
                        now.lost - before.lost
                    ))
                })?;
                return Ok(Ended::Whole(got, stop));
            }
            FromBoard::Failed { run: of, code } if of == run => return Err(BoardError::Refused { code }),
            // Of an earlier run, or an answer that came late.
            _ => {}
        }
        let garbled = board.stats().dropped() - before.dropped();
        if garbled > MAX_GARBLED {
            return Err(BoardError::Garbled(format!("{garbled} frames of one run were damaged")));
        }
    }
}

async fn announce(
    board: &mut Conversation,
    spec: &Spec,
    run: u32,
    patience: Patience,
) -> Result<(), BoardError> {
    let request = RunRequest {
        run,
        prompt_len: u32::try_from(spec.tokens.len()).unwrap_or(u32::MAX),
        uncounted: spec.uncounted,
        n_gen: spec.n_gen,
        ctx: spec.ctx,
        kv: spec.kv,
        temperature: spec.temperature,
        seed: spec.seed,
        stop_tokens: spec.stop_tokens,
    };
    board.tell(&ToBoard::Run(request)).await?;
    let deadline = Instant::now() + patience.frame;
    loop {
        match board.next(deadline, patience.frame, "accept a run").await? {
            FromBoard::Accepted { run: of } if of == run => break,
            FromBoard::Failed { run: of, code } if of == run => return Err(BoardError::Refused { code }),
            _ => {}
        }
    }
    // A token takes 5 bytes at most; the rest of a frame takes less than 40.
    let room = (board.max_frame().saturating_sub(40) / 5).clamp(1, MAX_PROMPT_TOKENS_PER_FRAME);
    let mut offset = 0;
    for piece in spec.tokens.chunks(room) {
        let tokens = List::from_slice(piece).map_err(|e| BoardError::Protocol(e.to_string()))?;
        board.tell(&ToBoard::Prompt { run, offset, tokens }).await?;
        offset += u32::try_from(piece.len()).unwrap_or(u32::MAX);
    }
    board.tell(&ToBoard::Go { run }).await
}

/// Whether every frame of the run came: a lost one must not become a figure that is merely smaller.
fn complete(got: &Repetition, spec: &Spec, generated: u32) -> Result<(), String> {
    let generated = generated as usize;
    if got.load == 0 {
        // No board loads in no time.
        return Err("loading was not reported".into());
    }
    let prefilled: u64 = got.prefill.iter().map(|(tokens, _)| u64::from(*tokens)).sum();
    if prefilled != u64::from(spec.n_prompt()) {
        return Err(format!("prefill of {prefilled} of {} tokens was reported", spec.n_prompt()));
    }
    if got.tokens.len() != generated {
        return Err(format!("{} of {generated} tokens arrived", got.tokens.len()));
    }
    if got.decode.len() != generated.saturating_sub(1) {
        return Err(format!("{} of {} intervals arrived", got.decode.len(), generated.saturating_sub(1)));
    }
    Ok(())
}
