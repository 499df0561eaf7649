//! One run: prompt in, tokens out, every counted interval reported.

use core::ops::ControlFlow;

use crate::error::EngineError;
use crate::hash::LogitsHash;
use crate::sampler::Sampler;
use crate::session::Session;

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Request<'p> {
    /// Token ids of the prompt, BOS included. Not empty.
    pub prompt: &'p [u32],
    /// So many of the prompt's first tokens only fill the context: they are run but not reported.
    /// Less than the prompt's length.
    pub uncounted: u32,
    /// Tokens to generate at most. 0 runs the prompt only.
    pub n_gen: u32,
    /// Sampling temperature, 0 for greedy.
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u64,
    /// Tokens that end the generation (EOS and the like), if `stop_at_eos`.
    pub stop_tokens: &'p [u32],
    /// Whether `stop_tokens` count.
    pub stop_at_eos: bool,
}

/// A counted interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Making image and session ready. Reported by the caller of [`generate`], not by it.
    Load,
    /// One pass over prompt tokens. The last one includes classifier and sampling, so time to
    /// first token is the sum of these.
    Prefill {
        /// Prompt tokens of the pass; 1 at present.
        tokens: u32,
    },
    /// One pass that gave the generated token of this index, which is 1 or more; sampling included.
    Decode {
        /// Index among the generated tokens.
        index: u32,
    },
}

/// Watches a run. All calls do nothing unless overridden.
pub trait Observer {
    /// A counted interval begins.
    fn start(&mut self) {}

    /// The interval that began last has ended. A decode pass that gave a stop token yields no
    /// output and is not reported: its `start` is followed by no `stop`.
    fn stop(&mut self, what: Interval) {
        let _ = what;
    }

    /// A prompt token before the last was run, counted or not; outside the counted intervals. `Break`
    /// cancels the run.
    fn prompt_token(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A token was generated; outside the counted intervals. `Break` cancels the run.
    fn token(&mut self, index: u32, id: u32) -> ControlFlow<()> {
        let _ = (index, id);
        ControlFlow::Continue(())
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// Why a generation ended.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// `n_gen` tokens were generated.
    Length = 0,
    /// The model gave a stop token, which is neither counted nor reported.
    StopToken = 1,
    /// The context is full.
    Context = 2,
    /// The observer asked for it.
    Cancelled = 3,
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Tokens generated and reported.
    pub generated: u32,
    /// Why it ended.
    pub stop: StopReason,
    /// [`LogitsHash`] over every logit vector: the last prompt token's and each later pass's.
    pub logits_hash: u64,
}

/// Runs a request from the session's present position. Each prompt token is one pass, and only the
/// last runs the classifier. The last generated token is not fed back, so a request takes
/// `prompt.len() + n_gen - 1` positions.
///
/// # Errors
/// [`EngineError::BadRequest`] for an empty prompt or one with no counted token,
/// [`EngineError::ContextFull`] for a prompt longer than the positions left, and what
/// [`Session::forward`] gives.
pub fn generate(
    session: &mut Session<'_, '_>,
    req: &Request<'_>,
    obs: &mut impl Observer,
) -> Result<Outcome, EngineError> {
    let Some((&last, first)) = req.prompt.split_last() else {
        return Err(EngineError::BadRequest("empty prompt"));
    };
    if req.uncounted as usize >= req.prompt.len() {
        return Err(EngineError::BadRequest("no counted prompt token"));
    }
    if req.prompt.len() > (session.ctx() - session.position()) as usize {
        return Err(EngineError::ContextFull(session.ctx()));
    }
    let mut sampler = Sampler::new(req.temperature, req.seed);
    let mut hash = LogitsHash::new();
    for (i, &token) in first.iter().enumerate() {
        if (i as u32) < req.uncounted {
            session.forward(token, false)?;
        } else {
            obs.start();
            session.forward(token, false)?;
            obs.stop(Interval::Prefill { tokens: 1 });
        }
        if obs.prompt_token().is_break() {
            return Ok(Outcome { generated: 0, stop: StopReason::Cancelled, logits_hash: hash.finish() });
        }
    }
    obs.start();
    session.forward(last, true)?;
    let mut next = if req.n_gen > 0 { sampler.sample(session.logits()) } else { 0 };
    obs.stop(Interval::Prefill { tokens: 1 });
    hash.update(session.logits());

    let is_stop = |id: u32| req.stop_at_eos && req.stop_tokens.contains(&id);
    let mut generated = 0;
    let stop = loop {
        if generated == req.n_gen {
            break StopReason::Length;
        }
        if is_stop(next) {
            break StopReason::StopToken;
        }
        let flow = obs.token(generated, next);
        generated += 1;
        if flow.is_break() {
            break StopReason::Cancelled;
        }
        if generated == req.n_gen {
            break StopReason::Length;
        }
        if session.position() == session.ctx() {
            break StopReason::Context;
        }
        obs.start();
        session.forward(next, true)?;
        next = sampler.sample(session.logits());
        if !is_stop(next) {
            obs.stop(Interval::Decode { index: generated });
        }
        hash.update(session.logits());
    };
    Ok(Outcome { generated, stop, logits_hash: hash.finish() })
}
