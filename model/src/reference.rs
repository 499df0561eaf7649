//! The engine on this machine: what a board must give to the bit.

use std::ops::ControlFlow;

use edgeprof_engine::arena::Layout;
use edgeprof_engine::generate::{self, Observer, StopReason};
use edgeprof_engine::image::Image;
use edgeprof_engine::session::Session;
use edgeprof_engine::{EngineError, KvType};

use crate::ModelError;

/// No board's arena comes near this. A host that overcommits memory would grant more, and kill
/// the process once it is used.
const ARENA_LIMIT: u64 = 8 << 30;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Token ids of the prompt, BOS included; not empty.
    pub prompt: &'a [u32],
    /// Tokens to generate at most.
    pub n_gen: u32,
    /// Sampling temperature, 0 for greedy.
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u64,
    /// Tokens that end the generation; empty for none.
    pub stop_tokens: &'a [u32],
    /// Positions of the context.
    pub ctx: u32,
    /// Type of the key/value cache.
    pub kv: KvType,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Generated tokens, without prompt and stop token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
    /// FNV-1a-64 over every logit vector; see [`edgeprof_engine::hash::LogitsHash`].
    pub logits_hash: u64,
    /// Bytes of the arena that the run took.
    pub arena_bytes: u64,
}

fn refused(e: EngineError) -> ModelError {
    ModelError::Engine { what: e.to_string() }
}

/// Runs a request on a board image.
///
/// # Errors
/// [`ModelError::Engine`] if the image or the request is unsound, a logit is not finite, or the
/// arena does not fit this machine's memory.
pub fn run(image: &[u8], request: &Request<'_>) -> Result<Outcome, ModelError> {
    run_with(image, request, |_, _| ControlFlow::Continue(()))
}

/// [`run`], calling `on_token` with the index and id of every generated token; `Break` ends the
/// run.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    image: &[u8],
    request: &Request<'_>,
    on_token: impl FnMut(u32, u32) -> ControlFlow<()>,
) -> Result<Outcome, ModelError> {
    with_session(image, request.ctx, request.kv, |session| {
        let mut watch = Collector { tokens: Vec::new(), on_token };
        let request = generate::Request {
            prompt: request.prompt,
            uncounted: 0,
            n_gen: request.n_gen,
            temperature: request.temperature,
            seed: request.seed,
            stop_tokens: request.stop_tokens,
            stop_at_eos: !request.stop_tokens.is_empty(),
        };
        let done = generate::generate(session, &request, &mut watch).map_err(refused)?;
        Ok(Outcome {
            tokens: watch.tokens,
            stop: done.stop,
            logits_hash: done.logits_hash,
            arena_bytes: session.layout().total_bytes,
        })
    })
}

struct Collector<F> {
    tokens: Vec<u32>,
    on_token: F,
}

impl<F: FnMut(u32, u32) -> ControlFlow<()>> Observer for Collector<F> {
    fn token(&mut self, index: u32, id: u32) -> ControlFlow<()> {
        self.tokens.push(id);
        (self.on_token)(index, id)
    }
}

/// Makes a session on an image, verified whole, and hands it to `f`.
///
/// # Errors
/// As [`run`], and what `f` gives.
pub fn with_session<T>(
    image: &[u8],
    ctx: u32,
    kv: KvType,
    f: impl FnOnce(&mut Session<'_, '_>) -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    let mut copy = Vec::new();
    let image = aligned(image, &mut copy);
    let parsed = Image::parse(image).map_err(|e| refused(e.into()))?;
    parsed.verify_checksum().map_err(|e| refused(e.into()))?;
    let layout =
        Layout::new(parsed.config(), ctx, kv).ok_or_else(|| refused(EngineError::BadContext(ctx)))?;
    let mut arena: Vec<u64> = Vec::new();
    let words = Some(layout.total_bytes).filter(|&n| n <= ARENA_LIMIT);
    let words = words.and_then(|n| usize::try_from(n / 8).ok());
    let Some(words) = words.filter(|&n| arena.try_reserve_exact(n).is_ok()) else {
        return Err(ModelError::Engine {
            what: format!("an arena of {} bytes does not fit in memory", layout.total_bytes),
        });
    };
    arena.resize(words, 0);
    let mut session = Session::new(&parsed, &mut arena, ctx, kv).map_err(refused)?;
    f(&mut session)
}

/// The image itself if it begins at a multiple of 16, else a copy that does.
fn aligned<'a>(image: &'a [u8], copy: &'a mut Vec<u8>) -> &'a [u8] {
    if image.as_ptr().align_offset(16) == 0 {
        return image;
    }
    copy.resize(image.len() + 16, 0);
    let skip = copy.as_ptr().align_offset(16).min(16);
    copy[skip..skip + image.len()].copy_from_slice(image);
    &copy[skip..skip + image.len()]
}
