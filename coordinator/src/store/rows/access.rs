//! Rows about who may do what, and who did.

use edgeprof_common::{Digest, Role};
use serde::{Deserialize, Serialize};

use super::{decode, for_each, key};
use crate::store::{Store, StoreError};

/// A bearer token, without what opens anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Who holds it.
    pub name: String,
    /// SHA-256 of the secret, which has 256 random bits: nothing else has to slow a guess down.
    pub hash: Digest,
    /// What its holder may do.
    pub role: Role,
    /// The RPCs to which it is limited; none is no limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// In ms since 1970.
    pub issued_at: u64,
    /// Who issued it.
    pub issued_by: String,
    /// In ms since 1970.
    pub expires_at: u64,
    /// In ms since 1970, to the minute or so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<u64>,
}

/// What somebody changed, or was refused. Never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// In ms since 1970.
    pub at: u64,
    /// Who, as far as that is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// What they may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// How they have shown who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Where the call came from.
    pub from: String,
    /// Name of the RPC.
    pub rpc: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Refusals before this one that have no row.
    #[serde(default, skip_serializing_if = "edgeprof_common::is_default")]
    pub unlisted: u64,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done, in the commit that has this row.
    Done,
    /// There was nothing to do: what was asked for is so already, or cannot be any more.
    Unchanged,
    /// A worker was asked, which answers for itself.
    Asked,
    /// It was not done.
    Refused,
}

impl Outcome {
    /// Of what was granted: whether it has changed anything.
    #[must_use]
    pub const fn of_change(changed: bool) -> Self {
        if changed { Self::Done } else { Self::Unchanged }
    }

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::Asked => "asked",
            Self::Refused => "refused",
        }
    }
}

/// What a submitter has uploaded lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadsRow {
    /// When it was first after a day without, in ms since 1970.
    pub since: u64,
    /// Since then.
    pub bytes: u64,
}

/// Every token.
///
/// # Errors
/// When the store fails or a row is damaged.
pub fn tokens(store: &dyn Store) -> Result<Vec<TokenRow>, StoreError> {
    let mut all = Vec::new();
    for_each(store, "bearer/", |key, value| {
        all.push(decode(key, value)?);
        Ok(())
    })?;
    Ok(all)
}

/// What everybody has uploaded lately.
///
/// # Errors
/// When the store fails or a row is damaged.
pub fn uploads(store: &dyn Store) -> Result<Vec<(String, UploadsRow)>, StoreError> {
    let mut all = Vec::new();
    for_each(store, "uploads/", |key, value| {
        let name = String::from_utf8_lossy(key.get("uploads/".len()..).unwrap_or_default()).into_owned();
        all.push((name, decode(key, value)?));
        Ok(())
    })?;
    Ok(all)
}

/// First and last number of the audit log's rows, which have no gaps.
///
/// # Errors
/// When the store fails.
pub fn audit_range(store: &dyn Store) -> Result<Option<(u64, u64)>, StoreError> {
    let first = store.scan(b"audit/", None, 1)?;
    let Some(first) = first.first().and_then(|(key, _)| key::number(key)) else { return Ok(None) };
    let there = |number: u64| Ok::<_, StoreError>(store.get(&key::audit(number))?.is_some());
    // Ahead in doubled steps, then by halves between what is there and what is not.
    let (mut last, mut step) = (first, 1u64);
    while there(last.saturating_add(step))? {
        last += step;
        step *= 2;
    }
    while step > 1 {
        step /= 2;
        if there(last + step)? {
            last += step;
        }
    }
    Ok(Some((first, last)))
}

/// Rows of the audit log with numbers from `from` on, at most so many.
///
/// # Errors
/// When the store fails or a row is damaged.
pub fn audit(store: &dyn Store, from: u64, limit: usize) -> Result<Vec<(u64, AuditRow)>, StoreError> {
    let after = from.checked_sub(1).map(key::audit);
    let rows = store.scan(b"audit/", after.as_deref(), limit)?;
    let numbered = rows.iter().filter_map(|(at, value)| {
        let number = key::number(at)?;
        Some(decode(at, value).map(|row| (number, row)))
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Memory, Transaction, rows::encode};

    impl AuditRow {
        /// A cancel of a job, for the tests of whoever reads the log.
        pub(crate) fn example(at: u64, who: &str) -> Self {
            Self {
                at,
                who: who.into(),
                role: Some(Role::Admin),
                via: Some("token".into()),
                from: "127.0.0.1:1".into(),
                rpc: "CancelJob".into(),
                target: "j1".into(),
                detail: String::new(),
                outcome: Outcome::Done,
                unlisted: 0,
            }
        }
    }

    #[test]
    fn the_ends_of_the_log_are_found_wherever_they_are() {
        let store = Memory::default();
        assert_eq!(audit_range(&store).unwrap(), None);
        for (first, last) in [(1, 1), (1, 2), (1, 3), (7, 1000), (1 << 40, (1 << 40) + 6)] {
            let store = Memory::default();
            let mut transaction = Transaction::default();
            for number in first..=last {
                transaction.put(key::audit(number), encode(&AuditRow::example(number, "ann")));
            }
            store.commit(&[transaction]).unwrap();
            assert_eq!(audit_range(&store).unwrap(), Some((first, last)));
            let rows = audit(&store, last, 10).unwrap();
            assert_eq!(rows, [(last, AuditRow::example(last, "ann"))]);
        }
    }
}
