//! Bounded reading: no length from a file is trusted before it was compared with what is left.

use std::io::Read;

use crate::ModelError;

/// What everything in a file that is not weights may take in memory, in bytes: as it is in the file, and
/// decoded.
pub(crate) const HEADER_LIMIT: u64 = 256 << 20;

/// A reader that knows how long its file is, where it stands and how much memory is left.
pub(crate) struct Source<R> {
    inner: R,
    /// Bytes read so far.
    pub(crate) pos: u64,
    /// Length of the file.
    pub(crate) len: u64,
    budget: u64,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(inner: R, len: u64) -> Self {
        Self { inner, pos: 0, len, budget: HEADER_LIMIT }
    }

    pub(crate) fn left(&self) -> u64 {
        self.len.saturating_sub(self.pos)
    }

    /// Accounts for `bytes` of memory that parsed data will take. What is read is accounted for by itself,
    /// as a part of the file.
    pub(crate) fn charge(&mut self, bytes: u64, what: &str) -> Result<(), ModelError> {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| ModelError::TooLarge {
            what: format!("the GGUF header ({what})"),
            limit: HEADER_LIMIT,
        })?;
        Ok(())
    }

    /// Fails unless `n` more bytes are there.
    pub(crate) fn need(&self, n: u64, what: &str) -> Result<(), ModelError> {
        if n > self.left() { Err(self.short(n, what)) } else { Ok(()) }
    }

    fn short(&self, n: u64, what: &str) -> ModelError {
        ModelError::Truncated {
            format: "gguf",
            what: what.to_owned(),
            needed: self.pos.saturating_add(n),
            have: self.len,
        }
    }

    fn fill(&mut self, buf: &mut [u8], what: &str) -> Result<(), ModelError> {
        let n = buf.len() as u64;
        self.need(n, what)?;
        self.charge(n, what)?;
        // A file that shrank since its length was taken ends up here.
        self.inner.read_exact(buf).map_err(|_| self.short(n, what))?;
        self.pos += n;
        Ok(())
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ModelError> {
        let mut buf = [0; N];
        self.fill(&mut buf, what)?;
        Ok(buf)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Appends `n` bytes to `out`, after charging for them.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, n: u64, what: &str) -> Result<(), ModelError> {
        self.need(n, what)?;
        self.charge(2 * n, what)?;
        let start = out.len();
        // need() held n to the file's length and charge() to the limit, so it fits a usize.
        out.resize(start + n as usize, 0);
        let end = &mut out[start..];
        self.inner.read_exact(end).map_err(|_| ModelError::Truncated {
            format: "gguf",
            what: what.to_owned(),
            needed: self.pos.saturating_add(n),
            have: self.len,
        })?;
        self.pos += n;
        Ok(())
    }

    /// A string: its length as u64, then UTF-8.
    pub(crate) fn string(&mut self, max: u64, what: &str) -> Result<String, ModelError> {
        let n = self.u64(what)?;
        self.need(n, what)?;
        if n > max {
            return Err(ModelError::invalid("gguf", format!("{what} has {n} bytes")));
        }
        let mut bytes = Vec::new();
        self.append(&mut bytes, n, what)?;
        String::from_utf8(bytes).map_err(|_| ModelError::invalid("gguf", format!("{what} is not UTF-8")))
    }

    /// Reads `n` bytes and forgets them.
    pub(crate) fn skip(&mut self, mut n: u64, what: &str) -> Result<(), ModelError> {
        self.need(n, what)?;
        // At once: walking over gigabytes would take its time.
        if n > self.budget {
            return self.charge(n, what);
        }
        let mut sink = [0; 4096];
        while n > 0 {
            let part = n.min(sink.len() as u64);
            self.fill(&mut sink[..part as usize], what)?;
            n -= part;
        }
        Ok(())
    }
}
