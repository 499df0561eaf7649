//! Loading an image over the line.

use edgeprof_engine::image::crc32;
use edgeprof_link::{FromBoard, LoadFailure};

use crate::board::Memory;

/// How far an image is loaded. It outlives the host's conversation: a host that comes back goes on where
/// it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loader {
    work: Option<Work>,
}

#[derive(Debug, Clone, Copy)]
struct Work {
    total: u32,
    crc: u32,
    /// Bytes that are there, without a gap.
    next: u32,
}

impl Loader {
    pub(crate) const fn new() -> Self {
        Self { work: None }
    }

    /// Answers a `Load`: with the place to go on at, or to begin.
    pub(crate) fn begin(&mut self, memory: &mut impl Memory, total: u32, crc: u32) -> FromBoard {
        if let Some(work) = self.work.filter(|work| (work.total, work.crc) == (total, crc)) {
            return work.state(false);
        }
        self.work = None;
        let region = memory.model();
        let next = match region.get(..total as usize) {
            None => {
                let max = u32::try_from(region.len()).unwrap_or(u32::MAX);
                return FromBoard::LoadFailed { code: LoadFailure::TooLong { max } };
            }
            // Of an earlier life of this firmware, or put there by somebody else.
            Some(there) if crc32(there) == crc => total,
            Some(_) => match memory.clear(total as usize) {
                Ok(()) => 0,
                Err(code) => return FromBoard::LoadFailed { code },
            },
        };
        self.work.insert(Work { total, crc, next }).state(false)
    }

    /// Takes a chunk if it is the next one, and answers which is.
    pub(crate) fn take(&mut self, memory: &mut impl Memory, offset: u32, data: &[u8]) -> FromBoard {
        let Some(work) = &mut self.work else {
            return FromBoard::LoadFailed { code: LoadFailure::NotBegun };
        };
        let end = u64::from(offset) + data.len() as u64;
        if offset != work.next || end > u64::from(work.total) {
            return work.state(offset > work.next);
        }
        let stored = memory.store(offset as usize, data);
        work.next += data.len() as u32;
        let checked = stored.and_then(|()| {
            let whole = work.next == work.total;
            if whole && memory.model().get(..work.total as usize).map(crc32) != Some(work.crc) {
                return Err(LoadFailure::Damaged);
            }
            Ok(work.state(false))
        });
        checked.unwrap_or_else(|code| {
            self.work = None;
            FromBoard::LoadFailed { code }
        })
    }
}

impl Work {
    fn state(&self, gap: bool) -> FromBoard {
        FromBoard::Loading { crc32: self.crc, next: self.next, gap }
    }
}
