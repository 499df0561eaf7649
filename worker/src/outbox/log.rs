//! The outbox on disk: records appended to segments.
//!
//! A record is its length (u32 LE) and the CRC-32 of its body (u32 LE), then the body: a byte for its sort, and
//! the message. A segment goes once nothing in it is waited for and no older one is left.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crc::{CRC_32_ISO_HDLC, Crc};
use edgeprof_proto::v1;
use prost::Message;
use tracing::warn;

use super::{Key, key};
use crate::{disk, spec};

/// A segment of more bytes is not appended to.
const SEGMENT: u64 = 4 << 20;

/// More segments than this, and the oldest is emptied: one result that is waited for long keeps all later ones.
const SEGMENTS: usize = 4;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Sorts of records.
pub const PUT: u8 = 1;
const GONE: u8 = 2;

/// What happened to the outbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A result came.
    Put(Key, Box<v1::Result>),
    /// Nobody waits for it any more.
    Gone(Key),
}

/// Puts the frame of a record around a message.
pub fn frame(sort: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + message.len());
    bytes.extend([0; 8]);
    bytes.push(sort);
    bytes.extend_from_slice(message);
    let body = bytes.get(8..).unwrap_or_default();
    let head =
        [u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes(), CRC.checksum(body).to_le_bytes()];
    bytes.splice(..8, head.concat());
    bytes
}

/// The records at the beginning of a segment that are whole, and how many bytes they take.
pub fn decode(bytes: &[u8]) -> (Vec<Record>, usize) {
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some((record, len)) = bytes.get(at..).and_then(first) {
        records.push(record);
        at += len;
    }
    (records, at)
}

fn first(bytes: &[u8]) -> Option<(Record, usize)> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    let body = rest.get(..len)?;
    if CRC.checksum(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let record = match body.split_first()? {
        (&PUT, message) => {
            let result = v1::Result::decode(message).ok()?;
            Record::Put(key(&result)?, Box::new(result))
        }
        (&GONE, message) => {
            let ack = v1::Ack::decode(message).ok()?;
            Record::Gone((ack.task_id.parse().ok()?, spec::token(ack.lease.as_ref()?)))
        }
        _ => return None,
    };
    Some((record, len + 8))
}

/// One file.
#[derive(Debug)]
struct Segment {
    number: u64,
    /// Results in it that are waited for.
    live: usize,
}

/// The files.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    /// Oldest first; the last is written to while `file` is there.
    segments: VecDeque<Segment>,
    file: Option<Writer>,
    next: u64,
    /// A sync failed that nobody has heard of.
    failed: bool,
}

#[derive(Debug)]
struct Writer {
    file: File,
    len: u64,
    /// The folder does not durably have it yet.
    fresh: bool,
}

impl Log {
    /// Reads all segments. What is torn is set aside. Each record comes with the number of its segment.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Vec<(u64, Record)>)> {
        let mut numbers = Vec::new();
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            let log = path.extension().is_some_and(|e| e == "log");
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            numbers.extend(number.filter(|_| log));
        }
        numbers.sort_unstable();
        let next = numbers.last().map_or(1, |last| last.saturating_add(1));
        let mut log =
            Self { folder: folder.to_owned(), segments: VecDeque::new(), file: None, next, failed: false };
        let mut all = Vec::new();
        for number in numbers {
            let path = log.path(number);
            let bytes = fs::read(&path)?;
            let (records, whole) = decode(&bytes);
            let file = OpenOptions::new().write(true).open(&path)?;
            if let Some(torn) = bytes.get(whole..).filter(|torn| !torn.is_empty()) {
                warn!(file = %path.display(), bytes = torn.len(), "kept results are damaged and set aside");
                fs::write(path.with_extension("damaged"), torn)?;
                file.set_len(whole as u64)?;
            }
            // Written by a process that may have been killed before it came to that.
            file.sync_all()?;
            log.segments.push_back(Segment { number, live: 0 });
            all.extend(records.into_iter().map(|record| (number, record)));
        }
        Ok((log, all))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:012}.log"))
    }

    /// Appends a result and returns its segment.
    pub(super) fn put(&mut self, result: &v1::Result) -> io::Result<u64> {
        self.append(&frame(PUT, &result.encode_to_vec()))?;
        let last = self.segments.back_mut().ok_or_else(|| io::Error::other("no segment"))?;
        last.live += 1;
        Ok(last.number)
    }

    /// Notes that nobody waits for a result any more.
    pub(super) fn gone(&mut self, (task, token): &Key) -> io::Result<()> {
        let ack = v1::Ack { task_id: task.to_string(), lease: Some(spec::lease(*token)), duplicate: false };
        self.append(&frame(GONE, &ack.encode_to_vec()))
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|writer| writer.len >= SEGMENT) {
            // What is still waited for in it has to be as durable as if it were written on.
            if let Err(error) = self.sync() {
                self.failed = true;
                return Err(error);
            }
            self.file = None;
            self.trim();
        }
        let writer = match &mut self.file {
            Some(writer) => writer,
            None => {
                let number = self.next;
                let file = OpenOptions::new().append(true).create_new(true).open(self.path(number))?;
                self.next += 1;
                self.segments.push_back(Segment { number, live: 0 });
                self.file.insert(Writer { file, len: 0, fresh: true })
            }
        };
        if let Err(error) = writer.file.write_all(record) {
            // Half a record would hide what is written behind it.
            if writer.file.set_len(writer.len).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        writer.len += record.len() as u64;
        Ok(())
    }

    /// Makes durable what was appended.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.failed) {
            self.file = None;
            return Err(io::Error::other("an earlier segment could not be synced"));
        }
        let Some(writer) = &mut self.file else { return Ok(()) };
        let synced = writer.file.sync_data().and_then(|()| match writer.fresh {
            true => File::open(&self.folder)?.sync_all(),
            false => Ok(()),
        });
        match synced {
            Ok(()) => writer.fresh = false,
            // The system may have dropped what it could not write: nothing is built on this file.
            Err(_) => self.file = None,
        }
        synced
    }

    /// The oldest segment where there are so many that it should be emptied.
    pub(super) fn crowded(&self) -> Option<u64> {
        (self.segments.len() > SEGMENTS).then(|| self.segments.front().map(|oldest| oldest.number))?
    }

    /// Counts a result in a segment.
    pub(super) fn live(&mut self, number: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            segment.live += 1;
        }
    }

    /// Counts a result out, and removes the segments that nobody needs.
    pub(super) fn release(&mut self, number: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            segment.live = segment.live.saturating_sub(1);
        }
        self.trim();
    }

    /// Oldest first: what a segment says is gone may lie in an older one.
    pub(super) fn trim(&mut self) {
        let keep = usize::from(self.file.is_some());
        while self.segments.len() > keep && self.segments.front().is_some_and(|oldest| oldest.live == 0) {
            let Some(oldest) = self.segments.pop_front() else { return };
            if let Err(error) = disk::remove(&self.path(oldest.number)) {
                // Its results come once more after a restart, and are acknowledged as duplicates.
                warn!(%error, segment = oldest.number, "acknowledged results cannot be removed");
            }
        }
    }
}
