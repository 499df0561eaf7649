//! What the HTTP/2 server refuses, read from what it sends.
//!
//! Neither tonic nor hyper hands out why a connection or a request was ended; the peer is told, though: RFC 9113 has
//! the reason in GOAWAY for a connection, and in RST_STREAM for one request. Pure: bytes in, refusals out.

use super::Refusal;

/// Length, type, flags and stream of a frame.
const HEAD: usize = 9;

/// The head of a frame, and of what follows as much as has a reason in it.
const LONGEST: usize = HEAD + 8;

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// Reads the frames of one connection, however they are cut into pieces.
#[derive(Debug, Default)]
pub(super) struct Sent {
    frame: [u8; LONGEST],
    have: usize,
    /// Bytes of a frame that says nothing of interest.
    skip: usize,
}

/// What a frame refused, and the name of the reason in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) refusal: Refusal,
    pub(super) reason: &'static str,
}

impl Sent {
    /// The next bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut told: impl FnMut(Told)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let want = self.wanted();
            let (missing, rest) = bytes.split_at(bytes.len().min(want - self.have));
            if let Some(place) = self.frame.get_mut(self.have..self.have + missing.len()) {
                place.copy_from_slice(missing);
            }
            (self.have, bytes) = (self.have + missing.len(), rest);
            // The head may say that more is wanted.
            if self.have == self.wanted() {
                self.skip = (HEAD + self.length()).saturating_sub(self.have);
                self.have = 0;
                if let Some(refused) = self.refused() {
                    told(refused);
                }
            }
        }
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.frame;
        u32::from_be_bytes([0, a, b, c]) as usize
    }

    fn kind(&self) -> u8 {
        let [_, _, _, kind, ..] = self.frame;
        kind
    }

    /// How much of the frame at hand has to be there; of one whose head is not, the head.
    fn wanted(&self) -> usize {
        match self.kind() {
            _ if self.have < HEAD => HEAD,
            RST_STREAM if self.length() >= 4 => HEAD + 4,
            GOAWAY if self.length() >= 8 => LONGEST,
            _ => HEAD,
        }
    }

    fn refused(&self) -> Option<Told> {
        let [.., a, b, c, d, e, f, g, h] = self.frame;
        let (connection, code) = match self.kind() {
            RST_STREAM if self.length() >= 4 => (false, u32::from_be_bytes([a, b, c, d])),
            GOAWAY if self.length() >= 8 => (true, u32::from_be_bytes([e, f, g, h])),
            _ => return None,
        };
        let reason = match code {
            1 => "PROTOCOL_ERROR",
            3 => "FLOW_CONTROL_ERROR",
            4 => "SETTINGS_TIMEOUT",
            6 => "FRAME_SIZE_ERROR",
            7 => "REFUSED_STREAM",
            9 => "COMPRESSION_ERROR",
            11 => "ENHANCE_YOUR_CALM",
            // A frame that crossed the end of its request is nobody's fault; that of a request that never was is.
            5 if connection => "STREAM_CLOSED",
            // An end as it should be, or a failure of our own.
            _ => return None,
        };
        let refusal = match (connection, reason) {
            (true, _) => Refusal::Protocol,
            (false, "REFUSED_STREAM") => Refusal::Requests,
            (false, _) => Refusal::Malformed,
        };
        Some(Told { refusal, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    fn goaway(code: u32, debug: &[u8]) -> Vec<u8> {
        frame(GOAWAY, &[&[0, 0, 0, 3], &code.to_be_bytes()[..], debug].concat())
    }

    fn told(pieces: &[&[u8]]) -> Vec<(Refusal, &'static str)> {
        let (mut sent, mut all) = (Sent::default(), Vec::new());
        for piece in pieces {
            sent.read(piece, |told| all.push((told.refusal, told.reason)));
        }
        all
    }

    #[test]
    fn an_end_for_a_reason_is_a_refusal_wherever_the_bytes_are_cut() {
        let bytes = [
            frame(4, &[0; 18]),
            // Nothing in the payload of another frame is taken for one.
            frame(0, &goaway(1, b"")),
            frame(RST_STREAM, &7_u32.to_be_bytes()),
            frame(1, &[]),
            frame(RST_STREAM, &1_u32.to_be_bytes()),
            goaway(6, b"too large"),
            frame(0, &[7; 300]),
            goaway(11, b""),
        ]
        .concat();
        let expected = [
            (Refusal::Requests, "REFUSED_STREAM"),
            (Refusal::Malformed, "PROTOCOL_ERROR"),
            (Refusal::Protocol, "FRAME_SIZE_ERROR"),
            (Refusal::Protocol, "ENHANCE_YOUR_CALM"),
        ];
        for size in 1..=bytes.len() {
            let pieces: Vec<_> = bytes.chunks(size).collect();
            assert_eq!(told(&pieces), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_end_as_it_should_be_is_none() {
        let bytes = [
            goaway(0, b""),
            goaway(2, b""),
            frame(RST_STREAM, &0_u32.to_be_bytes()),
            frame(RST_STREAM, &8_u32.to_be_bytes()),
            frame(RST_STREAM, &5_u32.to_be_bytes()),
            // No frame that a server of ours would send; nothing is read beyond their ends.
            frame(GOAWAY, &[0, 0, 0, 1]),
            frame(RST_STREAM, &[1]),
            goaway(0, b""),
        ]
        .concat();
        assert_eq!(told(&[&bytes]), []);
    }
}
