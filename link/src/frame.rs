//! Frames: COBS, CRC-32, sequence numbers.

use core::fmt;
use core::marker::PhantomData;

use cobs::{CobsEncoder, DecodeResult, DecoderState};
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{MAX_FRAME, PROTOCOL};

static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// Version and sequence number.
const HEADER: usize = 3;
const TRAILER: usize = 4;

/// Why a message was not encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// The frame is longer than the buffer it was to go into.
    TooLong,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the frame is longer than its buffer")
    }
}

impl core::error::Error for EncodeError {}

/// Numbers and encodes the frames of one direction.
#[derive(Debug)]
pub struct Encoder {
    version: u8,
    sequence: u16,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder that starts at sequence number 0.
    #[must_use]
    pub const fn new() -> Self {
        Self::of_version(PROTOCOL)
    }

    /// One that speaks another version of the protocol. Only a [`ToBoard::Ping`](crate::ToBoard::Ping) is the same
    /// in all of them: with it an old peer is told from none.
    #[must_use]
    pub const fn of_version(version: u8) -> Self {
        Self { version, sequence: 0 }
    }

    /// Writes `message` as a frame to the beginning of `out` and returns its length with the
    /// terminator. The length of `out` is the limit: pass what the peer's `max_frame` allows.
    ///
    /// # Errors
    /// If the frame does not fit; the number is then not used up.
    pub fn encode<M: Serialize>(&mut self, message: &M, out: &mut [u8]) -> Result<usize, EncodeError> {
        let limit = out.len();
        let mut sink = Sink { cobs: CobsEncoder::new(out), crc: CRC.digest() };
        let [low, high] = self.sequence.to_le_bytes();
        sink.put(&[self.version, low, high])?;
        let sink = postcard::serialize_with_flavor(message, sink).map_err(|_| EncodeError::TooLong)?;
        let Sink { mut cobs, crc } = sink;
        cobs.push(&crc.finalize().to_le_bytes()).map_err(|_| EncodeError::TooLong)?;
        let end = cobs.finalize();
        if end >= limit {
            return Err(EncodeError::TooLong);
        }
        *out.get_mut(end).ok_or(EncodeError::TooLong)? = 0;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(end + 1)
    }
}

/// Where postcard writes to.
struct Sink<'a> {
    cobs: CobsEncoder<'a>,
    crc: Digest<'static, u32, Table<1>>,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.crc.update(bytes);
        self.cobs.push(bytes).map_err(|_| EncodeError::TooLong)
    }
}

impl postcard::ser_flavors::Flavor for Sink<'_> {
    type Output = Self;
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.put(bytes).map_err(|_| postcard::Error::SerializeBufferFull)
    }
    fn finalize(self) -> postcard::Result<Self> {
        Ok(self)
    }
}

/// A message that arrived whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Received<M> {
    /// Sequence number of its frame.
    pub sequence: u16,
    /// The message.
    pub message: M,
}

/// What a decoder has seen. Counters stop at their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Messages handed on.
    pub messages: u32,
    /// Dropped: broken COBS, mostly a frame whose beginning or end was lost.
    pub broken: u32,
    /// Dropped: longer than the buffer.
    pub overlong: u32,
    /// Dropped: too short for header and CRC.
    pub short: u32,
    /// Dropped: wrong CRC.
    pub crc: u32,
    /// Dropped: another protocol version.
    pub version: u32,
    /// Dropped: a whole frame whose body is no message that we know.
    pub unknown: u32,
    /// Sequence numbers missing between messages handed on.
    pub lost: u32,
}

impl Stats {
    /// Frames dropped, for all causes.
    #[must_use]
    pub const fn dropped(&self) -> u32 {
        self.broken
            .saturating_add(self.overlong)
            .saturating_add(self.short)
            .saturating_add(self.crc)
            .saturating_add(self.version)
            .saturating_add(self.unknown)
    }
}

/// Finds the messages in a stream of bytes, whatever else is in it. `N` is the longest frame in
/// bytes on the wire.
pub struct Decoder<M, const N: usize = MAX_FRAME> {
    state: DecoderState,
    /// Decoded bytes of the frame in work: the first `len` of `body`, `len` at most N.
    body: [u8; N],
    len: usize,
    /// Bytes of it on the wire so far.
    wire: usize,
    /// The frame in work is lost, for a cause that is counted already: skip to its 0x00.
    skip: bool,
    next: Option<u16>,
    stats: Stats,
    message: PhantomData<fn() -> M>,
}

impl<M, const N: usize> fmt::Debug for Decoder<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl<M: DeserializeOwned, const N: usize> Default for Decoder<M, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: DeserializeOwned, const N: usize> Decoder<M, N> {
    /// A decoder at the start of a frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: DecoderState::Idle,
            body: [0; N],
            len: 0,
            wire: 0,
            skip: false,
            next: None,
            stats: Stats {
                messages: 0,
                broken: 0,
                overlong: 0,
                short: 0,
                crc: 0,
                version: 0,
                unknown: 0,
                lost: 0,
            },
            message: PhantomData,
        }
    }

    /// What was seen so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Takes a byte; a message if it was the last of one.
    pub fn push(&mut self, byte: u8) -> Option<Received<M>> {
        if byte == 0 {
            return self.end();
        }
        self.wire = self.wire.saturating_add(1);
        if self.skip {
            return None;
        }
        if self.wire >= N {
            // No room is left for the terminator.
            self.drop_frame(|stats| &mut stats.overlong);
            return None;
        }
        match self.state.feed(byte) {
            Ok(DecodeResult::DataContinue(decoded)) => match self.body.get_mut(self.len) {
                Some(place) => {
                    *place = decoded;
                    self.len += 1;
                }
                None => self.drop_frame(|stats| &mut stats.overlong),
            },
            Ok(_) => {}
            Err(_) => self.drop_frame(|stats| &mut stats.broken),
        }
        None
    }

    /// Takes bytes from the front of `bytes` up to the end of the first message in them. Call it until
    /// it returns `None`; then all are taken.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Received<M>> {
        while let Some((first, rest)) = bytes.split_first() {
            *bytes = rest;
            let received = self.push(*first);
            if received.is_some() {
                return received;
            }
        }
        None
    }

    /// Takes all of `bytes` and hands every message in them to `sink`.
    pub fn feed(&mut self, mut bytes: &[u8], mut sink: impl FnMut(Received<M>)) {
        while let Some(received) = self.next(&mut bytes) {
            sink(received);
        }
    }

    fn drop_frame(&mut self, cause: impl Fn(&mut Stats) -> &mut u32) {
        let count = cause(&mut self.stats);
        *count = count.saturating_add(1);
        self.skip = true;
    }

    /// At 0x00.
    fn end(&mut self) -> Option<Received<M>> {
        let complete = matches!(self.state.feed(0), Ok(DecodeResult::DataComplete));
        let (len, wire, skip) = (self.len, self.wire, self.skip);
        self.state = DecoderState::Idle;
        self.len = 0;
        self.wire = 0;
        self.skip = false;
        if wire == 0 || skip {
            return None;
        }
        let received = if complete { self.check(len) } else { Err(Cause::Broken) };
        match received {
            Ok(received) => {
                let gap = self.next.map_or(0, |next| received.sequence.wrapping_sub(next));
                // A jump backwards is a peer that started anew, not 65,000 lost frames.
                if gap < u16::MAX / 2 {
                    self.stats.lost = self.stats.lost.saturating_add(u32::from(gap));
                }
                self.next = Some(received.sequence.wrapping_add(1));
                self.stats.messages = self.stats.messages.saturating_add(1);
                Some(received)
            }
            Err(cause) => {
                let stats = &mut self.stats;
                let count = match cause {
                    Cause::Broken => &mut stats.broken,
                    Cause::Short => &mut stats.short,
                    Cause::Crc => &mut stats.crc,
                    Cause::Version => &mut stats.version,
                    Cause::Unknown => &mut stats.unknown,
                };
                *count = count.saturating_add(1);
                None
            }
        }
    }

    fn check(&self, len: usize) -> Result<Received<M>, Cause> {
        let frame = self.body.get(..len).ok_or(Cause::Broken)?;
        let (frame, sum) = frame.split_last_chunk::<TRAILER>().ok_or(Cause::Short)?;
        let (header, body) = frame.split_first_chunk::<HEADER>().ok_or(Cause::Short)?;
        if CRC.checksum(frame) != u32::from_le_bytes(*sum) {
            return Err(Cause::Crc);
        }
        let [version, low, high] = *header;
        if version != PROTOCOL {
            return Err(Cause::Version);
        }
        match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(Received { sequence: u16::from_le_bytes([low, high]), message }),
            _ => Err(Cause::Unknown),
        }
    }
}

enum Cause {
    Broken,
    Short,
    Crc,
    Version,
    Unknown,
}
