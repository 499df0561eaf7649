//! Which blobs there are, who needs them, and which go when room is wanted. Pure.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use edgeprof_common::Digest;

/// A blob that was uploaded or asked for is spared so long: the job that it is for has yet to be submitted.
const SPARED: Duration = Duration::from_secs(600);

/// The blobs of one folder.
#[derive(Debug)]
pub(super) struct Index {
    quota: u64,
    blobs: HashMap<Digest, Known>,
    /// How often each is needed, whether it is here or not.
    holds: HashMap<Digest, u32>,
    /// Bytes announced by uploads that are under way.
    reserved: u64,
}

#[derive(Debug)]
struct Known {
    size: u64,
    used: SystemTime,
    spared: Option<SystemTime>,
}

/// There is no room, and nothing may go that would make enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) quota: u64,
    /// Bytes that may not go: of unfinished jobs, of uploads, and of what was just uploaded.
    pub(super) needed: u64,
}

impl Index {
    pub(super) fn new(quota: u64) -> Self {
        Self { quota, blobs: HashMap::new(), holds: HashMap::new(), reserved: 0 }
    }

    /// What unfinished jobs need, whether it is here or not.
    pub(super) fn needed(&self) -> Vec<Digest> {
        self.holds.keys().copied().collect()
    }

    /// Takes up a blob that an earlier life has left.
    pub(super) fn found(&mut self, digest: Digest, size: u64, used: SystemTime) {
        self.blobs.insert(digest, Known { size, used, spared: None });
    }

    /// Reserves room for an upload, and says which blobs go for it.
    pub(super) fn reserve(&mut self, size: u64, now: SystemTime) -> Result<Vec<Digest>, Full> {
        let all: u64 = self.blobs.values().map(|known| known.size).sum();
        let free = self.evictable(now).map(|(_, known)| known.size).sum();
        let needed = all.saturating_sub(free).saturating_add(self.reserved);
        if needed.saturating_add(size) > self.quota {
            return Err(Full { quota: self.quota, needed });
        }
        let mut gone = Vec::new();
        let mut used = all.saturating_add(self.reserved).saturating_add(size);
        while used > self.quota {
            let Some((digest, size)) = self.evict(now) else { break };
            used -= size;
            gone.push(digest);
        }
        self.reserved += size;
        Ok(gone)
    }

    /// An upload ended, well or not.
    pub(super) fn release(&mut self, size: u64) {
        self.reserved = self.reserved.saturating_sub(size);
    }

    /// A blob is here.
    pub(super) fn insert(&mut self, digest: Digest, size: u64, now: SystemTime) {
        let spared = (!self.holds.contains_key(&digest)).then_some(now + SPARED);
        self.blobs.insert(digest, Known { size, used: now, spared });
    }

    /// Drops the least recently used blob that nobody needs.
    pub(super) fn evict(&mut self, now: SystemTime) -> Option<(Digest, u64)> {
        let (digest, size) = self
            .evictable(now)
            .min_by_key(|(digest, known)| (known.used, **digest))
            .map(|(digest, known)| (*digest, known.size))?;
        self.blobs.remove(&digest);
        Some((digest, size))
    }

    fn evictable(&self, now: SystemTime) -> impl Iterator<Item = (&Digest, &Known)> {
        self.blobs.iter().filter(move |(digest, known)| {
            !self.holds.contains_key(digest) && known.spared.is_none_or(|until| until <= now)
        })
    }

    /// Somebody is about to submit a job with it.
    pub(super) fn spare(&mut self, digest: &Digest, now: SystemTime) {
        if let Some(known) = self.blobs.get_mut(digest) {
            known.used = now;
            known.spared = (!self.holds.contains_key(digest)).then_some(now + SPARED);
        }
    }

    /// Somebody needs it. Whether it was long not used, and is here.
    pub(super) fn hold(&mut self, digest: Digest, now: SystemTime) -> bool {
        *self.holds.entry(digest).or_default() += 1;
        let Some(known) = self.blobs.get_mut(&digest) else { return false };
        let stale = now.duration_since(known.used).is_ok_and(|age| age > Duration::from_secs(60));
        (known.used, known.spared) = (now, None);
        stale
    }

    /// Somebody does not need it any more.
    pub(super) fn let_go(&mut self, digest: &Digest, now: SystemTime) {
        if let Some(count) = self.holds.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.holds.remove(digest);
            }
        }
        if let Some(known) = self.blobs.get_mut(digest) {
            known.used = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn blob(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// Blobs of 10 bytes, the first the longest unused.
    fn index(quota: u64, names: &[&str]) -> Index {
        let mut index = Index::new(quota);
        for (second, name) in (1..).zip(names) {
            index.found(blob(name), 10, at(second));
        }
        index
    }

    #[test]
    fn the_least_recently_used_go_and_no_more_than_must() {
        let mut index = index(40, &["a", "b", "c", "d"]);
        index.hold(blob("a"), at(10));
        index.let_go(&blob("a"), at(11));
        assert_eq!(index.reserve(15, at(12)), Ok(vec![blob("b"), blob("c")]));
        index.release(15);
        assert_eq!(index.reserve(15, at(13)), Ok(vec![]));
    }

    #[test]
    fn what_somebody_needs_stays_and_is_counted_in_the_refusal() {
        let mut index = index(30, &["a", "b", "c"]);
        index.hold(blob("a"), at(10));
        index.hold(blob("a"), at(10));
        index.let_go(&blob("a"), at(11));
        index.hold(blob("b"), at(11));
        assert_eq!(index.reserve(11, at(12)), Err(Full { quota: 30, needed: 20 }));
        assert_eq!(index.blobs.len(), 3, "a refusal costs nothing");
        assert_eq!(index.reserve(10, at(12)), Ok(vec![blob("c")]));
        // Room that is promised is not promised twice.
        assert_eq!(index.reserve(1, at(12)), Err(Full { quota: 30, needed: 30 }));
    }

    #[test]
    fn what_was_just_uploaded_waits_for_its_job_a_while() {
        let mut index = Index::new(10);
        index.insert(blob("a"), 10, at(0));
        assert!(index.reserve(1, at(599)).is_err());
        assert_eq!(index.reserve(1, at(600)), Ok(vec![blob("a")]));
        index.release(1);
        index.insert(blob("b"), 10, at(600));
        // Its job came and went: it is like any other.
        index.hold(blob("b"), at(601));
        index.let_go(&blob("b"), at(602));
        assert_eq!(index.reserve(1, at(603)), Ok(vec![blob("b")]));
    }

    #[test]
    fn what_is_larger_than_all_room_is_refused() {
        assert_eq!(index(30, &["a"]).reserve(31, at(9)), Err(Full { quota: 30, needed: 0 }));
        assert!(index(u64::MAX, &["a"]).reserve(u64::MAX, at(9)).is_ok());
    }
}
