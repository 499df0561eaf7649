//! What host and board tell each other.
//!
//! The order of variants and fields is the format: append, never reorder.

use serde::{Deserialize, Serialize};

use crate::bounded::{List, Text};

/// Tokens in one `Prompt` frame; fewer where the board's `max_frame` is small (5 bytes each at most).
pub const MAX_PROMPT_TOKENS_PER_FRAME: usize = if cfg!(feature = "small") { 24 } else { 128 };

/// Bytes of an image in one `Chunk` frame; fewer where the board's `max_frame` is small.
pub const MAX_CHUNK: usize = if cfg!(feature = "small") { 128 } else { 512 };

/// Records that a board sends without having heard that they arrived.
pub const MAX_UNHEARD: usize = 8;

/// Return addresses in one `Trace` frame.
pub const MAX_TRACE: usize = 12;

/// Stop tokens of a run.
pub const MAX_STOP_TOKENS: usize = 4;

/// Bits of [`BoardHello::isa`].
pub mod isa {
    /// Single-precision floating point in hardware.
    pub const FPU_SINGLE: u32 = 1;
    /// Double-precision floating point in hardware.
    pub const FPU_DOUBLE: u32 = 1 << 1;
    /// The engine's kernels use the Arm DSP extension.
    pub const DSP: u32 = 1 << 2;
}

/// Host to board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
// The prompt is the large one, and also the frequent one; there is no heap to box it in.
#[allow(clippy::large_enum_variant)]
pub enum ToBoard {
    /// Are you there? Answered with `Pong`, at any time but inside a timed interval.
    Ping {
        /// Comes back in the answer.
        nonce: u32,
    },
    /// Who are you? Answered with `Hello`, but not while a run goes.
    Hello,
    /// Which board image lies in your model region? Answered with `Image`, but not while a run goes. The
    /// first time the checksum is computed, which takes a moment.
    Image,
    /// Announces a run. Answered with `Accepted` or `Failed`.
    Run(RunRequest),
    /// A piece of the announced run's prompt. Answered with `Accepted` or `Failed`; one that is out of place
    /// changes nothing.
    Prompt {
        /// The announced run.
        run: u32,
        /// Index of the first of these tokens in the prompt.
        offset: u32,
        /// Token ids.
        tokens: List<u32, MAX_PROMPT_TOKENS_PER_FRAME>,
    },
    /// Starts the announced run, whose prompt is complete. Once it goes, or has ended, a `Go` is taken for a
    /// `Heard` of nothing.
    Go {
        /// The announced run.
        run: u32,
    },
    /// Acknowledges records of the run.
    Heard {
        /// The run.
        run: u32,
        /// All records below this number have arrived.
        next: u32,
        /// Whether to send again those from `next` on that were sent before.
        again: bool,
    },
    /// Ends the run after the token in work, one of the prompt or a generated one, with `Done` and
    /// `Stop::Cancelled`. No answer if there is no such run. A board without a receive buffer may lose it
    /// while it computes: repeat it until `Done`.
    Cancel {
        /// The run to end.
        run: u32,
    },
    /// Begins to put an image into the model region, or goes on with the same one where it was left.
    /// Answered with `Loading` or `LoadFailed`, but not while a run goes.
    Load {
        /// Length of the image in bytes.
        total_len: u32,
        /// CRC-32 of all of it, header included.
        crc32: u32,
    },
    /// A piece of that image. Answered with `Loading`; one that is out of place changes nothing.
    Chunk {
        /// Where it belongs, in bytes from the image's beginning; a multiple of 4.
        offset: u32,
        /// Its bytes; a multiple of 4 but in the last.
        data: List<u8, MAX_CHUNK>,
    },
    /// What is the CRC-32 of this piece of your own code and constants? Answered with `CodeSum`, but
    /// not while a run goes.
    CodeSum {
        /// Its first address.
        address: u64,
        /// Its length in bytes.
        len: u32,
    },
}

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    /// Number chosen by the host, on everything that belongs to the run.
    pub run: u32,
    /// Tokens in the prompt, BOS included; at least 1.
    pub prompt_len: u32,
    /// How many of them fill the context beforehand and are not counted; less than `prompt_len`.
    pub uncounted: u32,
    /// Tokens to generate at most.
    pub n_gen: u32,
    /// Context length in tokens.
    pub ctx: u32,
    /// Type of the KV cache.
    pub kv: Kv,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u64,
    /// Tokens that end the run.
    pub stop_tokens: List<u32, MAX_STOP_TOKENS>,
}

/// Type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kv {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers with scales.
    I8,
}

impl Kv {
    /// The type's bit in [`BoardHello::kv`].
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Board to host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)]
pub enum FromBoard {
    /// Answer to `Ping`.
    Pong {
        /// The ping's.
        nonce: u32,
        /// Drawn at boot from the time of the first byte: another value tells that the board was
        /// restarted in between. 0 if the board cannot tell.
        session: u32,
    },
    /// Answer to `Hello`.
    Hello(BoardHello),
    /// Answer to `Image`.
    Image(ImageInfo),
    /// The run is announced, and so much of its prompt is there.
    Accepted {
        /// The run.
        run: u32,
        /// Tokens of the prompt, from the first on without a gap; with all of them, send `Go`.
        received: u32,
        /// A piece came that lies behind them: one before it was lost.
        gap: bool,
    },
    /// What a run tells, in order. Those that are not acknowledged are kept for sending again: when
    /// [`MAX_UNHEARD`] are, the board waits for a `Heard`.
    Record {
        /// The run.
        run: u32,
        /// Its place among the records of the run, from 0.
        number: u32,
        /// What it tells.
        what: Record,
    },
    /// A request was refused.
    Failed {
        /// The run.
        run: u32,
        /// Why.
        code: FailCode,
    },
    /// The firmware panicked; the board answers nothing more until it is restarted.
    Panic {
        /// Beginning of the message.
        message: Text<96>,
    },
    /// The processor took a fault; the board answers nothing more until it is restarted.
    Fault {
        /// Address of the faulting instruction.
        pc: u64,
        /// Return address in the faulting context.
        lr: u64,
        /// Cause: CFSR on ARMv7-M and ARMv8-M, 0 on ARMv6-M, mcause on RISC-V.
        status: u64,
    },
    /// How far the image is, after a `Load` and every `Chunk`.
    Loading {
        /// CRC-32 of the image that is being loaded, as `Load` gave it.
        crc32: u32,
        /// Bytes that are there, from the first on without a gap. At the image's length it is whole, and
        /// its CRC-32 was found right.
        next: u32,
        /// A chunk came that lies behind `next`: one before it was lost.
        gap: bool,
    },
    /// The image cannot be loaded.
    LoadFailed {
        /// Why.
        code: LoadFailure,
    },
    /// Answer to `CodeSum`.
    CodeSum {
        /// The question's.
        address: u64,
        /// The question's.
        len: u32,
        /// Absent where the piece is not all code or constants.
        crc32: Option<u32>,
    },
    /// Comes before `Panic` or `Fault`: what looked like return addresses on the stack, the innermost first.
    Trace {
        /// Addresses in the code.
        addresses: List<u64, MAX_TRACE>,
    },
}

/// What runs on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardHello {
    /// [`crate::PROTOCOL`] of the firmware.
    pub protocol: u16,
    /// Board kind, as the catalogue names it.
    pub kind: Text<24>,
    /// Version of the firmware's source, by the builder's word; may be empty.
    pub build_id: Text<24>,
    /// Version of the firmware.
    pub firmware_version: Text<16>,
    /// Version of the engine in it.
    pub engine_version: Text<16>,
    /// Version of the board image that it reads.
    pub image_format: u16,
    /// Weight types that it computes with: bit n is the type of code n in the board image.
    pub dtypes: u32,
    /// KV cache types: [`Kv::bit`].
    pub kv: u32,
    /// What the code was built for: bits of [`isa`].
    pub isa: u32,
    /// Size of the arena in bytes.
    pub arena_bytes: u32,
    /// Size of the model region in bytes.
    pub model_region_bytes: u32,
    /// Longest prompt in tokens.
    pub max_prompt: u32,
    /// Longest frame in bytes on the wire, both ways.
    pub max_frame: u32,
    /// Ticks a second of the raw counter.
    pub tick_hz: u64,
    /// Ticks of an interval with nothing in it, as measured at boot.
    pub overhead_ticks: u32,
    /// Unit that the raw counter stands for.
    pub counter: Text<16>,
    /// Bytes of static data, buffers included, stack not.
    pub static_ram: u32,
    /// Bytes of code and constants.
    pub flash_code: u32,
    /// Bytes that the stack can grow to.
    pub stack_bytes: u32,
}

/// What lies in the model region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Whether there is a board image; all else is 0 if not.
    pub present: bool,
    /// Length of the image in bytes.
    pub total_len: u32,
    /// CRC-32 of the payload, as its header states.
    pub crc32: u32,
    /// Whether the payload has that CRC.
    pub checksum_ok: bool,
}

/// One thing that a run tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A timed interval has ended.
    Interval {
        /// What was done in it.
        work: Work,
        /// Raw ticks of the board's counter, the overhead of reading it included
        /// ([`BoardHello::overhead_ticks`]).
        ticks: u64,
    },
    /// A generated token.
    Token {
        /// Index among the generated tokens, from 0.
        index: u32,
        /// Token id.
        id: u32,
    },
    /// The run has ended by itself or was cancelled. The last record.
    Done {
        /// Tokens generated.
        generated: u32,
        /// Why it ended.
        stop: Stop,
        /// FNV-1a-64 over every computed logit vector.
        logits_hash: u64,
        /// Arena in use at most, in bytes.
        arena_used: u32,
        /// Of these, bytes of the KV cache.
        kv_bytes: u32,
        /// Deepest stack since boot, in bytes.
        stack_high_water: u32,
    },
    /// The run has failed. The last record.
    Failed {
        /// Why.
        code: FailCode,
    },
}

/// The work of a timed interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// From the image in memory to a session that is ready.
    Load,
    /// A pass over prompt tokens, up to the first generated token if it is the last pass.
    Prefill {
        /// Prompt tokens in the pass.
        tokens: u32,
    },
    /// A token after the first.
    Decode {
        /// Its index among the generated tokens, from 1.
        index: u32,
    },
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// All the tokens asked for.
    Length,
    /// A stop token.
    StopToken,
    /// The context is full.
    Context,
    /// Asked to.
    Cancelled,
}

/// Why a request was refused or a run failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailCode {
    /// There is no board image in the model region.
    NoImage,
    /// There is one, but it is damaged or contradicts itself.
    BadImage,
    /// The image is of another version than the engine reads.
    ImageVersion {
        /// The image's version.
        found: u32,
    },
    /// The model with this context and KV type needs more arena.
    ArenaTooSmall {
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// The prompt is longer than the board's buffer or the context.
    PromptTooLong {
        /// Tokens at most.
        max: u32,
    },
    /// The request contradicts itself or the model, or a part of it is missing.
    BadRequest,
    /// A logit was not finite: the run is invalid.
    NonFinite,
    /// Another run is going.
    Busy,
    /// There is no announced run of this number.
    UnknownRun,
    /// The engine gave up for a reason of its own.
    Engine {
        /// The engine's error code.
        code: u32,
    },
}

/// Why an image cannot be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadFailure {
    /// The firmware cannot write the model region of this board.
    ReadOnly,
    /// The model region is smaller.
    TooLong {
        /// Its size in bytes.
        max: u32,
    },
    /// A chunk came, and nothing is being loaded: the board was restarted in between.
    NotBegun,
    /// All bytes came, and their CRC-32 is another.
    Damaged,
    /// The memory did not keep what was written.
    Storage {
        /// Where, in bytes from the region's beginning.
        offset: u32,
    },
}
