//! One repetition on a board: a `Run` conversation from announcement to `Done`.

use std::time::Duration;

use edgeprof_link::{FromBoard, MAX_UNHEARD, Record, RunRequest, Stop, ToBoard, Work};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{conversation::Conversation, error::BoardError, load::announce};
use crate::spec::Spec;

/// Damaged frames in one run that are nothing to speak of; beyond, half of all frames must be whole.
const MAX_DAMAGED: u32 = 64;

/// What was said last is said again when nothing comes for so long, and then for twice as long, up to
/// [`LONGEST_REPEAT`].
const REPEAT: Duration = Duration::from_millis(250);

/// Longest time between two sayings of the same.
const LONGEST_REPEAT: Duration = Duration::from_secs(4);

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
    announce(board, request(run, spec), &spec.tokens, patience.frame).await?;
    let mut got = Repetition::default();
    let mut ear = Ear::new(run);
    let mut cancelled: Option<Instant> = None;
    let mut deadline = Instant::now() + patience.first;
    let mut pause = REPEAT;
    board.tell(&ToBoard::Go { run }).await?;
    loop {
        let wait = if got.prefill.is_empty() { patience.first } else { patience.frame };
        let until = cancelled.unwrap_or(deadline);
        let message = tokio::select! {
            biased;
            () = cancel.cancelled(), if cancelled.is_none() => {
                board.tell(&ToBoard::Cancel { run }).await?;
                cancelled = Some(Instant::now() + patience.cancel);
                continue;
            }
            message = board.next(until.min(Instant::now() + pause), wait, "run") => message,
        };
        let message = match message {
            Ok(message) => message,
            Err(BoardError::Hung { .. }) if Instant::now() < until => {
                // What was said last may have been lost, or what was answered.
                if cancelled.is_some() {
                    board.tell(&ToBoard::Cancel { run }).await?;
                }
                board.tell(&ear.ask_again()).await?;
                pause = (pause * 2).min(LONGEST_REPEAT);
                continue;
            }
            Err(BoardError::Hung { .. }) if cancelled.is_some() => return Ok(Ended::CancelledUnanswered),
            Err(error) => return Err(error),
        };
        let what = match message {
            FromBoard::Record { run: of, number, what } if of == run => match ear.hear(number) {
                Heard::Next => what,
                Heard::Known => continue,
                Heard::Gap => {
                    board.tell(&ear.ask_again()).await?;
                    continue;
                }
            },
            FromBoard::Failed { run: of, code } if of == run => return Err(BoardError::Refused { code }),
            // Of an earlier run, or an answer that came late.
            _ => continue,
        };
        (deadline, pause) = (Instant::now() + wait, REPEAT);
        if let Some(heard) = ear.tell(matches!(what, Record::Done { .. } | Record::Failed { .. })) {
            board.tell(&heard).await?;
        }
        bounded(&got, spec).map_err(|what| BoardError::Protocol(what.into()))?;
        match what {
            Record::Interval { work, ticks } => match work {
                Work::Load => got.load = ticks,
                Work::Prefill { tokens } => {
                    got.prefill.push((tokens, ticks));
                    progress(u64::from(tokens));
                }
                Work::Decode { .. } => got.decode.push(ticks),
            },
            Record::Token { id, .. } => {
                got.tokens.push(id);
                progress(1);
            }
            Record::Failed { code } => return Err(BoardError::Refused { code }),
            Record::Done { stop: Stop::Cancelled, .. } => return Ok(Ended::Cancelled),
            Record::Done { .. } if cancelled.is_some() => return Ok(Ended::Cancelled),
            Record::Done { generated, stop, logits_hash, arena_used, kv_bytes, stack_high_water } => {
                got = Repetition { logits_hash, arena_used, kv_bytes, stack_high_water, ..got };
                complete(&got, spec, generated).map_err(|what| {
                    let dropped = board.stats().dropped() - before.dropped();
                    BoardError::Garbled(format!("{what}; {dropped} frames were damaged"))
                })?;
                return Ok(Ended::Whole(got, stop));
            }
        }
        let dropped = board.stats().dropped() - before.dropped();
        let whole = board.stats().messages - before.messages;
        if dropped > MAX_DAMAGED.max(whole) {
            return Err(BoardError::Garbled(format!("{dropped} of {} frames were damaged", dropped + whole)));
        }
    }
}

fn request(run: u32, spec: &Spec) -> RunRequest {
    RunRequest {
        run,
        prompt_len: u32::try_from(spec.tokens.len()).unwrap_or(u32::MAX),
        uncounted: spec.uncounted,
        n_gen: spec.n_gen,
        ctx: spec.ctx,
        kv: spec.kv,
        temperature: spec.temperature,
        seed: spec.seed,
        stop_tokens: spec.stop_tokens,
    }
}

/// What of a record is new.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// It is the next.
    Next,
    /// It was there before.
    Known,
    /// One before it is missing, and was not asked for yet.
    Gap,
}

/// Puts the records of a run in order.
#[derive(Debug)]
struct Ear {
    run: u32,
    /// All below have arrived.
    next: u32,
    /// All below are acknowledged.
    told: u32,
    /// The gap at `next` was asked for.
    asked: bool,
}

impl Ear {
    const fn new(run: u32) -> Self {
        Self { run, next: 0, told: 0, asked: false }
    }

    fn hear(&mut self, number: u32) -> Heard {
        if number == self.next {
            self.next += 1;
            self.asked = false;
            return Heard::Next;
        }
        if number < self.next || self.asked {
            return Heard::Known;
        }
        Heard::Gap
    }

    /// The acknowledgement that is due: a board that has told half of what it keeps need not wait.
    fn tell(&mut self, last: bool) -> Option<ToBoard> {
        let due = last || (self.next - self.told) as usize * 2 >= MAX_UNHEARD;
        due.then(|| {
            self.told = self.next;
            ToBoard::Heard { run: self.run, next: self.next, again: false }
        })
    }

    /// Asks for what is missing.
    fn ask_again(&mut self) -> ToBoard {
        self.told = self.next;
        self.asked = true;
        if self.next == 0 {
            // It may not even have begun.
            return ToBoard::Go { run: self.run };
        }
        ToBoard::Heard { run: self.run, next: self.next, again: true }
    }
}

/// A board that tells without end is not listened to until memory ends. No run tells more than it was asked for.
fn bounded(got: &Repetition, spec: &Spec) -> Result<(), &'static str> {
    let (prompt, generated) = (spec.n_prompt() as usize, spec.n_gen() as usize);
    if got.prefill.len() > prompt || got.tokens.len() > generated || got.decode.len() > generated {
        return Err("it tells of more tokens than the run has");
    }
    Ok(())
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
