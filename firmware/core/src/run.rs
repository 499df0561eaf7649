//! One run.

use core::ops::ControlFlow;

use edgeprof_engine::generate::{Interval, Observer, Request, StopReason, generate};
use edgeprof_engine::image::Image;
use edgeprof_engine::session::Session;
use edgeprof_engine::{EngineError, KvType};
use edgeprof_link::{FailCode, FromBoard, Kv, RunRequest, Stop, ToBoard, Work};

use crate::board::{Counter, Line, Memory};
use crate::port::Port;
use crate::server::{bytes, image_fault};

/// Runs a request whose image is verified and whose prompt is complete, and gives its `Done`.
pub(crate) fn run<L: Line, C: Counter, const N: usize>(
    port: &mut Port<L, N>,
    counter: &mut C,
    memory: &mut impl Memory,
    request: &RunRequest,
    prompt: &[u32],
    boot: u32,
) -> Result<FromBoard, FailCode> {
    let run = request.run;
    let kv = match request.kv {
        Kv::F32 => KvType::F32,
        Kv::F16 => KvType::F16,
        Kv::I8 => KvType::I8,
    };
    let (region, arena) = memory.model_and_arena();
    let fault = |error| fail_code(region, request, error);

    counter.start();
    let session = Image::parse(region)
        .map_err(EngineError::from)
        .and_then(|image| Session::new(&image, arena, request.ctx, kv));
    let ticks = counter.stop();
    let mut session = session.map_err(fault)?;
    port.send(&FromBoard::Interval { run, work: Work::Load, ticks });

    let request = Request {
        prompt,
        uncounted: request.uncounted,
        n_gen: request.n_gen,
        temperature: request.temperature,
        seed: request.seed,
        stop_tokens: &request.stop_tokens,
        stop_at_eos: !request.stop_tokens.is_empty(),
    };
    let mut watch = Watch { port, counter, run, boot, timing: false, cancelled: false };
    let outcome = generate(&mut session, &request, &mut watch);
    // A pass that failed or gave a stop token has begun an interval that nobody ended.
    if watch.timing {
        watch.counter.stop();
    }
    let outcome = outcome.map_err(fault)?;
    let layout = *session.layout();
    Ok(FromBoard::Done {
        run,
        generated: outcome.generated,
        stop: match outcome.stop {
            StopReason::Length => Stop::Length,
            StopReason::StopToken => Stop::StopToken,
            StopReason::Context => Stop::Context,
            StopReason::Cancelled => Stop::Cancelled,
        },
        logits_hash: outcome.logits_hash,
        arena_used: bytes(layout.total_bytes),
        kv_bytes: bytes(layout.kv_bytes),
        stack_high_water: memory.stack_high_water(),
    })
}

/// Times the intervals, and speaks with the host between them.
struct Watch<'a, L, C, const N: usize> {
    port: &'a mut Port<L, N>,
    counter: &'a mut C,
    run: u32,
    boot: u32,
    timing: bool,
    cancelled: bool,
}

impl<L: Line, C: Counter, const N: usize> Observer for Watch<'_, L, C, N> {
    fn start(&mut self) {
        self.timing = true;
        // Last of all that is done outside the interval.
        self.counter.start();
    }

    fn stop(&mut self, what: Interval) {
        // First of all that is done outside the interval.
        let ticks = self.counter.stop();
        self.timing = false;
        let work = match what {
            Interval::Load => Work::Load,
            Interval::Prefill { tokens } => Work::Prefill { tokens },
            Interval::Decode { index } => Work::Decode { index },
        };
        self.port.send(&FromBoard::Interval { run: self.run, work, ticks });
    }

    fn prompt_token(&mut self) -> ControlFlow<()> {
        self.listen()
    }

    fn token(&mut self, index: u32, id: u32) -> ControlFlow<()> {
        self.port.send(&FromBoard::Token { run: self.run, index, id });
        self.listen()
    }
}

impl<L: Line, C: Counter, const N: usize> Watch<'_, L, C, N> {
    fn listen(&mut self) -> ControlFlow<()> {
        while let Some(message) = self.port.poll() {
            self.answer(&message);
        }
        if self.cancelled { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn answer(&mut self, message: &ToBoard) {
        let busy = |run| Some(FromBoard::Failed { run, code: FailCode::Busy });
        let answer = match *message {
            ToBoard::Cancel { run } => {
                self.cancelled |= run == self.run;
                None
            }
            ToBoard::Ping { nonce } => Some(FromBoard::Pong { nonce, session: self.boot }),
            ToBoard::Run(request) => busy(request.run),
            ToBoard::Go { run } => busy(run),
            // Asked again when the run is over; a prompt's run was refused already.
            ToBoard::Hello
            | ToBoard::Image
            | ToBoard::Prompt { .. }
            | ToBoard::Load { .. }
            | ToBoard::Chunk { .. }
            | ToBoard::CodeSum { .. } => None,
        };
        if let Some(answer) = answer {
            self.port.send(&answer);
        }
    }
}

fn fail_code(region: &[u8], request: &RunRequest, error: EngineError) -> FailCode {
    match error {
        EngineError::Image(error) => image_fault(region, error),
        EngineError::ArenaTooSmall { needed, have } => FailCode::ArenaTooSmall { need: needed, have },
        EngineError::NonFinite(_) => FailCode::NonFinite,
        EngineError::ContextFull(_) => FailCode::PromptTooLong { max: request.ctx },
        EngineError::BadContext(_) | EngineError::BadToken(_) | EngineError::BadRequest(_) => {
            FailCode::BadRequest
        }
        // The engine may learn to fail in more ways than we know by name.
        _ => FailCode::Engine { code: 0 },
    }
}
