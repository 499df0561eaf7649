//! Who answers the host.

use edgeprof_engine::image::{self, Image};
use edgeprof_engine::{DType, ImageError};
use edgeprof_link::{
    BoardHello, FailCode, FromBoard, ImageInfo, Kv, PROTOCOL, Record, RunRequest, Text, ToBoard,
};

use crate::board::{Counter, Facts, Line, Memory};
use crate::load::Loader;
use crate::port::Port;
use crate::records::Records;
use crate::run::run;

/// The board's side of the conversation. Large: it belongs into a static, not on the stack.
///
/// `N` is the longest frame in bytes.
pub struct Server<L, C, M, const N: usize> {
    port: Port<L, N>,
    counter: C,
    memory: M,
    facts: Facts,
    session: u32,
    overhead: u32,
    /// Whether the image's checksum was found right since boot.
    verified: bool,
    loader: Loader,
    records: Records,
    announced: Option<RunRequest>,
    prompt: &'static mut [u32],
    /// Prompt tokens received, from the first on without a gap.
    received: usize,
}

impl<L: Line, C: Counter, M: Memory, const N: usize> Server<L, C, M, N> {
    /// A server that has not yet looked at its counter or memory. Prompts are as long as `prompt` at most.
    pub const fn new(line: L, counter: C, memory: M, facts: Facts, prompt: &'static mut [u32]) -> Self {
        Self {
            port: Port::new(line),
            counter,
            memory,
            facts,
            session: 0,
            overhead: 0,
            verified: false,
            loader: Loader::new(),
            records: Records::new(),
            announced: None,
            prompt,
            received: 0,
        }
    }

    /// The memory, as the main gave it.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// Serves for ever.
    pub fn serve(&mut self) -> ! {
        self.calibrate();
        loop {
            self.step();
        }
    }

    /// Measures what an interval with nothing in it shows.
    pub fn calibrate(&mut self) {
        // The first one fetches the code, where there is a cache.
        for _ in 0..2 {
            self.counter.start();
            self.overhead = u32::try_from(self.counter.stop()).unwrap_or(u32::MAX);
        }
    }

    /// Waits for a message and deals with it.
    pub fn step(&mut self) {
        let message = self.port.receive();
        if self.session == 0 {
            self.session = self.counter.session();
        }
        match message {
            ToBoard::Go { run } => self.go(run),
            other => self.answer(&other),
        }
    }

    // Not inlined, as little else here: what an answer keeps on the stack is gone when a run takes all of it.
    #[inline(never)]
    fn answer(&mut self, message: &ToBoard) {
        let answer = match *message {
            ToBoard::Ping { nonce } => FromBoard::Pong { nonce, session: self.session },
            ToBoard::Hello => FromBoard::Hello(self.hello()),
            ToBoard::Image => FromBoard::Image(self.image()),
            ToBoard::Run(ref request) => self.announce(request),
            ToBoard::Prompt { run, offset, ref tokens } => match self.take_prompt(run, offset, tokens) {
                Ok(received) => FromBoard::Accepted { run, received, gap: offset > received },
                Err(code) => FromBoard::Failed { run, code },
            },
            // Seen to by `step`.
            ToBoard::Go { .. } => return,
            ToBoard::Heard { run, next, again } => {
                if run == self.records.run() {
                    self.records.heard(&mut self.port, next, again);
                }
                return;
            }
            // A run in work sees it by itself; of one that was announced only it takes leave.
            ToBoard::Cancel { run } => {
                if self.announced.as_ref().is_some_and(|announced| announced.run == run) {
                    self.announced = None;
                }
                return;
            }
            ToBoard::Load { total_len, crc32 } => {
                let answer = self.loader.begin(&mut self.memory, total_len, crc32);
                // What was whole already stays as it was found.
                self.verified &= matches!(answer, FromBoard::Loading { next, .. } if next == total_len);
                answer
            }
            ToBoard::Chunk { offset, ref data } => self.loader.take(&mut self.memory, offset, data),
            ToBoard::CodeSum { address, len } => {
                FromBoard::CodeSum { address, len, crc32: self.memory.code_sum(address, len) }
            }
        };
        self.port.send(&answer);
    }

    fn hello(&mut self) -> BoardHello {
        let facts = self.facts;
        BoardHello {
            protocol: u16::from(PROTOCOL),
            kind: Text::cut(facts.kind),
            build_id: Text::cut(facts.build_id),
            firmware_version: Text::cut(facts.version),
            engine_version: Text::cut(edgeprof_engine::VERSION),
            image_format: image::VERSION,
            dtypes: DType::ALL.iter().fold(0, |bits, dtype| bits | 1 << *dtype as u32),
            kv: Kv::F32.bit() | Kv::F16.bit() | Kv::I8.bit(),
            isa: facts.isa,
            arena_bytes: bytes(size_of_val(self.memory.model_and_arena().1) as u64),
            model_region_bytes: bytes(self.memory.model().len() as u64),
            max_prompt: bytes(self.prompt.len() as u64),
            max_frame: bytes(N as u64),
            tick_hz: facts.tick_hz,
            overhead_ticks: self.overhead,
            counter: Text::cut(facts.counter),
            static_ram: facts.static_ram,
            flash_code: facts.flash_code,
            stack_bytes: facts.stack_bytes,
        }
    }

    fn image(&mut self) -> ImageInfo {
        let region = self.memory.model();
        let Ok(image) = Image::parse(region) else {
            // A damaged header may hold anything: only that there was one is told.
            return ImageInfo { present: has_magic(region), ..ImageInfo::default() };
        };
        self.verified = self.verified || image.verify_checksum().is_ok();
        ImageInfo {
            present: true,
            total_len: bytes(image.total_len()),
            crc32: image.payload_crc(),
            checksum_ok: self.verified,
        }
    }

    fn announce(&mut self, request: &RunRequest) -> FromBoard {
        self.announced = None;
        self.received = 0;
        let run = request.run;
        let max = self.prompt.len().min(request.ctx as usize);
        let refused = if request.prompt_len as usize > max {
            Some(FailCode::PromptTooLong { max: bytes(max as u64) })
        } else if request.prompt_len == 0
            || request.uncounted >= request.prompt_len
            || !(request.temperature >= 0.0 && request.temperature.is_finite())
        {
            Some(FailCode::BadRequest)
        } else {
            None
        };
        match refused {
            Some(code) => FromBoard::Failed { run, code },
            None => {
                self.announced = Some(*request);
                FromBoard::Accepted { run, received: 0, gap: false }
            }
        }
    }

    /// Takes tokens if they are the next ones; how many are there.
    fn take_prompt(&mut self, run: u32, offset: u32, tokens: &[u32]) -> Result<u32, FailCode> {
        let announced = self.announced.as_ref().filter(|announced| announced.run == run);
        let announced = announced.ok_or(FailCode::UnknownRun)?;
        let end = self.received + tokens.len();
        if offset as usize == self.received && end <= announced.prompt_len as usize {
            let place = self.prompt.get_mut(self.received..end).ok_or(FailCode::BadRequest)?;
            place.copy_from_slice(tokens);
            self.received = end;
        }
        Ok(bytes(self.received as u64))
    }

    /// The checksum takes a pass over the image: once a boot, and never inside an interval.
    #[inline(never)]
    fn verify(&mut self) -> Result<(), FailCode> {
        if !self.verified {
            let region = self.memory.model();
            let image = Image::parse(region).map_err(|error| image_fault(region, error))?;
            image.verify_checksum().map_err(|error| image_fault(region, error))?;
            self.verified = true;
        }
        Ok(())
    }

    fn start(&mut self, request: &RunRequest) -> Result<Record, FailCode> {
        self.verify()?;
        let prompt = self.prompt.get(..self.received).ok_or(FailCode::BadRequest)?;
        let Self { port, records, counter, memory, session, .. } = self;
        run(port, records, counter, memory, request, prompt, *session)
    }

    #[inline(never)]
    fn refuse(&mut self, run: u32, code: FailCode) {
        self.port.send(&FromBoard::Failed { run, code });
    }

    #[inline(never)]
    fn go(&mut self, run: u32) {
        let request = match self.announced {
            Some(request) if request.run == run && self.received == request.prompt_len as usize => request,
            // Its end was lost, or its beginning.
            None if run == self.records.run() => return self.records.heard(&mut self.port, 0, true),
            Some(request) if request.run == run => return self.refuse(run, FailCode::BadRequest),
            _ => return self.refuse(run, FailCode::UnknownRun),
        };
        self.announced = None;
        self.records.restart(run);
        let last = self.start(&request).unwrap_or_else(|code| Record::Failed { code });
        // Statics lie below the stack: once it has used all of its room they cannot be trusted.
        let stack = self.memory.stack_high_water();
        assert!(stack < self.facts.stack_bytes, "stack overflow");
        self.records.tell(&mut self.port, last);
    }
}

/// A size as the link has it; none on a board of 32 bits is larger.
pub(crate) fn bytes(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn has_magic(region: &[u8]) -> bool {
    region.get(..image::MAGIC.len()) == Some(&image::MAGIC)
}

/// How the host is told of an image that is none.
pub(crate) fn image_fault(region: &[u8], error: ImageError) -> FailCode {
    match error {
        _ if !has_magic(region) => FailCode::NoImage,
        ImageError::Version(found) => FailCode::ImageVersion { found: u32::from(found) },
        _ => FailCode::BadImage,
    }
}
