//! The line, spoken in messages.

use edgeprof_link::{Decoder, Encoder, FromBoard, MIN_MAX_FRAME, ToBoard};

use crate::board::Line;

/// Reads that find nothing before a half frame is left alone. An emulator delivers the bytes of a
/// frame one by one from another thread; giving up at the first gap would take a token's time a byte.
const PATIENCE: u32 = 20_000;

/// Looks for a further byte of a frame before the core sleeps, and turns of an empty loop between two.
///
/// To wake a sleeping core costs an emulator's host more than a byte. Between the looks it must be let alone:
/// each is a visit to the device, which keeps the emulator from putting the next byte there.
const LOOKS: u32 = 32;
const BETWEEN: u32 = 1_000;

/// Line, decoder and encoder. `N` is the longest frame.
pub(crate) struct Port<L, const N: usize> {
    line: L,
    decoder: Decoder<ToBoard, N>,
    encoder: Encoder,
    out: [u8; N],
}

impl<L: Line, const N: usize> Port<L, N> {
    pub(crate) const fn new(line: L) -> Self {
        Self { line, decoder: Decoder::new(), encoder: Encoder::new(), out: [0; N] }
    }

    /// Waits for the next message.
    #[inline(never)]
    pub(crate) fn receive(&mut self) -> ToBoard {
        let mut looks = 0;
        loop {
            while let Some(byte) = self.line.read() {
                if let Some(received) = self.decoder.push(byte) {
                    return received.message;
                }
                looks = LOOKS;
            }
            if looks == 0 {
                self.line.wait();
                continue;
            }
            looks -= 1;
            for _ in 0..BETWEEN {
                core::hint::black_box(());
            }
        }
    }

    /// A message if one is coming in; does not wait if the line is silent.
    pub(crate) fn poll(&mut self) -> Option<ToBoard> {
        let mut patience = 0;
        loop {
            match self.line.read() {
                Some(byte) => {
                    if let Some(received) = self.decoder.push(byte) {
                        return Some(received.message);
                    }
                    patience = PATIENCE;
                }
                None if patience == 0 => return None,
                None => patience -= 1,
            }
        }
    }

    pub(crate) fn send(&mut self, message: &FromBoard) {
        // Every message of ours fits the smallest frame, which the link's tests check; should one
        // not, its sequence number is not used up and nothing is sent.
        if let Ok(len) = self.encoder.encode(message, &mut self.out) {
            self.line.write(self.out.get(..len).unwrap_or_default());
        }
    }
}

/// Sends the last messages of a board that is about to stop, on a line whose state is unknown: first a 0x00,
/// so that the host drops the half frame before it.
pub fn send_last(line: &mut impl Line, messages: &[FromBoard]) {
    let mut out = [0; MIN_MAX_FRAME];
    let mut encoder = Encoder::new();
    line.write(&[0]);
    for message in messages {
        if let Ok(len) = encoder.encode(message, &mut out) {
            line.write(out.get(..len).unwrap_or_default());
        }
    }
}
