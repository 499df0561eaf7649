//! One run.

use core::ops::ControlFlow;

use edgeprof_engine::generate::{Interval, Observer, Request, StopReason, generate};
use edgeprof_engine::image::Image;
use edgeprof_engine::session::Session;
use edgeprof_engine::{EngineError, KvType};
use edgeprof_link::{FailCode, FromBoard, Kv, Record, RunRequest, Stop, ToBoard, Work};

use crate::board::{Counter, Line, Memory};
use crate::port::Port;
use crate::records::Records;
use crate::server::{bytes, image_fault};

/// Runs a request whose image is verified and whose prompt is complete, and gives its last record.
pub(crate) fn run<L: Line, C: Counter, const N: usize>(
    port: &mut Port<L, N>,
    records: &mut Records,
    counter: &mut C,
    memory: &mut impl Memory,
    request: &RunRequest,
    prompt: &[u32],
    boot: u32,
) -> Result<Record, FailCode> {
    let kv = match request.kv {
        Kv::F32 => KvType::F32,
        Kv::F16 => KvType::F16,
        Kv::I8 => KvType::I8,
    };
    let (region, arena) = memory.model_and_arena();
    let fault = |error| fail_code(region, request, error);

    counter.start();
    let mut session = match Image::parse(region) {
        Ok(image) => Session::new(&image, arena, request.ctx, kv),
        Err(error) => Err(error.into()),
    };
    let ticks = counter.stop();
    // Used where it lies: it is large for the stack of a small board.
    let session = session.as_mut().map_err(|error| fault(*error))?;
    records.tell(port, Record::Interval { work: Work::Load, ticks });

    let request = Request {
        prompt,
        uncounted: request.uncounted,
        n_gen: request.n_gen,
        temperature: request.temperature,
        seed: request.seed,
        stop_tokens: &request.stop_tokens,
        stop_at_eos: !request.stop_tokens.is_empty(),
    };
    let mut watch = Watch { port, records, counter, boot, timing: false, cancelled: false };
    let outcome = generate(session, &request, &mut watch);
    // A pass that failed or gave a stop token has begun an interval that nobody ended.
    if watch.timing {
        watch.counter.stop();
    }
    let outcome = outcome.map_err(fault)?;
    let layout = *session.layout();
    Ok(Record::Done {
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
    records: &'a mut Records,
    counter: &'a mut C,
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
        self.records.tell(self.port, Record::Interval { work, ticks });
    }

    fn prompt_token(&mut self) -> ControlFlow<()> {
        self.listen()
    }

    fn token(&mut self, index: u32, id: u32) -> ControlFlow<()> {
        self.records.tell(self.port, Record::Token { index, id });
        self.listen()
    }
}

impl<L: Line, C: Counter, const N: usize> Watch<'_, L, C, N> {
    /// Answers what has come in; waits if the host has to hear before it can be told more.
    fn listen(&mut self) -> ControlFlow<()> {
        while let Some(message) = self.port.poll() {
            self.answer(&message);
        }
        // A token is told with its interval: there must be room for both.
        while self.records.nearly_full() && !self.cancelled {
            let message = self.port.receive();
            self.answer(&message);
        }
        if self.cancelled { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn answer(&mut self, message: &ToBoard) {
        let own = self.records.run();
        let answer = match *message {
            ToBoard::Heard { run, next, again } if run == own => {
                return self.records.heard(self.port, next, again);
            }
            ToBoard::Go { run } if run == own => return self.records.heard(self.port, 0, true),
            ToBoard::Cancel { run } if run == own => {
                self.cancelled = true;
                return;
            }
            // A host that knows nothing of this run. It asks again.
            ToBoard::Hello => {
                self.cancelled = true;
                return;
            }
            ToBoard::Ping { nonce } => FromBoard::Pong { nonce, session: self.boot },
            ToBoard::Run(RunRequest { run, .. }) | ToBoard::Go { run } => {
                FromBoard::Failed { run, code: FailCode::Busy }
            }
            // Asked again when the run is over; a prompt's run was refused already.
            ToBoard::Image
            | ToBoard::Prompt { .. }
            | ToBoard::Heard { .. }
            | ToBoard::Cancel { .. }
            | ToBoard::Load { .. }
            | ToBoard::Chunk { .. }
            | ToBoard::CodeSum { .. } => return,
        };
        self.port.send(&answer);
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
