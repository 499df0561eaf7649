//! Messages and framing between host and board.
//!
//! # A frame
//!
//! ```text
//! version u8 | sequence u16 LE | postcard message | CRC-32 u32 LE     all of it COBS-coded, then 0x00
//! ```
//!
//! The CRC (ISO-HDLC, as in Ethernet and zip) covers everything before it. Sequence numbers count the
//! frames of one direction from 0 and wrap; a gap tells that frames were lost. No frame is longer
//! on the wire than [`MAX_FRAME`] bytes with its terminator, or than `max_frame` of the board's
//! [`BoardHello`] where that is less. A frame that is damaged, over-long or not understood is dropped
//! and counted by cause, and the reader is in step again at the next 0x00.
//!
//! # Opening
//!
//! The board says nothing unasked. A host that opens the line sends a single 0x00, which ends whatever
//! half frame the board may have seen, and a [`ToBoard::Ping`] with a fresh nonce every
//! [`PING_PERIOD_MS`] until a [`FromBoard::Pong`] carries that nonce. Then it drains: what arrives
//! before that `Pong` belongs to an earlier conversation. `Hello` tells what runs there, `Image` which
//! model lies in the board's model region.
//!
//! # Loading
//!
//! ```text
//! host   Load{total_len, crc32}   Chunk{offset, data}…
//! board  Loading{next}            Loading{next}…
//! ```
//!
//! `next` acknowledges all bytes before it. The host keeps a few chunks under way and goes back to `next`
//! when one was lost. A board that has some of the image answers a `Load` with where to go on; one that
//! has all of it, with its length.
//!
//! # A run
//!
//! ```text
//! host   Run{run, prompt_len, …}  Prompt{offset, tokens}…  Go{run}
//! board  Accepted{received: 0}    Accepted{received}…      Record{0, Interval{Load}}
//! board  Record{1, Interval{Prefill}} Record{2, Token{0}} Record{3, Interval{Decode{1}}} …  Record{n, Done}
//! host   Heard{next}…
//! ```
//!
//! A `Run` discards one that was announced and not started; while one is going it is answered with
//! [`FailCode::Busy`]. Records are numbered; a host that misses one asks with `Heard{next, again: true}`, and
//! repeats what it said last when nothing comes, so that a run survives any loss of frames. The board keeps
//! the last [`MAX_UNHEARD`] of them, and those of its last run until the next is announced. It writes to the
//! line between timed intervals only, and takes no interrupt inside one: `Heard` and `Cancel` are looked at
//! after every token. A `Hello` during a run is a new host that knows nothing of it, and cancels it.
//!
//! # Evolution
//!
//! [`PROTOCOL`] changes when an old peer could misunderstand. New variants are appended to the enums
//! and never reordered: postcard numbers them.

#![cfg_attr(not(test), no_std)]

mod bounded;
mod frame;
mod message;

pub use bounded::{List, Text, TooLong};
pub use frame::{Decoder, EncodeError, Encoder, Received, Stats};
pub use message::{
    BoardHello, FailCode, FromBoard, ImageInfo, Kv, LoadFailure, MAX_CHUNK, MAX_PROMPT_TOKENS_PER_FRAME,
    MAX_STOP_TOKENS, MAX_TRACE, MAX_UNHEARD, Record, RunRequest, Stop, ToBoard, Work, isa,
};

/// Version of the protocol: first byte of every frame.
pub const PROTOCOL: u8 = 2;

/// Longest frame in bytes on the wire, terminator included.
pub const MAX_FRAME: usize = 1_100;

/// Longest frame of the smallest boards.
pub const MIN_MAX_FRAME: usize = 160;

/// Milliseconds between the pings of an opening host.
pub const PING_PERIOD_MS: u64 = 300;
