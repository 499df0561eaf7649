//! What a line can do to frames, done to real ones of both directions: nothing that was not sent is ever
//! accepted.
//!
//! What may be hoped for: a CRC-32 finds every damage that lies within four bytes of what it covers, and
//! misses one in 2^32 of all others. It covers the frame before COBS. A damaged data byte stays one byte
//! there, so that what changes up to four neighbouring data bytes, none to 0x00, is found for certain; a
//! damaged COBS code byte moves zeros about, up to 254 bytes apart, and only the one in 2^32 holds. Ten
//! million corruptions thus miss with a chance of at most one in 400.

use std::fmt::Debug;

use edgeprof_link::{Decoder, Encoder, MAX_FRAME};
use serde::{Serialize, de::DeserializeOwned};

use super::samples;

/// Corruptions of each direction.
const ROUNDS: u32 = 5_000_000;

/// Frames that a corruption can mix.
const WINDOW: usize = 3;

/// splitmix64: the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    /// A stretch of at most `longest` of `len` bytes.
    fn span(&mut self, len: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        start..(start + 1 + self.below(longest)).min(len)
    }
}

/// A frame as it was sent.
struct Sent<M> {
    sequence: u16,
    message: M,
    wire: Vec<u8>,
}

/// Every sample, encoded under several sequence numbers: some have zeros and some have not.
fn sent<M: Serialize + Clone>(samples: &[M]) -> Vec<Sent<M>> {
    let mut encoder = Encoder::new();
    let mut all = Vec::new();
    let mut sequence = 0_u16;
    for round in 0..300 {
        for message in samples {
            let mut out = [0; MAX_FRAME];
            let len = encoder.encode(message, &mut out).unwrap();
            if round % 50 == 0 || round == 299 {
                all.push(Sent { sequence, message: message.clone(), wire: out[..len].to_vec() });
            }
            sequence = sequence.wrapping_add(1);
        }
    }
    all
}

/// Does one thing to `line`, which holds whole frames.
fn corrupt(line: &mut Vec<u8>, random: &mut Random) {
    let len = line.len();
    let at = random.below(len);
    match random.below(12) {
        0 => line[at] ^= 1 << random.below(8),
        1 => line[at] = random.next() as u8,
        // Bursts.
        2 => {
            for byte in &mut line[random.span(len, 8)] {
                *byte = random.next() as u8;
            }
        }
        3 => {
            for _ in 0..2 + random.below(4) {
                line[random.below(len)] ^= 1 << random.below(8);
            }
        }
        4 => drop(line.drain(random.span(len, 8))),
        5 => line.truncate(at),
        6 => {
            let noise: Vec<u8> = (0..=random.below(8)).map(|_| random.next() as u8).collect();
            drop(line.splice(at..at, noise));
        }
        7 => {
            let copy = line[random.span(len, 16)].to_vec();
            drop(line.splice(at..at, copy));
        }
        // A stretch moved elsewhere.
        8 => {
            let moved: Vec<u8> = line.drain(random.span(len, 16)).collect();
            let at = random.below(line.len() + 1);
            drop(line.splice(at..at, moved));
        }
        // Frames merged into one: their ends are lost, or take any value.
        9 => line.retain(|byte| *byte != 0),
        10 => {
            let value = random.next() as u8;
            for byte in line.iter_mut().filter(|byte| **byte == 0) {
                *byte = value;
            }
        }
        // The front of one frame, the back of another.
        _ => {
            let until = random.below(len);
            drop(line.drain(at.min(until)..at.max(until)));
        }
    }
}

fn none_is_accepted<M: Serialize + DeserializeOwned + Clone + PartialEq + Debug>(samples: &[M], seed: u64) {
    let frames = sent(samples);
    let mut random = Random(seed);
    let mut line = Vec::new();
    let (mut dropped, mut untouched) = (0_u64, 0_u64);
    // One decoder for all: what one corruption leaves behind must not help the next.
    let mut decoder = Decoder::<M>::new();
    for round in 0..ROUNDS {
        let first = random.below(frames.len());
        let count = 1 + random.below(WINDOW);
        let window = || (0..count).map(|i| &frames[(first + i * 7) % frames.len()]);
        line.clear();
        window().for_each(|frame| line.extend_from_slice(&frame.wire));
        corrupt(&mut line, &mut random);
        line.push(0);
        decoder.feed(&line, |received| {
            untouched += 1;
            assert!(
                window().any(|f| f.sequence == received.sequence && f.message == received.message),
                "round {round}: {received:?} was never sent; the line was {line:02x?}"
            );
        });
        dropped = u64::from(decoder.stats().dropped());
    }
    assert!(dropped > u64::from(ROUNDS) / 2, "{dropped} dropped, {untouched} arrived");
}

#[test]
fn five_million_corruptions_of_frames_from_the_board_make_no_other_message() {
    none_is_accepted(&samples::from_board(), 0x5eed);
}

#[test]
fn five_million_corruptions_of_frames_to_the_board_make_no_other_message() {
    none_is_accepted(&samples::to_board(), 0xb0a2d);
}

/// Not drawn but all of them: each bit, each pair of bits of the short ones, each value of each byte, each
/// cut, each byte lost, each byte twice.
fn every_small_damage_is_found<M: Serialize + DeserializeOwned + Clone + PartialEq + Debug>(samples: &[M]) {
    let try_line = |line: &[u8], message: &M| {
        let mut decoder = Decoder::<M>::new();
        decoder.feed(line, |received| assert_eq!(&received.message, message, "{line:02x?}"));
        decoder.feed(&[0], |received| assert_eq!(&received.message, message, "{line:02x?}"));
        decoder.stats().messages
    };
    for Sent { message, wire, .. } in sent(samples) {
        let whole = try_line(&wire, &message);
        assert_eq!(whole, 1);
        let mut line = wire.clone();
        for at in 0..wire.len() - 1 {
            for value in (0..=u8::MAX).filter(|value| *value != wire[at]) {
                line[at] = value;
                assert_eq!(try_line(&line, &message), 0, "byte {at} as {value:#04x} in {wire:02x?}");
            }
            line[at] = wire[at];
            assert_eq!(try_line(&wire[..at], &message), 0, "cut at {at}");
            let without = [&wire[..at], &wire[at + 1..]].concat();
            assert_eq!(try_line(&without, &message), 0, "without byte {at}");
            let twice = [&wire[..=at], &wire[at..]].concat();
            assert_eq!(try_line(&twice, &message), 0, "byte {at} twice");
        }
        let bits = if wire.len() <= 24 { (wire.len() - 1) * 8 } else { 0 };
        for a in 0..bits {
            for b in a + 1..bits {
                line[a / 8] ^= 1 << (a % 8);
                line[b / 8] ^= 1 << (b % 8);
                assert_eq!(try_line(&line, &message), 0, "bits {a} and {b} of {wire:02x?}");
                line[a / 8] = wire[a / 8];
                line[b / 8] = wire[b / 8];
            }
        }
    }
}

#[test]
fn every_small_damage_to_a_frame_from_the_board_is_found() {
    every_small_damage_is_found(&samples::from_board());
}

#[test]
fn every_small_damage_to_a_frame_to_the_board_is_found() {
    every_small_damage_is_found(&samples::to_board());
}
