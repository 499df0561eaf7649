//! A stream of bytes that says whether it is whole: pieces with their length before them, then an end or an error.

use std::io::{self, Read, Write};

/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// In place of a length: what follows says why there is no more.
const FAILED: u32 = u32::MAX;

/// Longest reason that is read.
const REASON: u64 = 4096;

/// Cuts what is written into pieces.
#[derive(Debug)]
pub(super) struct Pieces<W> {
    to: W,
    piece: Vec<u8>,
}

impl<W: Write> Pieces<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, piece: Vec::with_capacity(PIECE) }
    }

    fn send(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            let length = u32::try_from(self.piece.len()).unwrap_or(FAILED - 1);
            self.to.write_all(&length.to_be_bytes())?;
            self.to.write_all(&self.piece)?;
            self.piece.clear();
        }
        Ok(())
    }

    /// Says that this is all.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.send()?;
        self.to.write_all(&0_u32.to_be_bytes())?;
        self.to.flush()
    }

    /// Says why there is no more. What was not sent yet is not sent.
    pub(super) fn fail(mut self, reason: &str) -> io::Result<()> {
        self.to.write_all(&FAILED.to_be_bytes())?;
        self.to.write_all(reason.as_bytes())?;
        self.to.flush()
    }
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After so many bytes, all of them.
    Whole(u64),
    /// The other side says why.
    Failed(String),
}

/// Puts the pieces together again.
pub(super) fn collect(mut from: impl Read, to: &mut impl Write) -> io::Result<End> {
    let mut bytes = 0;
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        match u32::from_be_bytes(length) {
            0 => return Ok(End::Whole(bytes)),
            FAILED => {
                let mut reason = Vec::new();
                from.take(REASON).read_to_end(&mut reason)?;
                return Ok(End::Failed(String::from_utf8_lossy(&reason).into_owned()));
            }
            length => {
                let copied = io::copy(&mut from.by_ref().take(u64::from(length)), to)?;
                if copied < u64::from(length) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                bytes += copied;
            }
        }
    }
}
