//! What is done now and then: tokens' last uses are stored, and what is too old or too much leaves the audit log.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{Access, audit::Keep};
use crate::{
    clock,
    core::{Change, Command},
    store::{Store, StoreError, rows},
};

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// Entries that leave the log in one commit.
const PART: usize = 1000;

/// Does so until its loop is gone.
pub async fn keep(access: Arc<Access>, store: Arc<dyn Store>, keep: Keep, commands: mpsc::Sender<Command>) {
    let mut next = tokio::time::interval(EVERY);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        next.tick().await;
        for row in access.tokens().stale() {
            if commands.send(Command::Access(Change::Used(row))).await.is_err() {
                return;
            }
        }
        loop {
            let store = store.clone();
            let old = tokio::task::spawn_blocking(move || old(&*store, keep, clock::now_ms())).await;
            // A store that fails ends the loop, which writes to it.
            let Ok(Ok(Some((first, last)))) = old else { break };
            let (reply, gone) = tokio::sync::oneshot::channel();
            let change = Change::Prune { first, last, reply };
            if commands.send(Command::Access(change)).await.is_err() || gone.await.is_err() {
                return;
            }
        }
    }
}

/// The first entries of the log that are not kept: first and last of at most so many. The very last stays, for its
/// number.
fn old(store: &dyn Store, keep: Keep, now: u64) -> Result<Option<(u64, u64)>, StoreError> {
    let Some((first, last)) = rows::audit_range(store)? else { return Ok(None) };
    let beyond = (last - first + 1).saturating_sub(keep.max_entries);
    let oldest = now.saturating_sub(u64::try_from(keep.keep.as_millis()).unwrap_or(u64::MAX));
    let rows = rows::audit(store, first, PART)?;
    let leaves = |(number, row): &&(u64, rows::AuditRow)| {
        *number < last && (*number < first + beyond || row.at < oldest)
    };
    Ok(rows.iter().take_while(leaves).last().map(|(number, _)| (first, *number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Memory, Transaction,
        rows::{AuditRow, encode, key},
    };

    fn store(ats: impl IntoIterator<Item = u64>) -> Memory {
        let store = Memory::default();
        let mut transaction = Transaction::default();
        for (number, at) in (5..).zip(ats) {
            transaction.put(key::audit(number), encode(&AuditRow::example(at, "ann")));
        }
        store.commit(&[transaction]).unwrap();
        store
    }

    #[test]
    fn the_oldest_leave_by_age_and_by_number() {
        let keep = |ms, max_entries| Keep { keep: Duration::from_millis(ms), max_entries };
        let old = |store: &Memory, keep| old(store, keep, 1000).unwrap();
        let log = store([100, 200, 300, 900]);
        assert_eq!(old(&log, keep(1000, 4)), None);
        assert_eq!(old(&log, keep(750, 4)), Some((5, 6)), "two are older than 250");
        assert_eq!(old(&log, keep(1000, 1)), Some((5, 7)), "three are too many");
        assert_eq!(old(&log, keep(1, 0)), Some((5, 7)), "the last keeps the count");
        assert_eq!(old(&Memory::default(), keep(0, 0)), None);
        let long = store(0..3000);
        assert_eq!(old(&long, keep(1, 0)), Some((5, 4 + PART as u64)), "a part at a time");
    }
}
