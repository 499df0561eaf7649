//! The log of who did what, a page at a time.

use edgeprof_proto::v1;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::Status;

use crate::{
    clock,
    store::{
        Store, StoreError,
        rows::{self, AuditRow},
    },
};

/// Entries of the log in one answer.
const PAGE: usize = 1000;

/// Rows of the log that are looked at for one answer: whoever asks for somebody rare asks again.
const LOOKED_AT: u64 = 20_000;

/// Which entries are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    who: String,
    /// In ms since 1970.
    since: u64,
    limit: usize,
    before: u64,
}

impl Asked {
    /// What a client asks for.
    ///
    /// # Errors
    /// When its time is none.
    pub fn of(request: v1::ListAuditRequest) -> Result<Self, Status> {
        let v1::ListAuditRequest { who, since, limit, before } = request;
        let since = match since.as_str() {
            "" => 0,
            text => ms(text).ok_or_else(|| {
                Status::invalid_argument(format!("{text:?} is no time; expected one as 2026-01-31T12:00:00Z"))
            })?,
        };
        let limit = if limit == 0 { 100 } else { (limit as usize).min(PAGE) };
        Ok(Self { who, since, limit, before })
    }
}

fn ms(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default())
}

/// Entries of the log from the newest below `before` back.
///
/// # Errors
/// When the store fails or a row is damaged.
pub fn page(store: &dyn Store, asked: &Asked) -> Result<v1::ListAuditResponse, StoreError> {
    let Asked { who, since, limit, before } = asked;
    let (since, limit, before) = (*since, *limit, *before);
    let Some((first, last)) = rows::audit_range(store)? else { return Ok(v1::ListAuditResponse::default()) };
    let mut end = if before == 0 { last.saturating_add(1) } else { before.min(last.saturating_add(1)) };
    let stop = end.saturating_sub(LOOKED_AT).max(first);
    let mut entries = Vec::new();
    while end > stop {
        let begin = end.saturating_sub(PAGE as u64).max(stop);
        let part = rows::audit(store, begin, usize::try_from(end - begin).unwrap_or(PAGE))?;
        for (number, row) in part.into_iter().rev() {
            if row.at < since {
                return Ok(v1::ListAuditResponse { entries, next: None });
            }
            if who.is_empty() || row.who == *who {
                entries.push(listed(number, row));
            }
            if entries.len() == limit {
                return Ok(v1::ListAuditResponse { entries, next: (number > first).then_some(number) });
            }
        }
        end = begin;
    }
    Ok(v1::ListAuditResponse { entries, next: (end > first).then_some(end) })
}

fn listed(number: u64, row: AuditRow) -> v1::AuditEntry {
    v1::AuditEntry {
        number,
        at: clock::text(row.at),
        who: row.who,
        role: row.role.map(|role| role.to_string()),
        via: row.via,
        from: row.from,
        rpc: row.rpc,
        target: row.target,
        detail: row.detail,
        outcome: row.outcome.as_str().into(),
        unlisted: row.unlisted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Memory, Transaction,
        rows::{encode, key},
    };

    fn log(count: u64) -> Memory {
        let (store, mut transaction) = (Memory::default(), Transaction::default());
        for number in 1..=count {
            let who = if number % 10 == 0 { "ann" } else { "bob" };
            transaction.put(key::audit(number), encode(&AuditRow::example(number * 10, who)));
        }
        store.commit(&[transaction]).unwrap();
        store
    }

    fn asked(who: &str, since: u64, limit: usize, before: u64) -> Asked {
        Asked { who: who.into(), since, limit, before }
    }

    fn numbers(page: &v1::ListAuditResponse) -> Vec<u64> {
        page.entries.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn pages_follow_each_other_back_to_the_first() {
        let store = log(2500);
        let (mut before, mut seen) = (0, Vec::new());
        loop {
            let page = page(&store, &asked("", 0, 400, before)).unwrap();
            seen.extend(numbers(&page));
            match page.next {
                Some(next) => before = next,
                None => break,
            }
        }
        assert_eq!(seen, (1..=2500).rev().collect::<Vec<_>>());
    }

    #[test]
    fn one_caller_and_one_time_narrow_it() {
        let store = log(2500);
        let of_ann = page(&store, &asked("ann", 0, 3, 0)).unwrap();
        assert_eq!((numbers(&of_ann), of_ann.next), (vec![2500, 2490, 2480], Some(2480)));
        let late = page(&store, &asked("", 24_980, 100, 0)).unwrap();
        assert_eq!((numbers(&late), late.next), (vec![2500, 2499, 2498], None));
        assert_eq!(page(&Memory::default(), &asked("", 0, 1, 0)).unwrap(), v1::ListAuditResponse::default());
    }
}
